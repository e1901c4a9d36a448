"""The article's MNIST program in PyTorch and in JAX, from the same weights and in the same order.

Claim: both sides have the same weights, to rounding, after 1 to 1000 steps; and the second softmax,
which the article's loss applies to a softmax, is what keeps its accuracy down.
Repeat: `python -m parity.article --data-dir FOLDER --epochs 20`.

The article calls its program MAML. It is ordinary SGD: the "inner loop" is one pass over the
training images with a step for every batch, the "outer loop" repeats it for the one "task" there
is, and nothing is differentiated through a step.
"""

import argparse
import datetime
import functools
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from flax import nnx
from torch import nn

import maml_jax as mj
from benchmarks import machine
from maml_jax.data.mnist import read_digits
from maml_jax.errors import InputError, check_seed
from maml_jax.types import Apply, Params
from parity.compare import BOUND, relative_error
from parity.weights import Flattened, flatten, to_flax

LEARNING_RATE = 0.001
BATCH = 32
CLASSES = 10
REPORTED_ACCURACY = 0.83
"""The article's, on the test images after 20 epochs."""

STEPS = (1, 10, 100, 1000)
FLATTENED: Flattened = {"hidden": (5, 5, 64)}

_DESCRIPTION = """\
Run the article's MNIST program in PyTorch and in JAX from the same initial weights and in the same
batch order, and compare the weights of both in float64. With --epochs, train the JAX side as well,
in float32, with the article's two softmaxes and with one.
"""
_EXIT_STATUS = """\
exit status: 0 if every error is within the bound, 1 if one is not, 2 if the arguments are wrong

examples:
  python -m parity.article --data-dir FOLDER                    compare after 1 to 1000 steps
  python -m parity.article --data-dir FOLDER --steps 1 10       the same in half a minute
  python -m parity.article --data-dir FOLDER --epochs 20        and train as long as the article
"""


class Digits(NamedTuple):
    """Images `[images, 28, 28]`, float32 from 0 to 1, and their labels `[images]`, int32."""

    x: np.ndarray
    y: np.ndarray


class Mnist(NamedTuple):
    """The two sets, 60,000 and 10,000 images in the original."""

    train: Digits
    test: Digits


@dataclass(frozen=True)
class Agreement:
    """How far the JAX side is from the PyTorch side, as relative errors of float64 arrays."""

    steps: int
    weights: float
    """Of the weights; `parity.compare` defines the error."""
    movement: float
    """Of the weights less the initial ones, by the same definition. The rate is so small that the
    weights alone would agree to some digits if one side had stood still."""
    largest_at: str
    """The array whose movement differs most."""

    @property
    def passed(self) -> bool:
        """Whether both are within `BOUND`; NaN is not."""
        return self.weights <= BOUND and self.movement <= BOUND


def read_mnist(data_dir: Path) -> Mnist:
    """The digits from the four idx files in `data_dir/mnist`, compressed with gzip or not.

    Pixels are divided by 255, which is all that the article's `ToTensor` does to them.

    Raises:
      InputError: a file is missing, damaged, or not MNIST.
    """

    def digits(part):
        images, labels = read_digits(data_dir, part)
        return Digits(images.astype(np.float32) / np.float32(255), labels.astype(np.int32))

    return Mnist(digits("train"), digits("t10k"))


def batch_order(images: int, epochs: int, seed: int) -> np.ndarray:
    """Which images are in which batch: `[epochs · images / 32, 32]`, one permutation per epoch.

    Raises:
      InputError: 32 does not divide `images`; MNIST's 60,000 make 1875 batches.
    """
    if images < BATCH or images % BATCH:
        raise InputError(f"`images` was {images}; it must be a multiple of {BATCH}.")
    orders = [np.random.default_rng([seed, epoch]).permutation(images) for epoch in range(epochs)]
    return np.concatenate(orders).reshape(-1, BATCH)


class Network(nn.Module):
    """The article's network with the softmax at its end, in PyTorch's default initialisation.

    Call with `[examples, 1, 28, 28]`, get `[examples, 10]`: probabilities, or with
    `double_softmax=False` logits.
    """

    def __init__(self, double_softmax: bool = True):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)])
        self.hidden = nn.Linear(64 * 5 * 5, 128)
        self.head = nn.Linear(128, CLASSES)
        self.double_softmax = double_softmax

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convs:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        x = self.head(F.relu(self.hidden(x.flatten(1))))
        return F.softmax(x, dim=1) if self.double_softmax else x


def initial_weights(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What PyTorch gives the network after `torch.manual_seed(seed)`, drawn in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: weight.to(dtype) for name, weight in Network().state_dict().items()}


