"""Is a meta-gradient right, and if not, what went wrong?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import maml_jax as mj
from maml_jax.core.trees import by_path
from maml_jax.errors import InputError
from parity.catalogue import Catalogue
from parity.problem import Problem

ROUNDING = {"float64": 1e-9, "float32": 1e-4}
"""The largest relative error that rounding explains, by the precision of what is judged."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found; `print` it."""

    correct: bool
    error: float
    """‖theirs − true‖ / ‖true‖."""
    cosine: float
    """Of the angle between theirs and the true one."""
    norm_ratio: float
    """‖theirs‖ / ‖true‖."""
    layers: dict[str, float]
    """The relative errors of the arrays that differ, in the network's order."""
    first_step: int | None
    """After how many inner steps weights first differ; None: they do not, or were not given."""
    first_step_layers: tuple[str, ...]
    """Which weights differ there."""
    mistakes: tuple[str, ...]
    """The known mistakes that together give theirs to rounding; none if correct or unknown."""
    alternatives: tuple[tuple[str, ...], ...]
    """Others that give the same on this problem."""
    residual: float
    """‖theirs − best explanation‖ / ‖theirs‖; the best explanation may be the true one."""
    closest: tuple[str, ...]
    """The mistakes that come closest, whether or not to rounding."""

    def __str__(self) -> str:
        if self.correct:
            return f"correct: relative error {self.error:.1e}"
        lines = [
            f"WRONG: relative error {self.error:.1e}, cosine {self.cosine:.6f}, "
            f"norm ratio {self.norm_ratio:.6g}"
        ]
        if self.first_step is not None:
            where = ", ".join(self.first_step_layers)
            lines.append(
                f"adapted weights first differ after inner step {self.first_step}: {where}"
            )
        worst = ", ".join(f"{path} ({error:.1e})" for path, error in self.layers.items())
        lines.append(f"meta-gradient differs in: {worst}")
        if self.mistakes:
            lines.append(
                f"explained by: {' + '.join(self.mistakes)} (residual {self.residual:.1e})"
            )
            lines += [f"       or by: {' + '.join(other)}" for other in self.alternatives]
        else:
            closest = " + ".join(self.closest) or "none"
            lines.append(f"unknown: no mistake fits to rounding; closest {closest}, ")
            lines[-1] += f"residual {self.residual:.1e}"
        return "\n".join(lines)


def diagnose(
    theirs: Any,
    problem: Problem,
    *,
    trajectory: Sequence[Any] | None = None,
    rounding: float | None = None,
    catalogue: Catalogue | None = None,
) -> Diagnosis:
    """Compare a meta-gradient with the true one and with those of the known mistakes.

    Args:
      theirs: a pytree like `problem.params` (see `parity.weights.to_flax` for PyTorch's layout).
      problem: what it is the meta-gradient of.
      trajectory: of the first task, their weights after 0, 1, … inner steps, to tell which step
        first differs.
      rounding: the largest relative error that is none; None: 1e-9, or 1e-4 if theirs is float32.
      catalogue: one made earlier for this problem, to save its compilation.

    Raises:
      InputError: `theirs` has other arrays than `problem.params`, or some that are not finite.
    """
    catalogue = catalogue or Catalogue(problem)
    mine, given = by_path(problem.params), by_path(theirs)
    if {p: np.shape(a) for p, a in mine.items()} != {p: np.shape(a) for p, a in given.items()}:
        odd = sorted(p for p in mine.keys() | given.keys() if p not in mine or p not in given)
        odd += [p for p in mine if p in given and np.shape(mine[p]) != np.shape(given[p])]
        raise InputError(f"`theirs` differs from the weights in names or shapes: {', '.join(odd)}.")
    if rounding is None:
        narrow = any(np.asarray(a).dtype == np.float32 for a in given.values())
        rounding = ROUNDING["float32" if narrow else "float64"]
    wrong = {p: np.asarray(a, np.float64) for p, a in given.items()}
    if not all(np.isfinite(a).all() for a in wrong.values()):
        bad = [p for p, a in wrong.items() if not np.isfinite(a).all()]
        raise InputError(f"`theirs` is not finite in {', '.join(bad)}.")
    truth = by_path(catalogue.gradient())
    whole = _norm(truth)
    if not math.isfinite(whole):
        raise InputError(
            "`problem` has a meta-gradient that is not finite; is `inner_lr` too large?"
        )
    layers = {p: _array_error(wrong[p], truth[p], whole) for p in truth}
    error = _distance(wrong, truth) / max(whole, 1e-300)
    steps = _first_difference(problem, trajectory, rounding)
    differing = {p: e for p, e in layers.items() if e > rounding}
    correct = not differing and steps is None
    inner = sum(float(np.vdot(wrong[p], truth[p])) for p in truth)
    sizes = _norm(wrong) * whole
    found: list[tuple[float, tuple[str, ...]]] = []
    if not correct:
        found = _explanations(wrong, truth, catalogue, rounding)
    fitting = [names for residual, names in found if residual <= rounding]
    fewest = min(map(len, fitting), default=0)
    best = [names for names in fitting if len(names) == fewest]
    closest = min(found, default=(error, ()), key=lambda entry: entry[0])
    return Diagnosis(
        correct=correct,
        error=error,
        cosine=inner / sizes if sizes else 0.0,
        norm_ratio=_norm(wrong) / whole if whole else math.inf,
        layers=differing,
        first_step=None if steps is None else steps[0],
        first_step_layers=() if steps is None else steps[1],
        mistakes=best[0] if best else (),
        alternatives=tuple(best[1:]),
        residual=closest[0],
        closest=closest[1],
    )


