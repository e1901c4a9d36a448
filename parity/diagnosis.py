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
from parity.progress import still_alive
from parity.relative_error import array_error, norm

ROUNDING = {"float64": 1e-9, "float32": 1e-4}
"""The largest relative error that rounding explains, by the precision of the gradient."""
CLOSE = 1e-3
"""Of the error: what a mistake must leave of it to be called close where none fits."""
ADVICE = (
    "check first that the networks agree at the starting weights, in the order of flattening and "
    "the epsilon of batch norm too: parity.check compares them with network="
)


@dataclass(frozen=True)
class Diagnosis:
    """The verdict; `print` it."""

    correct: bool
    error: float
    """‖theirs − true‖ / ‖true‖."""
    cosine: float
    """The cosine of the angle between theirs and the true one."""
    norm_ratio: float
    """‖theirs‖ / ‖true‖."""
    layers: dict[str, float]
    """The relative errors of the arrays that differ, in the network's order."""
    first_step: int | None
    """The inner step after which weights first differ; None: they do not, or were not given."""
    first_step_layers: tuple[str, ...]
    """Which weights differ there."""
    mistakes: tuple[str, ...]
    """The known mistakes that together give theirs to rounding; empty if correct or unknown."""
    alternatives: tuple[tuple[str, ...], ...]
    """Other mistakes that give the same gradient on this problem."""
    residual: float
    """‖theirs − best explanation‖ / ‖theirs‖; the best explanation may be the true one."""
    closest: tuple[str, ...]
    """The mistakes that come closest, whether or not to rounding."""
    networks: str = ""
    """How the two networks differ at the starting weights. Then the gradient cannot be judged, and
    `correct` is False."""
    once_equal: "Diagnosis | None" = None
    """The verdict with the change that makes the networks equal, if one was found."""
    advice: str = ADVICE
    """What to do where the mistakes are unknown."""

    @classmethod
    def impossible(cls, networks: str) -> "Diagnosis":
        """No verdict, for the two networks differ."""
        nan = math.nan
        return cls(False, nan, nan, nan, {}, None, (), (), (), nan, (), networks)

    def __str__(self) -> str:
        if self.networks:
            lines = [f"CANNOT BE JUDGED: {self.networks}"]
            if self.once_equal is not None:
                lines.append(f"with that change the verdict is: {self.once_equal}")
            return "\n".join(lines)
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
            lines.append("unknown: no known mistake fits to rounding")
            # Mistakes that change little, such as a small weight decay, are always close.
            if self.closest and self.residual < CLOSE * self.error:
                closest = " + ".join(self.closest)
                lines[-1] += f"; closest {closest}, residual {self.residual:.1e}"
            lines.append(self.advice)
        return "\n".join(lines)


def diagnose(
    theirs: Any,
    problem: Problem,
    *,
    trajectory: Sequence[Any] | None = None,
    rounding: float | None = None,
    catalogue: Catalogue | None = None,
    explain: bool = True,
) -> Diagnosis:
    """Compare a meta-gradient with the true one and with those of the known mistakes.

    Args:
      theirs: the meta-gradient to check, a pytree like `problem.params`
        (`parity.conversion.to_flax` converts from PyTorch's layout).
      problem: the problem that it belongs to.
      trajectory: their weights after 0, 1, … inner steps on the first task, to find the first step
        that differs.
      rounding: the largest relative error that counts as rounding; None: 1e-9, or 1e-4 if theirs
        is float32.
      catalogue: a catalogue made earlier for this problem, which saves its compilation.
      explain: look for the mistakes. False: say only whether it is right, in much less time.

    Raises:
      InputError: `theirs` has other arrays than `problem.params`, or some that are not finite.
    """
    catalogue = catalogue or Catalogue(problem)
    given, precision = _checked(theirs, problem)
    rounding = ROUNDING[precision] if rounding is None else rounding
    with still_alive("computing the right meta-gradient"):
        true = by_path(catalogue.gradient())
    whole = norm(true)
    if not math.isfinite(whole):
        raise InputError(
            "`problem` has a meta-gradient that is not finite; is `inner_lr` too large?"
        )
    errors = {path: array_error(given[path], true[path], whole) for path in true}
    differing = {path: error for path, error in errors.items() if error > rounding}
    first = _first_difference(problem, trajectory, rounding)
    correct = not differing and first is None
    explanations: list[tuple[float, tuple[str, ...]]] = []
    if explain and not correct:
        with still_alive("the gradient is not right; trying the known mistakes"):
            explanations = _explanations(given, true, catalogue, rounding)
    fitting = [mistakes for residual, mistakes in explanations if residual <= rounding]
    fewest = min(map(len, fitting), default=0)
    mistakes, *alternatives = [names for names in fitting if len(names) == fewest] or [()]
    error = _distance(given, true) / max(whole, 1e-300)
    residual, closest = min(explanations, default=(error, ()), key=lambda entry: entry[0])
    dot = sum(float(np.vdot(given[path], true[path])) for path in true)
    norms = norm(given) * whole
    return Diagnosis(
        correct=correct,
        error=error,
        cosine=dot / norms if norms else 0.0,
        norm_ratio=norm(given) / whole if whole else math.inf,
        layers=differing,
        first_step=None if first is None else first[0],
        first_step_layers=() if first is None else first[1],
        mistakes=mistakes,
        alternatives=tuple(alternatives),
        residual=residual,
        closest=closest,
    )