def torch_side(
    weights: dict[str, torch.Tensor],
    digits: Digits,
    order: np.ndarray,
    after: Sequence[int],
    *,
    double_softmax: bool = True,
) -> Iterator[Params]:
    """The article's program: yields the weights after each number of steps in `after`.

    Args:
      weights: the initial ones, by `Network`'s names; their dtype is that of the computation.
      digits: the training images.
      order: `[batches, 32]`, which of them each step takes.
      after: numbers of steps, rising.
      double_softmax: whether the network ends in a softmax, before the loss that has one.

    Yields:
      Nested dicts of NumPy arrays in Flax's layout.
    """
    network = Network(double_softmax).to(next(iter(weights.values())).dtype)
    network.load_state_dict(weights)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
    x = torch.from_numpy(digits.x).unsqueeze(1)
    y = torch.from_numpy(digits.y).long()
    done = 0
    for steps in after:
        for indices in order[done:steps]:
            batch = torch.from_numpy(indices)
            optimizer.zero_grad()
            outputs = network(x[batch].to(network.head.weight.dtype))
            loss_function(outputs, y[batch]).backward()
            optimizer.step()
        done = steps
        yield to_flax(network.state_dict(), FLATTENED)


def jax_side(
    weights: Params,
    digits: Digits,
    order: np.ndarray,
    after: Sequence[int],
    *,
    double_softmax: bool = True,
) -> Iterator[Params]:
    """The same with `mj.models.ArticleCNN`; between two of `after` all steps are one `scan`.

    Arguments and what it yields are those of `torch_side`, but for the layout of `weights`, which
    is Flax's here.
    """
    double = jax.tree.leaves(weights)[0].dtype == np.float64
    images, labels = jnp.asarray(digits.x), jnp.asarray(digits.y)
    done = 0
    for steps in after:
        # Not around the `yield`: whoever takes the weights has a precision of its own.
        with jax.enable_x64(double):
            indices = jnp.asarray(order[done:steps], jnp.int32)
            updated = _steps(double_softmax)(weights, images, labels, indices)
            weights = jax.tree.map(np.asarray, updated)
        done = steps
        yield weights


@functools.cache
def _apply() -> Apply:
    _, apply = mj.from_flax(mj.models.ArticleCNN(CLASSES, rngs=nnx.Rngs(0)))
    return lambda weights, x: apply(weights, x[..., None])


@functools.cache
def _steps(double_softmax: bool) -> Callable[..., Params]:
    apply = _apply()

    @jax.jit
    def run(weights: Params, images: jax.Array, labels: jax.Array, order: jax.Array) -> Params:
        dtype = jax.tree.leaves(weights)[0].dtype

        def objective(weights: Params, indices: jax.Array) -> jax.Array:
            logits = apply(weights, images[indices].astype(dtype))
            return jax_loss(logits, labels[indices], double_softmax=double_softmax)

        def step(weights: Params, indices: jax.Array) -> tuple[Params, None]:
            gradient = jax.grad(objective)(weights, indices)
            return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, weights, gradient), None

        return jax.lax.scan(step, weights, order)[0]

    return run


def jax_loss(logits: jax.Array, labels: jax.Array, *, double_softmax: bool = True) -> jax.Array:
    r"""The article's loss $-\frac1n\sum_i \log\mathrm{softmax}(\mathrm{softmax}(z_i))_{y_i}$.

    Args:
      logits: `[examples, classes]`.
      labels: `[examples]`, integers.
      double_softmax: False leaves the inner softmax out, which makes it the usual cross-entropy.
    """
    outputs = jax.nn.softmax(logits) if double_softmax else logits
    return mj.losses.softmax_cross_entropy(outputs, labels)


def accuracy(weights: Params, digits: Digits) -> float:
    """The fraction of `digits` that the weights, in Flax's layout and float32, classify rightly."""
    with jax.enable_x64(False):
        predictions = _predictions()(weights, jnp.asarray(digits.x))
    return float(np.mean(np.asarray(predictions) == digits.y))


@functools.cache
def _predictions() -> Callable[[Params, jax.Array], jax.Array]:
    apply = _apply()

    @jax.jit
    def predict(weights: Params, images: jax.Array) -> jax.Array:
        return jax.lax.map(lambda x: apply(weights, x[None])[0].argmax(), images, batch_size=BATCH)

    return predict


def agreement(initial: Params, ours: Params, theirs: Params, steps: int) -> Agreement:
    """How far `ours` is from `theirs` after so many steps from `initial`, all in Flax's layout."""
    start, a, b = flatten(initial), flatten(ours), flatten(theirs)
    _, weights = relative_error(a, b)
    largest_at, movement = relative_error(_minus(a, start), _minus(b, start))
    return Agreement(steps, weights, movement, largest_at)


def _minus(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array - b[path] for path, array in a.items()}


