"""What is timed, and its inputs: numpy arrays that are a function of the workload and a seed.

Claim: every peer gets the same episodes and the same initial weights, bit for bit, and no framework
has a hand in making them. To repeat it: `make_inputs(WORKLOADS[0], seed=0)`.

The inner rate does not matter to the time. It is small (Finn et al. take 0.4 for Omniglot) because
several large steps from random weights amplify float32's rounding until no two programs agree.

A new workload of a known network is one more entry of `WORKLOADS`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tree: TypeAlias = dict[str, Any]
"""Weights or their gradient: nested dicts of arrays, named and laid out as in `maml_jax.models`."""


@dataclass(frozen=True)
class Conv4:
    """Four blocks of 3×3 convolution, batch norm, ReLU and halving; then a linear head."""

    ways: int = 5
    filters: int = 64
    downsample: Literal["stride", "maxpool"] = "maxpool"
    image_size: int = 28
    channels: int = 1
    kind: Literal["conv4"] = "conv4"


@dataclass(frozen=True)
class MLP:
    """Dense layers with ReLU between them, for regression from one number to one number."""

    hidden: tuple[int, ...] = (40, 40)
    kind: Literal["mlp"] = "mlp"


@dataclass(frozen=True)
class ResNet12:
    """Four residual blocks of three 3×3 convolutions each; a linear head on the mean position."""

    ways: int = 5
    filters: tuple[int, ...] = (64, 160, 320, 640)
    image_size: int = 84
    channels: int = 3
    kind: Literal["resnet12"] = "resnet12"


@dataclass(frozen=True)
class Own:
    """What `--workload` names: a user's network and learner, and the episodes that go with them."""

    source: str
    """`module:NAME` of an `own.OwnWorkload`."""
    multiply_adds: int = 0
    """Of one meta-gradient, for the floor; 0: not counted."""
    kind: Literal["own"] = "own"


Network: TypeAlias = Conv4 | MLP | ResNet12 | Own
NETWORKS: dict[str, Callable[..., Network]] = {
    "conv4": Conv4,
    "mlp": MLP,
    "resnet12": ResNet12,
    "own": Own,
}


@dataclass(frozen=True)
class Workload:
    """One meta-gradient of MAML: plain gradient descent inside, the mean over tasks outside.

    `shots` and `queries` are examples per class of images, whose loss is the mean softmax
    cross-entropy, and per task of the sinusoid, whose loss is the mean squared error.
    """

    name: str
    network: Network
    tasks: int
    shots: int
    queries: int
    inner_steps: int
    inner_lr: float
    updates: int = 0
    """0: one meta-gradient of given episodes. Else whole training: so many updates by Adam in one
    call, each with tasks drawn anew; times are per update."""
    gpu_only: bool = False
    """Takes minutes a step on a CPU, and runs there only when named."""


class Inputs(NamedTuple):
    """Initial weights, and episodes whose leading axes are tasks and examples.

    Images are `[tasks, examples, height, width, channels]` with integer labels; the sinusoid's
    inputs and targets are `[tasks, examples, 1]`.
    """

    weights: Tree
    support_x: Array
    support_y: Array
    query_x: Array
    query_y: Array


