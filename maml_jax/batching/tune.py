"""Measures how many tasks to compute together."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from maml_jax.batching.devices import AXIS, default_mesh
from maml_jax.batching.over_tasks import default_chunk, over_tasks
from maml_jax.core.checks import check_episodes
from maml_jax.errors import InputError, check_number
from maml_jax.types import Episode, Meta, MetaLearner

REPEATS = 5
CLEARLY_SLOWER = 1.5
"""A chunk this many times slower than the fastest is not repeated; after two in a row it ends."""
WORTHWHILE = 0.97
"""A chunk must need less than this part of the default's time to be taken instead of it."""


class Plan(NamedTuple):
    """A measured choice of how many tasks to compute together on one device."""

    chunk: int
    """The choice, for `over_tasks(learner, plan.chunk)`."""
    default: int
    """`default_chunk`, which `over_tasks` takes if it is not told."""
    seconds: dict[int, float]
    """The median time of one step by chunk, for all that were measured."""

    def __str__(self) -> str:
        choice = f"{self.chunk} tasks together, {_ms(self.seconds[self.chunk])} a step"
        if self.chunk == self.default:
            others = ", ".join(
                f"{chunk}: {_ms(seconds)}"
                for chunk, seconds in sorted(self.seconds.items())
                if chunk != self.chunk
            )
            return f"{choice}; the default is the fastest measured ({others or 'alone'})"
        if self.default not in self.seconds:
            return f"{choice}; the default, {self.default}, did not fit in memory"
        return f"{choice}, against {_ms(self.seconds[self.default])} by default ({self.default})"


def tune(
    learner: MetaLearner,
    meta: Meta,
    episodes: Episode,
    mesh: Mesh | None = None,
    *,
    budget_s: float = 60.0,
) -> Plan:
    """Time `over_tasks` at 1, 2, 4, … and all tasks of a device together.

    Pass the result on: `over_tasks(learner, plan.chunk)`. Nothing is stored. Results of a step are
    the same to rounding whatever the chunk, and not to the bit.

    It begins with the default, so that this is always measured, and goes on until two chunks in a
    row are clearly slower, or none is left, or the time is up. Where another chunk comes out first,
    it and the default are timed once more, in turns.

    Args:
      learner: what is done with one task.
      meta: its meta-parameters.
      episodes: a batch of episodes like those to come; their values do not matter.
      mesh: the mesh that `over_tasks` will get.
      budget_s: seconds after which no further chunk is begun.

    Returns:
      The plan; `str` of it says what was chosen and why.

    Raises:
      InputError: not one of `episodes` fits in memory, a negative `budget_s`, or several processes.
    """
    if jax.process_count() > 1:
        raise InputError(
            f"`tune` ran in {jax.process_count()} processes; measure in one, with a device's share "
            "of the tasks, and pass its `chunk` to `over_tasks` in all."
        )
    budget_s = check_number("budget_s", budget_s)
    tasks = check_episodes(episodes, of_batches=False)  # which `over_tasks` checks
    if mesh is None:
        mesh = default_mesh(tasks)
    devices = 1 if mesh is None else mesh.shape.get(AXIS, 1)
    most = -(-tasks // devices)
    if mesh is not None:
        dealt = PartitionSpec(AXIS) if tasks % devices == 0 else PartitionSpec()
        meta = jax.device_put(meta, NamedSharding(mesh, PartitionSpec()))
        episodes = jax.device_put(episodes, NamedSharding(mesh, dealt))

    steps: dict[int, Callable[..., Any]] = {}

    def measure(chunk: int, limit: float) -> float | None:
        steps[chunk] = jax.jit(over_tasks(learner, chunk, mesh))
        return _time(steps[chunk], (meta, episodes), limit)

    default = default_chunk(meta, episodes, devices)
    seconds = search(candidates(most, default), measure, budget_s)
    if not seconds:
        raise InputError(f"`episodes` held {tasks} tasks; not even one fits in memory.")
    chunk = _choice(seconds, default)
    if chunk != default and default in seconds:
        finalists = {size: partial(steps[size], meta, episodes) for size in (default, chunk)}
        rounds = min(REPEATS, budget_s / (seconds[default] + seconds[chunk]))
        seconds |= in_turns(finalists, rounds)
    return Plan(_choice(seconds, default), default, seconds)


def candidates(tasks: int, default: int) -> list[int]:
    """1, 2, 4, … and `tasks`, from the default outwards."""
    chunks = {2**n for n in range(tasks.bit_length()) if 2**n < tasks} | {tasks, default}
    return sorted(chunks, key=lambda chunk: max(chunk / default, default / chunk))


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


def _choice(seconds: dict[int, float], default: int) -> int:
    """The fastest, or the default where the difference may be the clock's."""
    fastest = min(seconds, key=lambda chunk: seconds[chunk])
    worthwhile = default not in seconds or seconds[fastest] < WORTHWHILE * seconds[default]
    return fastest if worthwhile else default


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


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