def compare_sides(digits: Digits, steps: Sequence[int], seed: int) -> Iterator[Agreement]:
    """Runs both sides in float64 and yields their agreement after each number of `steps`."""
    weights = initial_weights(seed, torch.float64)
    initial = to_flax(weights, FLATTENED)
    epochs = -(-max(steps) * BATCH // len(digits.x))
    order = batch_order(len(digits.x), epochs, seed)
    theirs = torch_side(weights, digits, order, steps)
    ours = jax_side(initial, digits, order, steps)
    for count, a, b in zip(steps, ours, theirs, strict=True):
        yield agreement(initial, a, b, count)


def train(digits: Mnist, epochs: int, seed: int, *, double_softmax: bool) -> Iterator[float]:
    """Trains the JAX side in float32 and yields the test accuracy after every epoch."""
    initial = to_flax(initial_weights(seed, torch.float32), FLATTENED)
    order = batch_order(len(digits.train.x), epochs, seed)
    batches = len(order) // epochs
    after = range(batches, len(order) + 1, batches)
    for weights in jax_side(initial, digits.train, order, after, double_softmax=double_softmax):
        yield accuracy(weights, digits.test)


def main(arguments: list[str] | None = None) -> int:
    """Compare, train if asked to, print the tables, and return the exit status."""
    options = _parser().parse_args(arguments)
    # The arrays are small, and threads that wait for one another cost more than they compute.
    torch.set_num_threads(1)
    steps = sorted(set(options.steps))
    record: dict[str, Any] = {
        "command": f"python -m parity.article --data-dir FOLDER --epochs {options.epochs} "
        f"--seed {options.seed} --steps {' '.join(map(str, steps))}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": machine.git_state(),
        "versions": machine.versions(),
        "machine": machine.machine(),
    }
    try:
        check_seed("seed", options.seed)
        if options.out is not None and not options.out.parent.is_dir():
            raise InputError(f"`out` was {options.out}; its folder must exist.")
        digits = read_mnist(options.data_dir)
        rows = []
        for row in compare_sides(digits.train, steps, options.seed):
            rows.append(row)
            _say(f"after {row.steps} steps: weights {row.weights:.1e}, movement {row.movement:.1e}")
        curves = _curves(digits, options.epochs, options.seed) if options.epochs else {}
    except InputError as error:
        # The functions name their arguments in backticks; here they are options.
        line = re.sub("`(data_dir|seed|out)`", lambda m: "--" + m[1].replace("_", "-"), str(error))
        _say(f"parity.article: {line}")
        return 2
    record |= {
        "agreement": {
            "dtype": "float64",
            "bound": BOUND,
            "rows": [_as_dict(row) for row in rows],
        },
        "training": {
            "dtype": "float32",
            "test_images": len(digits.test.x),
            "reported_accuracy": REPORTED_ACCURACY,
            "accuracy_per_epoch": curves,
        },
        "passed": all(row.passed for row in rows),
    }
    text = json.dumps(record, indent=1, allow_nan=False)
    if options.out is not None:
        options.out.write_text(text + "\n")
    print(text if options.json else _table(rows, curves))
    return 0 if record["passed"] else 1


def _curves(digits: Mnist, epochs: int, seed: int) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {"double_softmax": [], "single_softmax": []}
    started = time.monotonic()
    for name, curve in curves.items():
        for value in train(digits, epochs, seed, double_softmax=name == "double_softmax"):
            curve.append(value)
            done = sum(map(len, curves.values()))
            left = (time.monotonic() - started) / done * (2 * epochs - done)
            _say(
                f"{name.replace('_', ' ')}, epoch {len(curve)}/{epochs}: "
                f"test accuracy {value:.2%}, {left:.0f} s left"
            )
    return curves


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _as_dict(row: Agreement) -> dict[str, Any]:
    def number(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    fields = {name: number(value) for name, value in asdict(row).items()}
    return fields | {"passed": row.passed}


def _table(rows: list[Agreement], curves: dict[str, list[float]]) -> str:
    lines = [f"JAX against PyTorch in float64, relative errors, at most {BOUND:.0e}", ""]
    lines += ["steps   weights  movement        largest at"]
    for row in rows:
        verdict = "ok" if row.passed else "FAIL"
        lines.append(
            f"{row.steps:5}  {row.weights:8.1e}  {row.movement:8.1e}  {verdict:4}  {row.largest_at}"
        )
    if curves:
        epochs = len(curves["double_softmax"])
        lines += ["", f"test accuracy after {epochs} epochs of the JAX side in float32", ""]
        lines += [f"softmax twice, as the article has it  {curves['double_softmax'][-1]:.2%}"]
        lines += [f"softmax once                          {curves['single_softmax'][-1]:.2%}"]
        lines += [f"the article reports, after 20 epochs  {REPORTED_ACCURACY:.0%}"]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m parity.article",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the folder that holds mnist/ with the four idx files, gzipped or not",
    )
    parser.add_argument(
        "--epochs",
        type=_count(0),
        default=0,
        metavar="N",
        help="train the JAX side for N epochs, with and without the second softmax; the article "
        "has 20 (default: 0, compare only)",
    )
    parser.add_argument(
        "--steps",
        type=_count(1),
        nargs="+",
        default=list(STEPS),
        metavar="N",
        help="after how many steps to compare the weights (default: 1 10 100 1000)",
    )
    parser.add_argument(
        "--seed",
        type=_count(0),
        default=0,
        help="of the initial weights and the batch order, an integer of at least 0 (default: 0)",
    )
    parser.add_argument("--json", action="store_true", help="print the record as one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the record to FILE")
    return parser


def _count(least: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
        return int(text)

    return count


if __name__ == "__main__":
    sys.exit(main())
