"""Runs that differ in seed and rate alone, trained side by side in one program."""

import dataclasses
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from maml_jax.batching import task_mesh
from maml_jax.data.sources import queries_in
from maml_jax.errors import InputError, check_count, check_seed
from maml_jax.training import runs
from maml_jax.training.build import Problem
from maml_jax.training.config import Config
from maml_jax.training.evaluate import Evaluator, evaluation_key
from maml_jax.training.interruption import interruption
from maml_jax.training.loop import Progress, TrainingError, progress_bar
from maml_jax.training.recorder import RunRecorder, train_run, validator
from maml_jax.training.schedule import next_stop, outer_optimizer
from maml_jax.training.updates import Block, Nonfinite, State, Totals, updates_of, zero_totals

AXIS = "runs"
"""The name of the mesh axis that runs are dealt over."""


class Member(NamedTuple):
    """A run of a sweep."""

    run: Path
    config: Config
    problem: Problem
    state: State


class Ended(NamedTuple):
    """How the training of a member ended."""

    state: State
    how: str
    """As in `Outcome`, or why it failed."""


def create(
    config: Config, out: Path | str, seeds: Sequence[int], meta_lrs: Sequence[float] = ()
) -> list[Member]:
    """Make the folder of each run in `out`, as `runs.create` makes one.

    Args:
      config: what they have in common.
      out: the folder of their folders, which must not exist.
      seeds: their seeds.
      meta_lrs: their rates, with each of the seeds; none: that of `config`.

    Raises:
      InputError: none of `seeds`, one twice, or what `runs.create` raises.
    """
    out = Path(out)
    if os.path.lexists(out):
        raise InputError(f"`out` was {out}, which exists; name another.")
    for name, values in (("seeds", seeds), ("meta_lrs", meta_lrs)):
        if len(set(values)) < len(values) or (name == "seeds" and not values):
            raise InputError(f"`{name}` was {tuple(values)}; it must be one or more, each once.")
    for seed in seeds:
        check_seed("seeds", seed)
    configs = {}  # checked before the first folder is made
    for rate in meta_lrs or (config.meta_lr,):
        for seed in seeds:
            name = f"seed-{seed}" if len(meta_lrs) < 2 else f"meta-lr-{rate!r}-seed-{seed}"
            configs[name] = dataclasses.replace(config, seed=seed, meta_lr=rate).check()
    members: list[Member] = []
    for name, one in configs.items():
        if members:  # what was measured for the first
            one = dataclasses.replace(one, chunk=members[0].config.chunk)
        members.append(Member(out / name, *runs.create(one, out / name)))
    return members


def train(
    members: Sequence[Member], *, together: int | None = None, quiet: bool = False
) -> list[Ended]:
    """Train each in its folder, as `train_run` does: equal to rounding to the run trained alone.

    One program makes the updates of many runs, by `vmap`, dealt over the devices. A run that ends
    early or fails leaves the others be. Where the examples stay on the host, each run is trained
    alone.

    Args:
      members: what `create` made.
      together: how many runs one program trains; None: all.
      quiet: no progress bar.

    Returns:
      An `Ended` for each; where one was interrupted the rest may be missing.

    Raises:
      InputError: `together` below 1, or so many do not fit in the device's memory.
    """
    if together is not None:
        together = check_count("together", together)
    first = members[0]
    source = runs.training_tasks(first.config, first.problem.data)
    ended: list[Ended] = []
    if source.load is not None or len(members) == 1:
        for member in members:
            ended.append(_alone(member, quiet))
            if ended[-1].how == "interrupted":
                break
        return ended
    size = together or len(members)
    for start in range(0, len(members), size):
        try:
            ended += _side_by_side(members[start : start + size], source, quiet)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise InputError(
                f"`together` was {size}; so many runs do not fit in memory: give fewer."
            ) from error
        if any(end.how == "interrupted" for end in ended):
            break
    return ended


def _alone(member: Member, quiet: bool) -> Ended:
    try:
        with runs.locked(member.run):
            state, how = train_run(
                member.config, member.run, member.problem, member.state, quiet=quiet
            )
            return Ended(state, how)
    except TrainingError as error:
        return Ended(_last_saved(member), str(error))


def _last_saved(member: Member) -> State:
    """Of a run that failed; where nothing could be saved, as it began."""
    try:
        return runs.restore(member.run).state
    except InputError:
        return member.state


