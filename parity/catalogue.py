"""The known mistakes of MAML implementations, each as a switch of one program.

One compiled program computes the meta-gradient for any setting of the switches, so that a mistake,
or two together, cost a run and no compilation.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import maml_jax as mj
from parity.compiling import compile_quickly
from parity.evaluation_mode import EvaluationMode
from parity.problem import Problem
from parity.switches import (
    AGAIN,
    FIRST,
    LAST,
    QUERY_TWICE,
    SUPPORT_TWICE,
    SWAPPED,
    Switches,
    exchanged,
    meta_gradient,
)

WEIGHT_DECAYS = (1e-4, 5e-4, 1e-3, 1e-2)
CLIPS = (0.1, 0.25, 0.5, 1.0, 5.0, 10.0)
MOMENTUM = 0.9
RUNNING = 0.1
"""PyTorch's own share of the newest batch in the running statistics of batch norm."""


@dataclass(frozen=True)
class Mistake:
    """A known mistake: its name, and the switches that it sets."""

    name: str
    sets: dict[str, Any]

    def compatible(self, other: "Mistake") -> bool:
        """Whether both can be made at once."""
        return not self.sets.keys() & other.sets.keys()


def mistakes(problem: Problem, follow_statistics: bool = False) -> list[Mistake]:
    """The mistakes that can be made on this problem.

    Args:
      problem: the problem.
      follow_statistics: with those that need the running statistics of batch norm.
    """
    support, query = problem.episodes.support.y, problem.episodes.query.y
    tasks, n_support, n_query = support.shape[0], support.shape[1], query.shape[1]
    classification = jnp.issubdtype(support.dtype, jnp.integer)
    found = [
        *_of_the_graph(problem.inner_steps),
        *_of_the_sets(),
        *_of_means(tasks, n_support, n_query),
        *_of_the_inner_step(problem.inner_steps),
        *_of_weights_in_place(),
    ]
    if classification:
        found.append(Mistake("softmax applied twice", {"softmax": 1.0}))
    if problem.eval_apply is not None:
        found += _of_batch_norm(follow_statistics)
    return found


def _of_the_graph(inner_steps: int) -> list[Mistake]:
    return [
        Mistake("inner graph not created (the gradient is first-order)", {"second_order": 0.0}),
        Mistake(
            "inner graph created in the last inner step alone",
            {"graph_from": max(0, inner_steps - 1)},
        ),
        Mistake("weights detached in the inner step (.detach() or .data)", {"detached": 1.0}),
    ]


def _of_the_sets() -> list[Mistake]:
    return [
        Mistake("support and query set swapped", {"roles": SWAPPED}),
        Mistake("query loss taken on the support set", {"roles": SUPPORT_TWICE}),
        Mistake("adapted to the query set", {"roles": QUERY_TWICE}),
        Mistake("query loss taken over support and query set together", {"leaked": 1.0}),
        Mistake("query normalised together with the support set", {"together": 1.0}),
    ]


def _of_means(tasks: int, n_support: int, n_query: int) -> list[Mistake]:
    return [
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
        Mistake(
            "earlier tasks counted again: zero_grad forgotten between tasks, or the sum of losses "
            "differentiated after each (retain_graph)",
            {"counted": AGAIN},
        ),
        Mistake("only the last task counted", {"counted": LAST, "factor": 1 / tasks}),
        Mistake("only the last task counted, as a mean of one", {"counted": LAST}),
        Mistake("only the first task counted", {"counted": FIRST, "factor": 1 / tasks}),
        Mistake("only the first task counted, as a mean of one", {"counted": FIRST}),
        Mistake("wrong sign", {"factor": -1.0}),
    ]


