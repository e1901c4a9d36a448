r"""The least time that a workload can take on a machine, whoever computes it.

Claim: no program that multiplies in the direct way and computes the exact meta-gradient takes less
than the larger of two times: that of its multiplications and additions at the speed of the
machine's fastest large matrix product, and that of the bytes which must cross its memory.

What is counted, in multiply-adds. One example's forward pass takes $F = \sum_l F_l$ over the
convolutions and dense layers, products with the zeros of padding left out; $F_1$ of them are in
layers that see the input itself, which is not differentiated.

- forward and backward pass, the latter for weights and activations: $3F - F_1$;
- the inner gradient's derivative, along or against a direction, with everything that the first pass
  computed still at hand: each product of the forward and of the backward pass has two factors, and
  each factor that varies brings one product more: $6F - 4F_1$.

So $T\,[K S (9F - 5F_1) + Q (3F - F_1)]$ for T tasks, K inner steps, S support and Q query examples.

Not counted: what is computed twice to save memory (`differentiate="mixed"` computes each inner
gradient twice), batch norm, activations, pooling, losses, updates, and sampling. Algorithms with
fewer multiplications than the direct one can be faster than this: on a CPU this project's 3×3
convolutions of stride 1 are by Winograd's.

The bytes are those of the episodes and of the weights, read once, and of the gradient, written
once; of training per update those of the images, one for each number, and of the weights and Adam's
two moments, read and written. All else could stay in cache.
"""

from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.workloads import MLP, Conv4, Network, Own, Workload, flatten, make_inputs


class Products(NamedTuple):
    """Multiply-adds of one example's forward pass."""

    all: int
    first: int
    """Those in layers that see the input itself."""


def floor(workload: Workload, peaks: dict[str, Any]) -> dict[str, Any]:
    """The workload's operations, bytes and least seconds (of training, per update).

    Args:
      workload: what is computed.
      peaks: what `peaks.measure` found: `flops` per second and `bytes_per_s`.
    """
    operations, moved = 2 * multiply_adds(workload), bytes_moved(workload)
    compute, memory = operations / peaks["flops"], moved / peaks["bytes_per_s"]
    return {
        "operations": operations,
        "bytes": moved,
        "compute_s": compute,
        "memory_s": memory,
        "floor_s": max(compute, memory),
    }


def multiply_adds(workload: Workload) -> int:
    """Of one meta-gradient."""
    if isinstance(workload.network, Own):
        return workload.network.multiply_adds
    products = forward(workload.network)
    ways = 1 if isinstance(workload.network, MLP) else workload.network.ways
    support, query = workload.shots * ways, workload.queries * ways
    gradient = 3 * products.all - products.first
    second_order = 6 * products.all - 4 * products.first
    steps = workload.inner_steps * support * (gradient + second_order)
    return workload.tasks * (steps + query * gradient)


def bytes_moved(workload: Workload) -> int:
    """What must be read or written at least once, in bytes."""
    weights, *episodes = make_inputs(workload, seed=0)
    parameters = flatten(weights).nbytes
    if not workload.updates:
        return sum(array.nbytes for array in episodes) + 2 * parameters
    support_x, _, query_x, _ = episodes
    images = 0 if isinstance(workload.network, MLP) else support_x.size + query_x.size
    return images + 6 * parameters


def forward(network: Network) -> Products:
    """Of the network's convolutions and dense layers."""
    if isinstance(network, Own):
        raise TypeError("of a network of one's own, its author counts")
    if isinstance(network, MLP):
        layers = [n * m for n, m in pairwise((1, *network.hidden, 1))]
        return Products(sum(layers), layers[0])
    if isinstance(network, Conv4):
        return _conv4(network)
    total, first, size = 0, 0, network.image_size
    for before, width in pairwise((network.channels, *network.filters)):
        nine = _taps(size, 3, 1) ** 2
        reading = (nine + size**2) * before * width  # the first convolution and the shortcut
        first = first or reading
        total += reading + 2 * nine * width**2
        size //= 2
    return Products(total + network.filters[-1] * network.ways, first)


def _conv4(network: Conv4) -> Products:
    stride = 2 if network.downsample == "stride" else 1
    channels, size, layers = network.channels, network.image_size, []
    for _ in range(4):
        layers.append(_taps(size, 3, stride) ** 2 * channels * network.filters)
        channels, size = network.filters, (size + 1) // 2 if stride == 2 else size // 2
    features = channels if stride == 2 else channels * size**2
    return Products(sum(layers) + features * network.ways, layers[0])


def _taps(size: int, kernel: int, stride: int) -> int:
    """Along one axis, the pairs of an output and an input that a padded kernel joins."""
    padding = kernel // 2
    return sum(
        min(start + kernel, size) - max(start, 0)
        for start in range(-padding, size + padding - kernel + 1, stride)
    )
