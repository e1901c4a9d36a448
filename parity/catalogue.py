"""The known mistakes of MAML implementations, each as a switch of one program.

One compiled program computes the meta-gradient for any setting of the switches, so that a mistake,
or two together, cost a run and no compilation.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from maml_jax.core.trees import path_name
from parity.problem import Problem

WEIGHT_DECAYS = (1e-4, 5e-4, 1e-3, 1e-2)
NONE = 1e100
"""A limit that nothing reaches; the derivative of an infinite one would be NaN."""
CLIPS = (0.1, 0.25, 0.5, 1.0, 5.0, 10.0)


class Switches(NamedTuple):
    """How a meta-gradient is computed; the defaults are correct."""

    second_order: float = 1.0
    swapped: float = 0.0
    """Adapt to the query set and evaluate on the support set."""
    extra_steps: int = 0
    rate: float = 1.0
    """A factor of the inner rate."""
    head_only: float = 0.0
    """Adapt the head alone."""
    softmax: float = 0.0
    """Apply a softmax to the outputs before a loss that applies one itself."""
    evaluation: float = 0.0
    """Normalise by fixed statistics in batch norm."""
    together: float = 0.0
    """Put the queries into one batch with the support set."""
    decay: float = 0.0
    """The weight decay in the inner steps."""
    clip: float = NONE
    """The largest norm of the whole inner gradient."""
    clip_value: float = NONE
    """The largest element of the inner gradient."""
    chained: float = 0.0
    """Start each task from the adapted weights of the task before."""
    accumulated: float = 0.0
    """Add the inner gradients to the outer one."""
    factor: float = 1.0
    """A factor of the whole meta-gradient."""


@dataclass(frozen=True)
class Mistake:
    """A known mistake: its name, and the switches that it sets."""

    name: str
    sets: dict[str, Any]

    def compatible(self, other: "Mistake") -> bool:
        """Whether both can be made at once."""
        return not self.sets.keys() & other.sets.keys()


def mistakes(problem: Problem) -> list[Mistake]:
    """The mistakes that can be made on this problem."""
    support, query = problem.episodes.support.y, problem.episodes.query.y
    tasks, n_support, n_query = support.shape[0], support.shape[1], query.shape[1]
    classification = jnp.issubdtype(support.dtype, jnp.integer)
    first_order = {"second_order": 0.0}
    found = [
        Mistake("inner graph not created (the gradient is first-order)", first_order),
        Mistake("support and query set swapped", {"swapped": 1.0}),
        Mistake("one inner step too many", {"extra_steps": 1}),
        Mistake("inner loss summed, not averaged, over examples", {"rate": float(n_support)}),
        Mistake("inner loss divided twice by the examples", {"rate": 1 / n_support}),
        Mistake("query loss summed, not averaged, over examples", {"factor": float(n_query)}),
        Mistake("query loss divided twice by the examples", {"factor": 1 / n_query}),
        Mistake("both losses summed over examples", {"rate": n_support, "factor": n_query}),
        Mistake(
            "both losses divided twice by the examples",
            {"rate": 1 / n_support, "factor": 1 / n_query},
        ),
        Mistake("gradients summed, not averaged, over tasks", {"factor": float(tasks)}),
        Mistake("gradients divided twice by the tasks", {"factor": 1 / tasks}),
        Mistake("wrong sign", {"factor": -1.0}),
        Mistake("only the head adapted", {"head_only": 1.0}),
        Mistake("query normalised together with the support set", {"together": 1.0}),
        Mistake(
            "weights updated in place, and not restored between tasks",
            {**first_order, "chained": 1.0},
        ),
        Mistake(
            "weights updated in place: inner gradients left in the outer one",
            {**first_order, "accumulated": 1.0},
        ),
        *(
            Mistake(f"weight decay {wd:g} in the inner steps", {"decay": wd})
            for wd in WEIGHT_DECAYS
        ),
        *(Mistake(f"inner gradient clipped to the norm {c:g}", {"clip": c}) for c in CLIPS),
        *(
            Mistake(f"inner gradient clipped to elements of {c:g}", {"clip_value": c})
            for c in CLIPS
        ),
    ]
    if problem.inner_steps:
        found.append(Mistake("one inner step too few", {"extra_steps": -1}))
    if classification:
        found.append(Mistake("softmax applied twice", {"softmax": 1.0}))
    if problem.eval_apply is not None:
        found.append(Mistake("batch norm in evaluation mode", {"evaluation": 1.0}))
    return found


class Catalogue:
    """The meta-gradients of one problem, correct and with every mistake."""

    def __init__(self, problem: Problem):
        self.problem = problem.in_float64()
        self.mistakes = mistakes(self.problem)
        self._program = jax.jit(partial(_meta_gradient, self.problem))
        self._gradients: dict[tuple[str, ...], Any] = {}

    def on(self, problem: Problem) -> "Catalogue":
        """The catalogue for other weights and tasks of the same problem, without a compilation."""
        other = copy(self)
        other.problem = problem.in_float64()
        other._gradients = {}
        return other

    def gradient(self, *made: Mistake) -> Any:
        """The meta-gradient with these mistakes, a pytree like the problem's `params`."""
        names = tuple(mistake.name for mistake in made)
        if names not in self._gradients:
            self._gradients[names] = self._compute(made)
        return self._gradients[names]

    def _compute(self, made: Sequence[Mistake]) -> Any:
        switches = Switches()
        for mistake in made:
            switches = switches._replace(**mistake.sets)
        with jax.enable_x64(True):
            episodes = self.problem.episodes
            if switches.swapped:
                episodes = episodes._replace(support=episodes.query, query=episodes.support)
            arrays = jax.tree.map(jnp.asarray, switches)
            gradient = self._program(self.problem.params, episodes, arrays)
        return jax.device_get(gradient)

    def pairs(self) -> list[tuple[Mistake, Mistake]]:
        """All pairs of mistakes that can be made at once."""
        return [(a, b) for a, b in combinations(self.mistakes, 2) if a.compatible(b)]