def _of_the_inner_step(inner_steps: int) -> list[Mistake]:
    kept = {"state_kept": 1.0}
    found = [
        Mistake("one inner step too many", {"extra_steps": 1}),
        Mistake("only the head adapted", {"head_only": 1.0}),
        Mistake("momentum 0.9 in the inner optimizer", {"momentum": MOMENTUM}),
        Mistake(
            "momentum 0.9 in the inner optimizer, its state shared by the tasks",
            {"momentum": MOMENTUM, **kept},
        ),
        Mistake("Adam as the inner optimizer", {"adam": 1.0}),
        Mistake(
            "Adam as the inner optimizer, its state shared by the tasks", {"adam": 1.0, **kept}
        ),
        Mistake(
            "gradients of earlier inner steps added: zero_grad forgotten in the inner loop",
            {"momentum": 1.0},
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
    if inner_steps:
        found.append(Mistake("one inner step too few", {"extra_steps": -1}))
    return found


def _of_weights_in_place() -> list[Mistake]:
    first_order = {"second_order": 0.0}
    return [
        Mistake(
            "weights updated in place, and not restored between tasks",
            {**first_order, "chained": 1.0},
        ),
        Mistake(
            "weights updated in place: inner gradients left in the outer one",
            {**first_order, "accumulated": 1.0},
        ),
        Mistake(
            "weights updated in place: the last inner gradient left in the outer one, zero_grad "
            "forgotten before the query loss",
            {**first_order, "last_accumulated": 1.0},
        ),
        Mistake(
            "weights updated in place: zero_grad called once in a task",
            {**first_order, "accumulated": 1.0, "momentum": 1.0},
        ),
        Mistake(
            "weights updated in place: zero_grad never called",
            {**first_order, "momentum": 1.0, "state_kept": 1.0, "never_zeroed": 1.0},
        ),
    ]


def _of_batch_norm(follow_statistics: bool) -> list[Mistake]:
    query = {"query_evaluation": 1.0}
    found = [
        Mistake("batch norm in evaluation mode", {"evaluation": 1.0}),
        Mistake("batch norm in evaluation mode for the query alone", query),
    ]
    if follow_statistics:
        running = {**query, "running": RUNNING}
        found += [
            Mistake(
                "batch norm in evaluation mode for the query alone, by running statistics that "
                "each task starts anew",
                running,
            ),
            Mistake(
                "batch norm in evaluation mode for the query alone, by running statistics that "
                "are carried from task to task",
                {**running, "running_kept": 1.0},
            ),
        ]
    return found


class Catalogue:
    """The meta-gradients of one problem, correct and with every mistake.

    Each program is compiled when it is first needed: the correct one is compiled alone.
    """

    def __init__(self, problem: Problem):
        self.problem = problem.in_float64()
        running = _that_can_be_followed(self.problem)
        self.mistakes = mistakes(self.problem, running is not None)
        learner = mj.maml(problem.apply, problem.inner_lr, problem.inner_steps, loss=problem.loss)
        step = mj.over_tasks(learner, mesh=mj.task_mesh(1))
        self._correct = jax.jit(lambda params, episodes: step(params, episodes)[1])
        self._program = jax.jit(partial(meta_gradient, self.problem, running))
        self._compiled: dict[Any, Any] = {}
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
        with jax.enable_x64(True):
            if not made:
                return jax.device_get(self._correct(self.problem.params, self.problem.episodes))
            switches = Switches()
            for mistake in made:
                switches = switches._replace(**mistake.sets)
            episodes = exchanged(self.problem.episodes, switches.roles)
            values = jax.tree.map(
                lambda value, like: np.asarray(value, type(like)), switches, Switches()
            )
            arguments = self.problem.params, episodes, values
            shapes = tuple(leaf.shape for leaf in jax.tree.leaves(episodes))
            if shapes not in self._compiled:
                self._compiled[shapes] = compile_quickly(self._program.lower(*arguments))
            return jax.device_get(self._compiled[shapes](*arguments))

    def costs_a_compilation(self, mistake: Mistake) -> bool:
        """Whether its tasks have other shapes than those of the other mistakes."""
        support, query = self.problem.episodes
        return "roles" in mistake.sets and support.y.shape != query.y.shape

    def pairs(self) -> list[tuple[Mistake, Mistake]]:
        """All pairs of mistakes that can be made at once."""
        return [(a, b) for a, b in combinations(self.mistakes, 2) if a.compatible(b)]


def _that_can_be_followed(problem: Problem) -> EvaluationMode | None:
    """The network in evaluation mode, if the statistics of each batch can be read from it.

    Not where it runs a norm within a transformation of its own, such as a scan or a checkpoint.
    """
    evaluate = problem.eval_apply
    if not isinstance(evaluate, EvaluationMode):
        return None
    support = jax.tree.map(lambda leaf: leaf[0], problem.episodes.support)
    try:
        with jax.enable_x64(True):
            jax.eval_shape(evaluate.batch_statistics, problem.params, support.x)
    except jax.errors.UnexpectedTracerError:
        return None
    return evaluate