STRIDED = Conv4(downsample="stride")
MINI_IMAGENET = Conv4(filters=32, image_size=84, channels=3)
WORKLOADS = (
    Workload("conv4-maxpool-8tasks-1step-75queries", Conv4(), 8, 1, 15, 1, 0.01),
    Workload("conv4-maxpool-32tasks-1step-5queries", Conv4(), 32, 1, 1, 1, 0.01),
    Workload("conv4-maxpool-32tasks-5steps-5queries", Conv4(), 32, 1, 1, 5, 0.01),
    Workload("conv4-stride-32tasks-1step-5queries", STRIDED, 32, 1, 1, 1, 0.01),
    Workload("sinusoid-25tasks-1step-10queries", MLP(), 25, 10, 10, 1, 0.01),
    Workload("sinusoid-25tasks-5steps-10queries", MLP(), 25, 10, 10, 5, 0.01),
    Workload("mini-imagenet-4tasks-5steps-75queries", MINI_IMAGENET, 4, 1, 15, 5, 0.01),
    Workload(
        "conv4-stride-20way-5shot-16tasks-5steps", replace(STRIDED, ways=20), 16, 5, 5, 5, 0.01
    ),
    Workload("training-conv4-stride-32tasks-1step", STRIDED, 32, 1, 1, 1, 0.01, updates=5),
    Workload("training-sinusoid-25tasks-1step", MLP(), 25, 10, 10, 1, 0.01, updates=100),
    Workload("resnet12-4tasks-5steps-75queries", ResNet12(), 4, 1, 15, 5, 0.01, gpu_only=True),
)
"""What the MAML paper trains, as its authors set it, and conv4 in the form of its successors."""
QUICK = (
    "sinusoid-25tasks-1step-10queries",
    "conv4-stride-32tasks-1step-5queries",
    "training-sinusoid-25tasks-1step",
)
"""The workloads of `--quick`, in this order: a slow machine may have no time for the last."""


def to_json(workload: Workload) -> dict[str, Any]:
    """The definition as JSON holds it; `from_json` is the inverse."""
    return asdict(workload)


def from_json(fields: Mapping[str, Any]) -> Workload:
    """The workload that `to_json` wrote."""
    network: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in fields["network"].items()
    }
    return Workload(**{**fields, "network": NETWORKS[network["kind"]](**network)})


def of_images(network: Network) -> Conv4 | ResNet12:
    """The built-in network of images.

    Raises:
      TypeError: it is another, of which no images are made here.
    """
    if isinstance(network, Conv4 | ResNet12):
        return network
    raise TypeError(f"a network of images was wanted; this is of kind {network.kind}")


def make_inputs(workload: Workload, seed: int, dtype: str = "float32") -> Inputs:
    """The workload's episodes and initial weights in `dtype`, labels in int32.

    They are drawn in float32, so that those in float64 are the same numbers.
    """
    rng, network = np.random.default_rng(seed), workload.network
    if isinstance(network, Own):
        weights, *episodes = find(network.source).inputs(seed)
        inputs = Inputs(weights, *(array[: workload.tasks] for array in episodes))
    elif isinstance(network, MLP):
        inputs = Inputs(_mlp_weights(network, rng), *_sinusoids(workload, rng))
    elif isinstance(network, Conv4):
        inputs = Inputs(_conv4_weights(network, rng), *_images(workload, network, rng))
    else:
        inputs = Inputs(_resnet12_weights(network, rng), *_images(workload, network, rng))
    return _cast(inputs, np.dtype(dtype))


class NoSuchObjectError(ValueError):
    """`module:NAME` names nothing."""


def find(source: str) -> Any:
    """The object that `module:NAME` names.

    Raises:
      NoSuchObjectError: it is not of that form, or there is no such object.
      ModuleNotFoundError: there is no such module, or it needs another.
    """
    module, colon, name = source.partition(":")
    if not (module and colon and name):
        raise NoSuchObjectError(f"was {source!r}; it must be module:NAME")
    found = importlib.import_module(module)
    if not hasattr(found, name):
        raise NoSuchObjectError(f"was {source!r}; the module has no {name}")
    return getattr(found, name)


