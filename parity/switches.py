"""One program that computes the meta-gradient of MAML, correct or with known mistakes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from maml_jax.core.trees import path_name
from parity.evaluation_mode import EvaluationMode
from parity.problem import Problem

NONE = 1e100
"""A limit that nothing reaches; the derivative of an infinite one would be NaN."""
SWAPPED, SUPPORT_TWICE, QUERY_TWICE = 1, 2, 3
"""`Switches.roles`."""
AGAIN, LAST, FIRST = 1, 2, 3
"""`Switches.counted`."""


class Switches(NamedTuple):
    """How a meta-gradient is computed; the defaults are correct."""

    second_order: float = 1.0
    graph_from: int = 0
    """The first inner step whose gradient is differentiated."""
    detached: float = 0.0
    """Hold the weights that an inner step moves constant, but not its gradient."""
    roles: int = 0
    """0, or the sets exchanged, or adapted to and evaluated on the support set, or the query set.
    """
    extra_steps: int = 0
    rate: float = 1.0
    """A factor of the inner rate."""
    head_only: float = 0.0
    """Adapt the head alone."""
    softmax: float = 0.0
    """Apply a softmax to the outputs before a loss that applies one itself."""
    evaluation: float = 0.0
    """Normalise by fixed statistics in batch norm."""
    query_evaluation: float = 0.0
    """Normalise the queries alone by fixed or running statistics."""
    running: float = 0.0
    """The share of the newest batch in the running statistics; 0: they stay fixed."""
    running_kept: float = 0.0
    """Carry the running statistics from task to task."""
    together: float = 0.0
    """Put the queries into one batch with the support set."""
    leaked: float = 0.0
    """Take the query loss over that whole batch."""
    decay: float = 0.0
    """The weight decay in the inner steps."""
    clip: float = NONE
    """The largest norm of the whole inner gradient."""
    clip_value: float = NONE
    """The largest element of the inner gradient."""
    momentum: float = 0.0
    """Of the inner optimizer; 1 adds up all its gradients."""
    adam: float = 0.0
    """Take the inner steps by Adam."""
    state_kept: float = 0.0
    """Carry the state of the inner optimizer from task to task."""
    chained: float = 0.0
    """Start each task from the adapted weights of the task before."""
    accumulated: float = 0.0
    """Add the inner gradients to the outer one."""
    last_accumulated: float = 0.0
    """Add the last inner gradient to the outer one."""
    never_zeroed: float = 0.0
    """With momentum 1 and its state kept: the outer gradients are added to that state too."""
    counted: int = 0
    """0, or earlier tasks counted again with each later one, or only the last or the first task."""
    factor: float = 1.0
    """A factor of the whole meta-gradient."""


class _State(NamedTuple):
    """What an inner optimizer and the batch norms keep."""

    first: Any
    second: Any
    steps: Any
    statistics: Any


def exchanged(episodes: Any, roles: int) -> Any:
    """The episodes with the sets in these roles."""
    support, query = episodes.support, episodes.query
    if roles == SWAPPED:
        support, query = query, support
    elif roles == SUPPORT_TWICE:
        query = support
    elif roles == QUERY_TWICE:
        support = query
    return episodes._replace(support=support, query=query)


def meta_gradient(
    problem: Problem, running: EvaluationMode | None, params: Any, episodes: Any, s: Switches
) -> Any:
    """The meta-gradient with these switches.

    Args:
      problem: the problem; its weights and episodes are not used.
      running: `problem.eval_apply`, if its running statistics can be followed; None: `s.running`
        must be 0.
      params: the weights.
      episodes: the tasks.
      s: the switches.
    """
    tasks = len(episodes.support.y)
    evaluate = problem.eval_apply

    def with_softmax(out):
        if jnp.issubdtype(episodes.support.y.dtype, jnp.integer):
            out = jnp.where(s.softmax > 0, jax.nn.softmax(out), out)
        return out

    def training(weights, x):
        return with_softmax(problem.apply(weights, x))

    def support_loss(weights, support):
        out = problem.apply(weights, support.x)
        if evaluate is not None:
            out = lax.cond(s.evaluation > 0, evaluate, lambda *_: out, weights, support.x)
        return problem.loss(with_softmax(out), support.y)

    def query_loss(weights, episode, statistics):
        both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *episode)
        joint = training(weights, both.x)
        alone = training(weights, episode.query.x)
        if evaluate is not None:

            def by_statistics(weights, x):
                if running is not None:
                    return with_softmax(running.with_statistics(weights, x, statistics))
                return with_softmax(evaluate(weights, x))

            by = s.evaluation + s.query_evaluation
            alone = lax.cond(by > 0, by_statistics, lambda *_: alone, weights, episode.query.x)
        of_query = jnp.where(s.together > 0, joint[len(episode.support.y) :], alone)
        of_both = problem.loss(joint, both.y)
        return jnp.where(s.leaked > 0, of_both, problem.loss(of_query, episode.query.y))

    def adapts(path):
        return 1.0 if problem.is_head(path_name(path)) else 1.0 - s.head_only

    def direction(g, state):
        """What the inner optimizer makes of a gradient, and its state after that."""
        keep, gain = (jnp.where(s.adam > 0, a, b) for a, b in ((0.9, s.momentum), (0.1, 1.0)))
        first = jax.tree.map(lambda m, g: keep * m + gain * g, state.first, g)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, state.second, g)
        steps = state.steps + 1

        def by_adam(m, v):
            # The derivative of the root at 0 is infinite, and there m is 0 as well.
            root = jnp.sqrt(jnp.where(v > 0, v, 1.0) / (1 - 0.999**steps))
            step = m / (1 - 0.9**steps) / (root + 1e-8)
            return jnp.where(s.adam > 0, jnp.where(v > 0, step, 0.0), m)

        return jax.tree.map(by_adam, first, second), state._replace(
            first=first, second=second, steps=steps
        )

    def adapt(start, state, support):
        def step(carry, k):
            fast, total, last, state = carry
            taken = jnp.where(k < problem.inner_steps + s.extra_steps, 1.0, 0.0)
            exact = jax.grad(support_loss)(fast, support)
            constant = jax.tree.map(lax.stop_gradient, exact)
            total = jax.tree.map(lambda t, g: t + taken * g, total, constant)
            last = jax.tree.map(lambda t, g: jnp.where(taken > 0, g, t), last, constant)
            differentiated = s.second_order * (k >= s.graph_from)

            def clipped(path, w, g, c):
                g = jnp.where(differentiated > 0, g, c) + s.decay * w
                return jnp.clip(g, -s.clip_value, s.clip_value) * adapts(path)

            slope = jax.tree.map_with_path(clipped, fast, exact, constant)
            norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(slope)))
            shrink = jnp.where(norm > s.clip, s.clip / norm, 1.0)
            slope = jax.tree.map(lambda g: shrink * g, slope)
            moves, after = direction(slope, state)
            if running is not None:
                batch = running.batch_statistics(lax.stop_gradient(fast), support.x)
                after = after._replace(
                    statistics=jax.tree.map(
                        lambda old, new: old + s.running * (new - old), state.statistics, batch
                    )
                )
            state = jax.tree.map(lambda a, b: jnp.where(taken > 0, a, b), after, state)
            rate = problem.inner_lr * s.rate * taken

            def moved(w, g):
                return jnp.where(s.detached > 0, lax.stop_gradient(w), w) - rate * g

            # A step that is not taken must not cut the graph either.
            fast = jax.tree.map(lambda w, g: jnp.where(taken > 0, moved(w, g), w), fast, moves)
            return (fast, total, last, state), None

        nothing = jax.tree.map(jnp.zeros_like, start)
        steps = jnp.arange(problem.inner_steps + 1)  # one more than correct, taken or not
        return lax.scan(step, (start, nothing, nothing, state), steps)[0]

    def objective(start, state, episode):
        fast, total, last, state = adapt(start, state, episode.support)
        return query_loss(fast, episode, state.statistics), (fast, total, last, state)

    def one_task(carry, episode):
        start, state = carry
        slope, (fast, total, last, after) = jax.grad(objective, has_aux=True)(start, state, episode)
        slope = jax.tree.map(
            lambda g, t, u: g + s.accumulated * t + s.last_accumulated * u, slope, total, last
        )
        first = jax.tree.map(lambda m, g: m + s.never_zeroed * g, after.first, slope)
        slope = jax.tree.map(lambda g, m: jnp.where(s.never_zeroed > 0, m, g), slope, first)
        start = jax.tree.map(lambda w, f: jnp.where(s.chained > 0, f, w), start, fast)
        after = after._replace(first=first)
        kept = jax.tree.map(lambda a, b: jnp.where(s.state_kept > 0, a, b), after, fresh)
        statistics = jax.tree.map(
            lambda a, b: jnp.where(s.running_kept > 0, a, b), after.statistics, fresh.statistics
        )
        return (start, kept._replace(statistics=statistics)), slope

    nothing = jax.tree.map(jnp.zeros_like, params)
    statistics: Any = ()
    if running is not None:
        statistics = running.own_statistics(params, episodes.support.x[0])
        statistics = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), statistics)
    fresh = _State(nothing, nothing, jnp.zeros(()), statistics)
    _, slopes = lax.scan(one_task, (params, fresh), episodes)
    later = jnp.arange(tasks)[::-1]  # how many tasks come after each
    counts = jnp.select(
        [s.counted == AGAIN, s.counted == LAST, s.counted == FIRST],
        [1.0 + later, tasks * (later == 0.0), tasks * (later == tasks - 1.0)],
        jnp.ones(tasks),
    )
    return jax.tree.map(
        lambda leaf: s.factor * jnp.einsum("t,t...->...", counts, leaf) / tasks, slopes
    )
