"""MAML as one would write it first in JAX: `vmap` over tasks of reverse over reverse mode.

Claim: the obvious program is correct and, with convolutions on a CPU, many times slower: `vmap`
turns per-task kernels into grouped convolutions whose gradients XLA runs slowly (jax#13800).
Repeat: `python -m benchmarks --only conv4-maxpool-8tasks --peers obvious_jax`.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks.peers import Program
from benchmarks.peers.jax_program import jax_program
from benchmarks.workloads import MLP, Conv4, Inputs, Workload


def prepare(workload: Workload, inputs: Inputs, device: str) -> Program:
    """The program of plain JAX; the runner has chosen the device through `JAX_PLATFORMS`."""
    del device
    network = workload.network

    def loss(weights, x, y):
        if isinstance(network, MLP):
            return jnp.square(_mlp(weights, x) - y).mean()
        if isinstance(network, Conv4):
            logits = _conv4(weights, x, network.downsample)
        else:
            logits = _resnet12(weights, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def task_loss(weights, support_x, support_y, query_x, query_y):
        fast = weights
        for _ in range(workload.inner_steps):
            gradient = jax.grad(loss)(fast, support_x, support_y)
            fast = jax.tree.map(lambda w, g: w - workload.inner_lr * g, fast, gradient)
        return loss(fast, query_x, query_y)

    def mean_loss(weights, *episodes):
        return jax.vmap(task_loss, (None, 0, 0, 0, 0))(weights, *episodes).mean()

    return jax_program(jax.jit(jax.value_and_grad(mean_loss)), *inputs)


def _conv4(weights, x, downsample):
    stride = 2 if downsample == "stride" else 1
    for _, block in sorted(weights["blocks"].items()):
        x = jax.nn.relu(_normalised(block["conv"], block["norm"], x, stride))
        if downsample == "maxpool":
            x = _max_pool(x)
    x = x.mean((1, 2)) if downsample == "stride" else x.reshape(x.shape[0], -1)
    return x @ weights["head"]["kernel"] + weights["head"]["bias"]


def _resnet12(weights, x):
    for _, block in sorted(weights["blocks"].items()):
        shortcut = _normalised(block["shortcut"], block["shortcut_norm"], x)
        for i, conv in sorted(block["convs"].items()):
            x = _normalised(conv, block["norms"][i], x)
            x = jax.nn.leaky_relu(x + shortcut if i == "2" else x, 0.1)
        x = _max_pool(x)
    return x.mean((1, 2)) @ weights["head"]["kernel"] + weights["head"]["bias"]


def _normalised(conv, norm, x, stride=1):
    padding = conv["kernel"].shape[0] // 2
    x = lax.conv_general_dilated(
        x,
        conv["kernel"],
        (stride, stride),
        ((padding, padding), (padding, padding)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = x + conv["bias"]
    x = (x - x.mean((0, 1, 2))) * lax.rsqrt(x.var((0, 1, 2)) + 1e-5)
    return x * norm["scale"] + norm["bias"]


def _max_pool(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _mlp(weights, x):
    for _, layer in sorted(weights["layers"].items()):
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ weights["head"]["kernel"] + weights["head"]["bias"]
