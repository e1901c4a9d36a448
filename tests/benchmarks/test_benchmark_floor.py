"""The floors: what is counted, against programs that count themselves."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import floor, peaks
from benchmarks.peers import maml_jax as ours
from benchmarks.workloads import MLP, WORKLOADS, Conv4, ResNet12, Workload, make_inputs
from maml_jax.models.layers import conv_reference


def multiply_adds_in(jaxpr):
    """Those of the matrix products of a program, loops unrolled."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = int(np.prod([left[axis] for axis in contracted]))
            total += inner * int(np.prod(equation.outvars[0].aval.shape))
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += multiply_adds_in(inner)
    return total


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_perceptrons_products_are_those_of_reverse_over_reverse(steps):
    """Written without loops, and with what nobody reads left out, it multiplies as often."""
    workload = Workload("x", MLP(hidden=(5, 4)), 1, 3, 7, steps, 0.1)
    weights, *episodes = make_inputs(workload, 0)
    layers = [weights["layers"]["0"], weights["layers"]["1"], weights["head"]]
    support_x, support_y, query_x, query_y = (array[0] for array in episodes)

    def loss(layers, x, y):
        *hidden, head = layers
        for layer in hidden:
            x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
        return jnp.square(x @ head["kernel"] + head["bias"] - y).mean()

    def task_loss(layers):
        for _ in range(steps):
            gradient = jax.grad(loss)(layers, support_x, support_y)
            layers = jax.tree.map(lambda w, g: w - 0.1 * g, layers, gradient)
        return loss(layers, query_x, query_y)

    program = jax.make_jaxpr(jax.grad(task_loss))(layers)
    assert floor.multiply_adds(workload) == multiply_adds_in(program.jaxpr)


@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_products_with_padding_are_left_out(size, kernel, stride):
    """XLA's own count of a convolution's operations leaves them out too."""
    x, weights = jnp.ones((1, size, size, 2)), jnp.ones((kernel, kernel, 2, 3))
    program = jax.jit(lambda x, w: conv_reference(x, w, stride=stride, padding=kernel // 2))
    counted = program.lower(x, weights).cost_analysis()["flops"]
    assert 2 * floor._taps(size, kernel, stride) ** 2 * 2 * 3 == counted


@pytest.mark.parametrize(
    "network",
    [
        Conv4(ways=3, filters=8, image_size=28, channels=2),
        Conv4(ways=3, filters=8, image_size=28, downsample="stride"),
        ResNet12(3, (4, 6, 8, 5), 18, 2),
    ],
    ids=["maxpool", "stride", "resnet12"],
)
def test_images_forward_products(network):
    """The sum over the convolutions that the model makes, each counted by XLA."""
    counted, first = 0, 0
    model = ours.model_of(network)
    size = network.image_size

    def products(size, channels, kernel, filters, stride=1):
        x, w = jnp.ones((1, size, size, channels)), jnp.ones((kernel, kernel, channels, filters))
        function = jax.jit(lambda x, w: conv_reference(x, w, stride=stride, padding=kernel // 2))
        return function.lower(x, w).cost_analysis()["flops"] / 2

    for number, block in enumerate(model.blocks):
        convs = [block.conv] if isinstance(network, Conv4) else [*block.convs, block.shortcut]
        for position, conv in enumerate(convs):
            kernel, _, channels, filters = conv.kernel.shape
            amount = products(size, channels, kernel, filters, conv.stride)
            counted += amount
            sees_input = position == 0 or (isinstance(network, ResNet12) and position == 3)
            first += amount if number == 0 and sees_input else 0
        strided = getattr(network, "downsample", None) == "stride"
        size = (size + 1) // 2 if strided else size // 2
    counted += model.head.kernel.size
    assert floor.forward(network) == (counted, first)


def test_the_sum_over_tasks_and_examples():
    one = Workload("x", Conv4(ways=3, filters=8), 1, 2, 4, 1, 0.1)
    products = floor.forward(one.network)
    query = 12 * (3 * products.all - products.first)
    support = 6 * (9 * products.all - 5 * products.first)
    assert floor.multiply_adds(one) == query + support
    assert floor.multiply_adds(replace(one, tasks=7, inner_steps=5)) == 7 * (query + 5 * support)


def test_bytes():
    workload = Workload("x", MLP(hidden=(3,)), 2, 4, 6, 1, 0.1)
    parameters, numbers = 3 + 3 + 3 + 1, 2 * (4 + 6) * 2
    assert floor.bytes_moved(workload) == 4 * numbers + 2 * 4 * parameters
    assert floor.bytes_moved(replace(workload, updates=3)) == 6 * 4 * parameters
    images = Workload("x", Conv4(ways=2, filters=2, image_size=16), 3, 1, 2, 1, 0.1, updates=1)
    weights = make_inputs(images, 0).weights
    numbers = sum(leaf.size for leaf in jax.tree.leaves(weights))
    assert floor.bytes_moved(images) == 3 * 2 * 3 * 16 * 16 + 6 * 4 * numbers


def test_the_larger_of_two_times():
    workload = WORKLOADS[0]
    speeds = {"flops": 1e9, "bytes_per_s": 1e15}
    found = floor.floor(workload, speeds)
    assert found["operations"] == 2 * floor.multiply_adds(workload)
    assert found["floor_s"] == found["compute_s"] == found["operations"] / 1e9
    found = floor.floor(workload, {"flops": 1e18, "bytes_per_s": 1e3})
    assert found["floor_s"] == found["memory_s"] == found["bytes"] / 1e3


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_a_peak_is_of_this_order(framework):
    pytest.importorskip(framework)
    by = peaks.by_jax if framework == "jax" else peaks.by_torch
    found = by(256, 2**16, 0.0, *(["cpu"] if framework == "torch" else []))
    assert 1e8 < found["flops"] < 1e14
    assert 1e7 < found["bytes_per_s"] < 1e13


def test_the_better_framework_counts(monkeypatch):
    answers = {
        "jax": '{"flops": 3.0, "bytes_per_s": 1.0}',
        "torch": '{"flops": 2.0, "bytes_per_s": 4.0}',
    }

    def run(command, **_):
        name = command[3]
        return subprocess.CompletedProcess(command, 0, answers[name], "")

    monkeypatch.setattr(subprocess, "run", run)
    found = peaks.measure("cpu")
    assert (found["flops"], found["bytes_per_s"]) == (3.0, 4.0)
    assert found["by"]["torch"] == json.loads(answers["torch"])


def test_no_framework_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="no framework could measure the gpu"):
        peaks.measure("gpu")