def _checked(theirs: Any, problem: Problem) -> tuple[dict[str, np.ndarray], str]:
    """`theirs` by paths in float64, and the precision that it had."""
    expected, given = by_path(problem.params), by_path(theirs)
    shapes, given_shapes = ({p: np.shape(a) for p, a in tree.items()} for tree in (expected, given))
    if shapes != given_shapes:
        paths = sorted(shapes.keys() ^ given_shapes.keys())
        paths += [p for p in shapes if given_shapes.get(p, shapes[p]) != shapes[p]]
        raise InputError(
            f"`theirs` differs from the weights in names or shapes: {', '.join(paths)}."
        )
    single = any(np.asarray(array).dtype == np.float32 for array in given.values())
    wide = {path: np.asarray(array, np.float64) for path, array in given.items()}
    infinite = [path for path, array in wide.items() if not np.isfinite(array).all()]
    if infinite:
        raise InputError(f"`theirs` is not finite in {', '.join(infinite)}.")
    return wide, "float32" if single else "float64"


def _explanations(
    given: dict[str, np.ndarray],
    true: dict[str, np.ndarray],
    catalogue: Catalogue,
    rounding: float,
) -> list[tuple[float, tuple[str, ...]]]:
    """Residuals of the single mistakes and, where none fits, of pairs."""
    # With `allow_unused` PyTorch returns None for a weight that was not reached, often made zero.
    size = norm(true)
    missing = [p for p in true if not given[p].any() and np.linalg.norm(true[p]) > rounding * size]
    if not any(array.any() for array in given.values()):
        return [(0.0, ("no weight reached: every gradient was None, treated as zero",))]
    note = (f"None treated as zero in {', '.join(missing)}",) if missing else ()
    seen = {p: a for p, a in given.items() if p not in missing}

    def residual(gradient: dict[str, np.ndarray]) -> float:
        rest = {p: gradient[p] for p in seen}
        # By array too: an error in a small array must not hide behind the size of the others.
        by_array = max(array_error(seen[p], rest[p], norm(rest)) for p in seen)
        return max(_distance(seen, rest) / max(norm(seen), 1e-300), by_array)

    plain = residual(true)
    found: list[tuple[float, tuple[str, ...]]] = [(plain, note)] if note else []
    if note and plain <= rounding:
        return found
    single = []
    for costly in (False, True):
        for mistake in catalogue.mistakes:
            if catalogue.costs_a_compilation(mistake) is not costly:
                continue
            gradient = by_path(catalogue.gradient(mistake))
            if _distance(gradient, true) > rounding * size:  # else it makes no difference here
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
            return step, ("a step that only one of the two has taken",)
        mine = by_path(jax.tree.map(lambda leaf, step=step: leaf[step], path))
        given = by_path(trajectory[step])
        whole = norm(mine)
        wide_given = {p: np.asarray(given[p], np.float64) for p in mine}
        differing = [p for p in mine if array_error(wide_given[p], mine[p], whole) > rounding]
        if differing:
            return step, tuple(differing)
    return None


def _distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    return norm({p: a[p] - b[p] for p in b})
