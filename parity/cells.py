"""What is compared: every algorithm on every model, at few and at several inner steps."""

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

import maml_jax as mj
from maml_jax import registry
from maml_jax.errors import InputError, check_choice
from maml_jax.types import Apply, Params
from parity.models import SQUARED_ERROR, Model
from parity.reference import Comparison
from parity.registers import entries

INNER_STEPS = (1, 5)
UPDATES = 100
EVERYWHERE = ("maml", "fomaml")
"""The algorithms that are compared on every model at each number of inner steps."""

MODELS: dict[str, Model] = {name: model for name, _, model in entries("parity.models", "MODELS")}
COMPARISONS: dict[str, Comparison] = {
    name: comparison for name, _, comparison in entries("parity.reference", "COMPARISONS")
}
_LEARNERS = {
    name: registry.find("algorithms", algorithm)
    for name, algorithm, _ in entries("parity.reference", "COMPARISONS")
}


@dataclass(frozen=True)
class Cell:
    """One comparison."""

    algorithm: str
    model: str
    inner_steps: int
    differentiate: str | None = None
    optimizer: str = "sgd"
    updates: int = 0
    """Outer updates by Adam that are compared as well."""

    @property
    def name(self) -> str:
        """Such as `maml/conv4-stride/5/mixed/adam`: algorithm, model, inner steps, the rest."""
        parts = (self.algorithm, self.model, str(self.inner_steps), self.differentiate)
        optimizer = None if self.optimizer == "sgd" else self.optimizer
        updates = f"{self.updates}-updates" if self.updates else None
        return "/".join(part for part in (*parts, optimizer, updates) if part is not None)

    @property
    def by_default(self) -> bool:
        """Whether it is compared without `--all`; the other cells take long to compile."""
        cost = MODELS[self.model].cost
        if cost != "small" and (self.optimizer != "sgd" or self.updates):
            return False
        return cost in ("small", "medium") or (cost == "large" and self.algorithm in EVERYWHERE)

    @property
    def inner_lr(self) -> float:
        """The model's; smaller for Adam, whose step does not shrink with the gradient."""
        return 0.01 if self.optimizer == "adam" else MODELS[self.model].inner_lr

    def learner(self, apply: Apply) -> mj.MetaLearner:
        """The learner of `maml_jax` that is compared."""
        comparison = COMPARISONS[self.algorithm]
        options: dict[str, Any] = {
            **comparison.options,
            "loss": MODELS[self.model].loss.jax,
            "inner_steps": self.inner_steps,
        }
        if self.differentiate is not None:
            options["differentiate"] = self.differentiate
        if self.optimizer == "momentum":
            options["inner_optimizer"] = optax.sgd(self.inner_lr, momentum=0.9)
        elif self.optimizer == "adam":
            options["inner_optimizer"] = optax.adam(self.inner_lr, eps_root=1e-6)
        else:
            options["inner_lr"] = self.inner_lr
        return _LEARNERS[self.algorithm](apply, **options)


class CellInputs(NamedTuple):
    """The weights and episodes that both sides start from."""

    params: Params
    """float64 NumPy arrays in Flax's layout."""
    apply: Apply
    episodes: mj.Episode
    """float64 and int64 NumPy arrays; the leading axis counts the tasks."""


def build_inputs(cell: Cell, seed: int) -> CellInputs:
    """The weights and the episodes of `cell`, a function of `seed` alone.

    All are float32 numbers in float64 arrays, so that both precisions start from the same values.
    """
    model = MODELS[cell.model]
    generator = np.random.default_rng(seed)
    shapes, apply = mj.from_flax(nnx.eval_shape(lambda: model.flax(nnx.Rngs(0))))
    params = jax.tree.map_with_path(partial(_draw, generator), shapes)
    params, episodes = jax.tree.map(to_single, (params, model.episodes(generator)))
    return CellInputs(params, apply, episodes)


def to_single(array: np.ndarray) -> np.ndarray:
    """The nearest float32 numbers, in an array of the same dtype; integers unchanged."""
    floating = np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32).astype(array.dtype) if floating else array


def _draw(generator: np.random.Generator, path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    # The models' own initial biases are 0 and scales 1, which would hide a mix-up of two.
    noise = generator.normal(size=leaf.shape)
    if len(leaf.shape) > 1:
        return noise * np.sqrt(2 / np.prod(leaf.shape[:-1]))
    return 0.1 * noise + (1.0 if path[-1].key == "scale" else 0.0)


def select(cells: Sequence[Cell], pattern: str) -> list[Cell]:
    """The cells whose names have the parts of `pattern`, such as `maml/mlp/5`, in a row.

    Raises:
      InputError: no cell does.
    """
    parts = pattern.strip("/").split("/")
    names = [cell.name.split("/") for cell in cells]
    known = dict.fromkeys(part for i in range(6) for name in names for part in name[i : i + 1])
    for part in parts:
        check_choice("only", part, known)
    in_a_row = re.compile(rf"(^|/){re.escape('/'.join(parts))}(/|$)")
    found = [cell for cell in cells if in_a_row.search(cell.name)]
    if not found:
        raise InputError(
            f"`only` was {pattern!r}, which no cell's name contains; a name is made of algorithm / "
            "model / inner steps / operator / inner optimizer / updates, as `--list` shows."
        )
    return found


def _cells() -> Iterator[Cell]:
    """MAML and FOMAML everywhere; the others with the operators and steps that may differ.

    MAML is also compared on every model with every inner optimizer, and after outer updates.
    """
    for name, comparison in COMPARISONS.items():
        everywhere = name in EVERYWHERE
        options = inspect.signature(_LEARNERS[name]).parameters.keys() - comparison.options.keys()
        operators = ("mixed", "reverse") if "differentiate" in options else (None,)
        for model, facts in MODELS.items():
            if facts.loss is SQUARED_ERROR and not comparison.regression:
                continue
            thorough = everywhere or facts.cost == "small"
            for steps in INNER_STEPS if thorough else INNER_STEPS[-1:]:
                for operator in operators if everywhere else operators[:1]:
                    yield Cell(name, model, steps, operator)
        small = "mlp-sinusoid" if comparison.regression else "mlp"
        for model in MODELS if name == "maml" else (small,):
            if "inner_optimizer" in options:
                for optimizer in ("momentum", "adam"):
                    yield Cell(name, model, 5, operators[0], optimizer)
            yield Cell(name, model, 1, operators[0], updates=UPDATES)


CELLS = tuple(_cells())