def _meta_gradient(problem: Problem, params: Any, episodes: Any, s: Switches) -> Any:
    def outputs(weights, x):
        out = problem.apply(weights, x)
        if problem.eval_apply is not None:
            out = lax.cond(s.evaluation > 0, problem.eval_apply, lambda *_: out, weights, x)
        if jnp.issubdtype(episodes.support.y.dtype, jnp.integer):
            out = jnp.where(s.softmax > 0, jax.nn.softmax(out), out)
        return out

    def support_loss(weights, support):
        return problem.loss(outputs(weights, support.x), support.y)

    def query_loss(weights, episode):
        both = jnp.concatenate([episode.support.x, episode.query.x])
        joint = outputs(weights, both)[len(episode.support.x) :]
        alone = outputs(weights, episode.query.x)
        return problem.loss(jnp.where(s.together > 0, joint, alone), episode.query.y)

    def adapts(path):
        return 1.0 if problem.is_head(path_name(path)) else 1.0 - s.head_only

    def adapt(start, support):
        def step(carry, k):
            fast, total = carry
            taken = jnp.where(k < problem.inner_steps + s.extra_steps, 1.0, 0.0)
            exact = jax.grad(support_loss)(fast, support)
            constant = jax.tree.map(lax.stop_gradient, exact)
            total = jax.tree.map(lambda t, g: t + taken * g, total, constant)

            def direction(path, w, g, c):
                g = jnp.where(s.second_order > 0, g, c) + s.decay * w
                return jnp.clip(g, -s.clip_value, s.clip_value) * adapts(path)

            slope = jax.tree.map_with_path(direction, fast, exact, constant)
            norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(slope)))
            shrink = jnp.where(norm > s.clip, s.clip / norm, 1.0)
            rate = problem.inner_lr * s.rate * taken * shrink
            return (jax.tree.map(lambda w, g: w - rate * g, fast, slope), total), None

        nothing = jax.tree.map(jnp.zeros_like, start)
        steps = jnp.arange(problem.inner_steps + 1)  # one more than correct, taken or not
        return lax.scan(step, (start, nothing), steps)[0]

    def objective(start, episode):
        fast, total = adapt(start, episode.support)
        return query_loss(fast, episode), (fast, total)

    def one_task(start, episode):
        slope, (fast, total) = jax.grad(objective, has_aux=True)(start, episode)
        slope = jax.tree.map(lambda g, t: g + s.accumulated * t, slope, total)
        start = jax.tree.map(lambda w, f: jnp.where(s.chained > 0, f, w), start, fast)
        return start, slope

    _, slopes = lax.scan(one_task, params, episodes)
    return jax.tree.map(lambda leaf: s.factor * leaf.mean(0), slopes)
