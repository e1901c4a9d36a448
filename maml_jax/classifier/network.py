"""A trained learner as a classifier needs it: adapted to a support set, with any number of classes.

With more classes than the head has outputs the classes are told apart by prototypes.
"""

from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.algorithms.protonet import protonet
from maml_jax.core.learner import beside
from maml_jax.core.trees import by_path
from maml_jax.errors import InputError
from maml_jax.inner.prototypes import replace, without_head
from maml_jax.training import runs
from maml_jax.training.config import Config
from maml_jax.training.provenance import ExampleSpec
from maml_jax.types import Apply, Batch, Meta, MetaLearner, Params

BRIGHT_ON_DARK = ("omniglot", "mnist", "glyphs", "emnist", "kmnist", "fashion_mnist")
"""Data sets whose pictures are bright strokes on a dark ground."""
HEAD = "head"
AT_ONCE = 64
"""Examples that are predicted by one call of the compiled program."""


class Network(NamedTuple):
    """A learner, its meta-parameters, and what they take."""

    learner: MetaLearner
    meta: Meta
    input_shape: tuple[int, ...]
    """Of one example."""
    ways: int
    """How many classes the head tells apart."""
    steps: int | None = None
    """Inner steps to adapt by; None: those of training."""
    bright_on_dark: bool = False
    """Whether it was trained on bright strokes on a dark ground."""
    source: Path | None = None
    """The folder of the run."""

    def __repr__(self) -> str:
        return f"Network({self.learner!r}, {self.ways} ways, inputs {self.input_shape})"

    def __deepcopy__(self, _: Any) -> "Network":
        return self  # nothing in it changes, and its compiled programs stay with it


class Adapted(NamedTuple):
    """A network that has learned a support set."""

    apply: Apply
    fast: Params
    by_prototypes: bool = False

    def logits(self, support_x: jax.Array, x: np.ndarray, classes: int) -> np.ndarray:
        """`[examples, classes]`: of each example of `x` by itself beside the support set."""
        parts = []
        for start in range(0, len(x), AT_ONCE):
            some = x[start : start + AT_ONCE]
            # Filled up, for another number of examples would compile again.
            filled = np.zeros((_room(len(some)), *x.shape[1:]), np.float32)
            filled[: len(some)] = some
            outputs = _beside(self.apply, self.fast, support_x, filled)
            parts.append(np.asarray(outputs)[: len(some), :classes])
        return np.concatenate(parts)


def load(run: Path | str) -> Network:
    """The network of a run or of weights that are part of the package, once for each state of it.

    Raises:
      InputError: it cannot be loaded, or its outputs are not classes.
    """
    folder = runs.folder_of(run)
    changed = [path.stat().st_mtime_ns for path in sorted(folder.glob("*")) if path.exists()]
    return _load(str(run), str(folder.absolute()), tuple(changed))


@lru_cache(maxsize=8)
def _load(run: str, folder: str, changed: tuple[int, ...]) -> Network:
    restored = runs.restore(run)
    meta = jax.tree.map(jnp.asarray, restored.state.meta)
    made = of_run(restored.config, restored.examples, restored.learner, meta)
    return made._replace(source=Path(folder))


def of_run(config: Config, examples: ExampleSpec, learner: MetaLearner, meta: Meta) -> Network:
    """The network of a run's parts."""
    if examples.classes is None:
        raise InputError(
            f"`model` was a run on {config.data}, which is regression; a classifier needs classes."
        )
    return Network(
        learner,
        meta,
        tuple(examples.input_shape),
        examples.outputs,
        config.evaluation_steps,
        config.data in BRIGHT_ON_DARK,
    )


def adapt(network: Network, support: Batch, classes: int, steps: int | None) -> Adapted:
    """The network, adapted to the support set of so many classes.

    Raises:
      InputError: there are more classes than outputs, and no prototypes of what the network sees.
    """
    by_prototypes = classes > network.ways
    if by_prototypes:
        fast = _prototypes(network, support, classes)
    else:
        steps = network.steps if steps is None else steps
        fast = network.learner.adapt(network.meta, support, steps)
    return Adapted(network.learner.predict, fast, by_prototypes)


def leave_one_out(network: Network, support: Batch, classes: int, steps: int | None) -> np.ndarray:
    """The logits of each support example, `[examples, classes]`, learned from the others alone."""
    logits = []
    for n in range(len(support.y)):
        rest = jax.tree.map(lambda leaf, n=n: jnp.delete(leaf, n, axis=0), support)
        adapted = adapt(network, rest, classes, steps)
        one = np.asarray(support.x)[n : n + 1]
        logits.append(adapted.logits(rest.x, one, classes)[0])
    return np.stack(logits)


def _prototypes(network: Network, support: Batch, classes: int) -> Params:
    """The weights before any step, with the head of ProtoNet on what the head sees."""
    nothing = Batch(support.x, jnp.zeros(len(support.x), jnp.int32))
    weights = network.learner.adapt(network.meta, nothing, 0)
    kernel = by_path(weights).get(f"{HEAD}/kernel")
    if kernel is None or kernel.ndim != 2:
        raise InputError(
            f"`y` held {classes} classes; the head of this model tells {network.ways} apart, and "
            f"it has no dense layer called {HEAD}, whose inputs would have prototypes."
        )
    wider = {
        f"{HEAD}/kernel": jnp.zeros((len(kernel), classes), kernel.dtype),
        f"{HEAD}/bias": jnp.zeros(classes, kernel.dtype),
    }
    predict: Any = network.learner.predict  # a function, which has a hash
    learner = _protonet(predict)
    return learner.adapt(replace(weights, wider), support, 0)


@lru_cache(maxsize=8)
def _protonet(apply: Apply) -> MetaLearner:
    return protonet(apply, features=without_head(apply, HEAD))


def _room(count: int) -> int:
    """The least power of 2 that holds `count`."""
    return 1 << (count - 1).bit_length()


@partial(jax.jit, static_argnums=0)
def _beside(apply: Apply, fast: Params, support_x: jax.Array, x: jax.Array) -> jax.Array:
    return beside(apply, fast, support_x, x)