def make_images(network: Conv4 | ResNet12, seed: int, classes: int = 1100) -> Array:
    """A training set, `[classes, 20, height, width, channels]` in uint8: Omniglot's numbers."""
    shape = (classes, 20, network.image_size, network.image_size, network.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def flatten(tree: Tree) -> Array:
    """All numbers of a tree in one vector, by sorted names."""
    parts = [
        flatten(value) if isinstance(value, dict) else np.asarray(value).ravel()
        for _, value in sorted(tree.items())
    ]
    return np.concatenate(parts)


def _cast(tree: Any, dtype: np.dtype) -> Any:
    if isinstance(tree, dict):
        return {key: _cast(value, dtype) for key, value in tree.items()}
    if isinstance(tree, Inputs):
        return Inputs(*(_cast(value, dtype) for value in tree))
    return tree.astype(dtype) if tree.dtype.kind == "f" else tree


def _conv4_weights(network: Conv4, rng: np.random.Generator) -> Tree:
    channels, filters = network.channels, network.filters
    positions = (network.image_size // 16) ** 2 if network.downsample == "maxpool" else 1
    blocks = {
        str(block): {
            "conv": _dense((3, 3, channels if block == 0 else filters, filters), rng),
            "norm": {"scale": np.ones(filters, np.float32), "bias": np.zeros(filters, np.float32)},
        }
        for block in range(4)
    }
    head = _dense((positions * filters, network.ways), rng, deviation=0.01)
    return {"blocks": blocks, "head": head}


def _resnet12_weights(network: ResNet12, rng: np.random.Generator) -> Tree:
    def norm(width: int) -> Tree:
        return {"scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}

    blocks = {}
    for block, (before, width) in enumerate(pairwise((network.channels, *network.filters))):
        inputs = (before, width, width)
        blocks[str(block)] = {
            "convs": {str(i): _dense((3, 3, n, width), rng) for i, n in enumerate(inputs)},
            "norms": {str(i): norm(width) for i in range(3)},
            "shortcut": _dense((1, 1, before, width), rng),
            "shortcut_norm": norm(width),
        }
    return {"blocks": blocks, "head": _dense((network.filters[-1], network.ways), rng)}


def _mlp_weights(network: MLP, rng: np.random.Generator) -> Tree:
    widths = (1, *network.hidden)
    layers = {str(i): _dense(shape, rng) for i, shape in enumerate(pairwise(widths))}
    return {"layers": layers, "head": _dense((widths[-1], 1), rng)}


def _dense(
    shape: tuple[int, ...], rng: np.random.Generator, deviation: float | None = None
) -> Tree:
    """A kernel, convolutional or dense, uniform and of Glorot's `deviation`; a bias of zeros."""
    fans = np.prod(shape[:-2], dtype=int) * (shape[-2] + shape[-1])
    bound = np.sqrt(3) * (np.sqrt(2 / fans) if deviation is None else deviation)
    kernel = rng.uniform(-bound, bound, shape).astype(np.float32)
    return {"kernel": kernel, "bias": np.zeros(shape[-1], np.float32)}


def _images(
    workload: Workload, network: Conv4 | ResNet12, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Each class is a random picture, each example that picture under noise."""
    side, ways, tasks = network.image_size, network.ways, workload.tasks
    pictures = rng.normal(size=(tasks, ways, 1, side, side, network.channels))

    def examples(per_class: int) -> tuple[Array, Array]:
        noise = rng.normal(size=(tasks, ways, per_class, side, side, network.channels))
        x = (pictures + noise).reshape(tasks, ways * per_class, side, side, network.channels)
        y = np.tile(np.repeat(np.arange(ways, dtype=np.int32), per_class), (tasks, 1))
        return x.astype(np.float32), y

    return *examples(workload.shots), *examples(workload.queries)


def _sinusoids(workload: Workload, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Amplitude in [0.1, 5], phase in [0, π] and x in [-5, 5], as in Finn et al. 2017, §5.1."""
    amplitude = rng.uniform(0.1, 5.0, (workload.tasks, 1, 1))
    phase = rng.uniform(0.0, np.pi, (workload.tasks, 1, 1))

    def examples(count: int) -> tuple[Array, Array]:
        x = rng.uniform(-5.0, 5.0, (workload.tasks, count, 1))
        return x.astype(np.float32), (amplitude * np.sin(x - phase)).astype(np.float32)

    return *examples(workload.shots), *examples(workload.queries)