def _explanations(
    wrong: dict[str, np.ndarray],
    truth: dict[str, np.ndarray],
    catalogue: Catalogue,
    rounding: float,
) -> list[tuple[float, tuple[str, ...]]]:
    """Residuals of the single mistakes and, where none fits, of pairs."""
    # PyTorch's `allow_unused` has None where a weight was not reached, and people make zeros of it.
    size = _norm(truth)
    missing = [
        p for p in truth if not wrong[p].any() and np.linalg.norm(truth[p]) > rounding * size
    ]
    if not any(array.any() for array in wrong.values()):
        return [(0.0, ("no weight reached: every gradient was None, treated as zero",))]
    note = (f"None treated as zero in {', '.join(missing)}",) if missing else ()
    seen = {p: a for p, a in wrong.items() if p not in missing}

    def residual(gradient: dict[str, np.ndarray]) -> float:
        rest = {p: gradient[p] for p in seen}
        # By array too: an error in a small one must not hide behind the size of the others.
        by_array = max(_array_error(seen[p], rest[p], _norm(rest)) for p in seen)
        return max(_distance(seen, rest) / max(_norm(seen), 1e-300), by_array)

    plain = residual(truth)
    found: list[tuple[float, tuple[str, ...]]] = [(plain, note)] if note else []
    if note and plain <= rounding:
        return found
    single = []
    for mistake in catalogue.mistakes:
        gradient = by_path(catalogue.gradient(mistake))
        if _distance(gradient, truth) > rounding * size:  # else it makes no difference here
            single.append(mistake)
            found.append((residual(gradient), (*note, mistake.name)))
    if any(value <= rounding for value, _ in found):
        return found
    for a, b in catalogue.pairs():
        if a in single and b in single:
            gradient = by_path(catalogue.gradient(a, b))
            found.append((residual(gradient), (*note, a.name, b.name)))
    return found


def _first_difference(
    problem: Problem, trajectory: Sequence[Any] | None, rounding: float
) -> tuple[int, tuple[str, ...]] | None:
    if trajectory is None:
        return None
    wide = problem.in_float64()
    learner = mj.maml(wide.apply, wide.inner_lr, wide.inner_steps, loss=wide.loss)
    with jax.enable_x64(True):
        support = jax.tree.map(lambda leaf: leaf[0], wide.episodes.support)
        path = jax.device_get(jax.jit(learner.trajectory)(wide.params, support))
    for step in range(max(len(trajectory), wide.inner_steps + 1)):
        if step >= len(trajectory) or step > wide.inner_steps:
            return step, ("a step that one side alone has taken",)
        mine = by_path(jax.tree.map(lambda leaf, step=step: leaf[step], path))
        given = by_path(trajectory[step])
        whole = _norm(mine)
        wide_given = {p: np.asarray(given[p], np.float64) for p in mine}
        differing = [p for p in mine if _array_error(wide_given[p], mine[p], whole) > rounding]
        if differing:
            return step, tuple(differing)
    return None


def _array_error(a: np.ndarray, b: np.ndarray, whole: float) -> float:
    """As `parity.compare` has it: arrays that are zero but for rounding are measured by all."""
    return float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-2 * whole, 1e-300)


def _norm(arrays: dict[str, np.ndarray]) -> float:
    return math.sqrt(sum(float(np.sum(np.square(a))) for a in arrays.values()))


def _distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return _norm({p: a[p] - b[p] for p in b})