def _side_by_side(members: Sequence[Member], source: Any, quiet: bool) -> list[Ended]:
    config, problem = members[0].config, members[0].problem
    devices = task_mesh(len(members)).devices
    mesh = jax.make_mesh((devices.size,), (AXIS,), (AxisType.Auto,), devices=list(devices.flat))
    dealt, everywhere = PartitionSpec(AXIS), PartitionSpec()
    update_of = partial(
        updates_of,
        problem.learner,
        source,
        tasks_per_update=config.tasks,
        updates=config.updates,
        mesh=None,
        nonfinite=cast(Nonfinite, config.nonfinite),
        chunk=config.chunk,
    )

    def one(rate: Any, state: State, totals: Totals, block: Block, n: Any) -> Any:
        optimizer = outer_optimizer(dataclasses.replace(config, meta_lr=rate))
        return update_of(optimizer)[1](state, totals, block, n)

    run = jax.jit(
        jax.shard_map(
            jax.vmap(one, in_axes=(0, 0, 0, None, None)),
            mesh=mesh,
            in_specs=(dealt, dealt, dealt, everywhere, everywhere),
            out_specs=dealt,
            check_vma=False,
        ),
        donate_argnums=(1, 2),
    )
    # The last devices may have a run to spare, which is made again and left out.
    slots = -(-len(members) // devices.size) * devices.size
    filled = [members[i % len(members)] for i in range(slots)]

    def stacked(trees: Sequence[Any]) -> Any:
        many = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)
        return jax.device_put(many, NamedSharding(mesh, dealt))

    block = jax.device_put(Block(source.store), NamedSharding(mesh, everywhere))
    update, _ = update_of(outer_optimizer(config))
    zeros = zero_totals(update, members[0].state, block)
    rates = stacked([np.float32(member.config.meta_lr) for member in filled])
    states = stacked([member.state for member in filled])
    ended: dict[int, Ended] = {}
    done = int(members[0].state.update)
    shared = validator(config, problem)
    label = None if quiet else f"{len(members)} runs"
    with ExitStack() as opened:
        interrupted = opened.enter_context(interruption())
        recorders = []
        for member in members:
            opened.enter_context(runs.locked(member.run))
            made = RunRecorder(member.config, member.run, member.problem, member.state, shared)
            recorders.append(opened.enter_context(closing(made)))
        bar = opened.enter_context(progress_bar(label, done, config.updates))
        last = [member.state for member in members]
        while done < config.updates and len(ended) < len(members) and not interrupted():
            stop = min(next_stop(done, config), config.updates)
            states, totals, failed = run(
                rates, states, stacked([zeros] * slots), block, stop - done
            )
            found = jax.tree.map(np.asarray, (states, totals, failed))
            bar.update(stop - done)
            done = stop
            for i in sorted(set(range(len(members))) - ended.keys()):
                last[i], sums, stuck = jax.tree.map(lambda leaf, i=i: leaf[i], found)
                how = _record(recorders[i], last[i], sums, bool(stuck))
                if how is not None:
                    ended[i] = Ended(last[i], how)
        for i, recorder in enumerate(recorders):
            if i not in ended:
                how = "done" if last[i].update >= config.updates else "interrupted"
                ended[i] = Ended(last[i], how)
                try:
                    recorder.save(last[i])
                except TrainingError as error:
                    ended[i] = Ended(last[i], str(error))
    return [ended[i] for i in range(len(members))]


def _record(recorder: RunRecorder, state: State, totals: Totals, failed: bool) -> str | None:
    """Record how far a run is; why it has ended, or None where it goes on."""
    update, metrics = int(state.update), {}
    if totals.updates > 0:
        metrics = totals.means()
        if state.skipped:
            metrics["skipped"] = int(state.skipped)
    try:
        recorder.record(Progress(state, update, metrics, failed))
        if failed:
            return f"the loss of update {update + 1}, or what it made, was not finite"
        if recorder.should_stop_early():
            recorder.save(state)
            return "early"
    except TrainingError as error:
        return str(error)
    return None


def evaluate(members: Sequence[Member], ended: Sequence[Ended], tasks: int) -> dict[str, Any]:
    """The score of each run on test tasks, as `maml-jax evaluate` has it, and over the seeds.

    Args:
      members: the runs.
      ended: how they ended.
      tasks: how many tasks.

    Returns:
      JSON: `runs`, and `rates` with the mean over seeds and the spread, their sample deviation.
    """
    tasks = check_count("tasks", tasks)
    first = members[0]
    config, data = first.config, first.problem.data
    queries = queries_in(data, "test", config.shots, runs.QUERIES)
    source = data.tasks("test", ways=config.ways, shots=config.shots, queries=queries)
    scorer = Evaluator(first.problem.learner, source, steps=config.evaluation_steps)
    rows = []
    for member, end in zip(members, ended, strict=True):
        scores = scorer(end.state.meta, tasks=tasks, key=evaluation_key(0))
        name = "loss" if scores.accuracy is None else "accuracy"
        rows.append(
            {
                "run": member.run.name,
                "seed": member.config.seed,
                "meta_lr": member.config.meta_lr,
                "updates": int(end.state.update),
                "ended": end.how,
                name: getattr(scores, name),
                f"{name}_ci95": getattr(scores, f"{name}_ci95"),
            }
        )
    rates = []
    for rate in dict.fromkeys(row["meta_lr"] for row in rows):
        values = np.array([row[name] for row in rows if row["meta_lr"] == rate])
        spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        rates.append(
            {
                "meta_lr": rate,
                "runs": len(values),
                f"{name}_mean": float(values.mean()),
                f"{name}_spread": spread,
            }
        )
    return {"score": name, "tasks": tasks, "queries": queries, "runs": rows, "rates": rates}
