"""Measures how many tasks to compute together, and remembers it for `over_tasks`."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maml_jax.batching import plans
from maml_jax.batching.over_tasks import over_tasks
from maml_jax.batching.plans import Plan
from maml_jax.errors import InputError, check_number
from maml_jax.types import Episode, Meta, MetaLearner

REPEATS = 5
CLEARLY_SLOWER = 1.5
"""A chunk this many times slower than the fastest is not repeated; after two in a row it ends."""
WORTHWHILE = 0.97
"""A chunk must need less than this part of the rule's time to be taken instead of it."""


def tune(
    learner: MetaLearner,
    meta: Meta,
    episodes: Episode,
    mesh: Mesh | None = None,
    *,
    budget_s: float = 60.0,
    again: bool = False,
) -> Plan:
    """Time `over_tasks` at 1, 2, 4, … and all tasks of a device together; remember the fastest.

    `over_tasks(learner)` takes it from then on, in every program on this machine that has the same
    problem: the same program for one task, as many tasks on a device, as many devices. Results are
    the same to rounding whatever the chunk, and not to the bit: a program that must repeat itself
    exactly records `plan.chunk` and passes it to `over_tasks`.

    Begins with the choice of the rule, so that it is always among what was measured, and goes on
    until two chunks in a row are clearly slower, or none is left, or the time is up. Where another
    chunk comes out first, it and the rule's are timed once more, in turns.

    Args:
      learner: what is done with one task.
      meta: its meta-parameters.
      episodes: a batch of episodes like those to come; their values do not matter.
      mesh: the mesh that `over_tasks` will get.
      budget_s: seconds after which no further chunk is begun.
      again: measure although it was measured before.

    Returns:
      The plan; `str` of it says what was taken and why.

    Raises:
      InputError: not one of `episodes` fits in memory, a negative `budget_s`, or several processes.
    """
    if jax.process_count() > 1:
        raise InputError(
            f"`tune` ran in {jax.process_count()} processes; measure in one, with a device's share "
            "of the tasks, and pass its `chunk` to `over_tasks` in all."
        )
    check_number("budget_s", budget_s)
    devices = 1 if mesh is None else mesh.shape.get("tasks", 1)
    tasks = jax.tree.leaves(episodes)[0].shape[0]
    most = -(-tasks // devices)
    share = jax.tree.map(lambda leaf: leaf[:most], episodes)
    known = None if again else plans.recall(learner, meta, share, devices)
    if known is not None:
        return known
    if mesh is not None:
        dealt = PartitionSpec("tasks") if tasks % devices == 0 else PartitionSpec()
        meta = jax.device_put(meta, NamedSharding(mesh, PartitionSpec()))
        episodes = jax.device_put(episodes, NamedSharding(mesh, dealt))

    steps: dict[int, Callable[..., Any]] = {}

    def measure(chunk: int, limit: float) -> float | None:
        steps[chunk] = jax.jit(over_tasks(learner, chunk, mesh))
        return _time(steps[chunk], (meta, episodes), limit)

    rule = plans.rule(meta, share)
    seconds = search(candidates(most, rule), measure, budget_s)
    if not seconds:
        raise InputError(f"`episodes` held {tasks} tasks; not even one fits in memory.")
    chunk = _choice(seconds, rule)
    if chunk != rule and rule in seconds:
        finalists = {size: partial(steps[size], meta, episodes) for size in (rule, chunk)}
        seconds |= in_turns(finalists, min(REPEATS, budget_s / (seconds[rule] + seconds[chunk])))
    plan = Plan(_choice(seconds, rule), rule, seconds)
    return plan._replace(file=plans.remember(plans.key(learner, meta, share, devices), plan))


def candidates(tasks: int, rule: int) -> list[int]:
    """1, 2, 4, … and `tasks`, from the rule's choice outwards."""
    chunks = {2**n for n in range(tasks.bit_length()) if 2**n < tasks} | {tasks, rule}
    return sorted(chunks, key=lambda chunk: max(chunk / rule, rule / chunk))


def search(
    chunks: list[int], measure: Callable[[int, float], float | None], budget_s: float
) -> dict[int, float]:
    """Times by chunk, as far as the budget and the prospects go.

    Args:
      chunks: what to measure, in this order.
      measure: `measure(chunk, limit) -> seconds`, after one step if that took more than `limit`
        seconds; None if the chunk does not fit in memory.
      budget_s: seconds after which no further chunk is begun.
    """
    seconds: dict[int, float] = {}
    start, slower = time.monotonic(), 0
    for chunk in chunks:
        if seconds and (slower == 2 or time.monotonic() - start > budget_s):
            break
        limit = CLEARLY_SLOWER * min(seconds.values(), default=float("inf"))
        measured = measure(chunk, limit)
        if measured is None:
            continue
        seconds[chunk] = measured
        slower = slower + 1 if measured > limit else 0
    return seconds


def in_turns(steps: Mapping[int, Callable[[], Any]], rounds: float) -> dict[int, float]:
    """Median seconds of each step, taken in turns, so that other work on the machine slows all.

    At least one round, and no further one beyond `rounds`.
    """
    times: dict[int, list[float]] = {chunk: [] for chunk in steps}
    for _ in range(max(1, int(rounds))):
        for chunk, step in steps.items():
            times[chunk].append(_once(step))
    return {chunk: statistics.median(taken) for chunk, taken in times.items()}


def _choice(seconds: dict[int, float], rule: int) -> int:
    """The fastest, or the rule's where the difference may be the clock's."""
    fastest = min(seconds, key=lambda chunk: seconds[chunk])
    worthwhile = rule not in seconds or seconds[fastest] < WORTHWHILE * seconds[rule]
    return fastest if worthwhile else rule


def _time(step: Callable[..., Any], arguments: tuple[Any, ...], limit: float) -> float | None:
    """The median of `REPEATS` calls after the first; of one if that took more than `limit`."""
    try:
        jax.block_until_ready(step(*arguments))  # compiles
        times: list[float] = []
        while len(times) < REPEATS and not (times and times[0] > limit):
            times.append(_once(lambda: step(*arguments)))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return statistics.median(times)


def _once(step: Callable[[], Any]) -> float:
    """Seconds until the step's results are there."""
    start = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - start
