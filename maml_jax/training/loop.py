"""Meta-training from the host's side: dispatches, log, validation, checkpoints, stopping."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from maml_jax.batching import task_mesh
from maml_jax.data import TaskSource
from maml_jax.extras import require
from maml_jax.training import provenance as record
from maml_jax.training.build import Problem
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.config import Config
from maml_jax.training.evaluate import Evaluator, summary
from maml_jax.training.interruption import interruption
from maml_jax.training.metrics import Log
from maml_jax.training.prefetch import Feed
from maml_jax.training.updates import State, make_updates
from maml_jax.types import Meta


class Outcome(NamedTuple):
    """How training ended."""

    state: State
    ended: Literal["done", "interrupted", "early"]
    """`early`: the validations did not get better any more."""


class TrainingError(RuntimeError):
    """Training cannot go on; the last checkpoint is good."""


def training_tasks(config: Config, problem: Problem) -> TaskSource:
    """The tasks to learn from: those of the train split, in the form that the algorithm takes."""
    return problem.data.tasks(
        "train",
        ways=config.ways,
        shots=config.training_shots or config.shots,
        queries=config.queries,
        by_class=config.algorithm == "pretrained",
    )


def train(
    config: Config, run: Path, problem: Problem, state: State, *, quiet: bool = False
) -> Outcome:
    """Train in the folder `run` from `state` until `config.updates`, or until interrupted.

    Writes `metrics.jsonl` (a line per dispatch, and one per validation) and `checkpoints/`. SIGINT
    and SIGTERM end it after the dispatch in flight, with a checkpoint; a second one ends it at
    once. The caller holds the run's lock (`runs.locked`).

    Raises:
      TrainingError: an update is not finite, or nothing can be written; the last good state is, or
        stays, the newest checkpoint.
    """
    with interruption() as interrupted:
        try:
            folder = _Folder(config, run, problem, int(state.update))
            return _train(config, problem, state, folder, interrupted, quiet)
        except OSError as error:
            kept = Checkpoints(run).updates()
            last = f"The last checkpoint is of update {kept[-1]}" if kept else "There is none yet"
            raise TrainingError(
                f"{run} cannot be written: {error}. {last}; --resume goes on from there."
            ) from error


def _train(
    config: Config,
    problem: Problem,
    state: State,
    folder: "_Folder",
    interrupted: Callable[[], bool],
    quiet: bool,
) -> Outcome:
    source = training_tasks(config, problem)
    mesh = task_mesh(config.tasks)
    updates = make_updates(problem.learner, source, config, mesh)
    feed = Feed(source, config, state.key, mesh)
    state = jax.device_put(state, feed.everywhere)
    validate = _validator(problem, config)
    done = int(state.update)
    with _bar(config, done, quiet) as bar, closing(folder.log), feed:
        while done < config.updates and not interrupted() and not folder.stale():
            until = _next_stop(done, config)
            start, values, failed = done, _Means(), False
            while done < until and not failed:
                block, n = feed.block(done, until)
                state, some, stopped = updates(state, block, n)
                failed = bool(stopped)
                reached = int(state.update)
                values.add(some, reached - done)
                done = reached
            if done > start:
                skipped = int(state.skipped)
                means = values.result() | ({"skipped": skipped} if skipped else {})
                folder.log.append({"update": done, **means})
                shown = {name: f"{value:.3f}" for name, value in means.items()}
                bar.set_postfix(shown, refresh=False)
                bar.update(done - start)
            if failed:
                folder.save(state)
                raise TrainingError(
                    f"the loss of update {done + 1}, or what it would have made of the "
                    f"meta-parameters, was not finite; the state before it is kept. A smaller "
                    "`inner_lr` or `meta_lr`, or `meta_clip`, may help; --resume with --nonfinite "
                    "skip goes on without such updates."
                )
            better = False
            if config.validate_every and done % config.validate_every == 0:
                better = folder.judge(done, validate(state.meta))
            if better or done % config.checkpoint_every == 0:
                folder.save(state)
    folder.save(state)
    state = jax.tree.map(np.asarray, state)
    if done >= config.updates:
        return Outcome(state, "done")
    return Outcome(state, "early" if folder.stale() else "interrupted")


class _Folder:
    """What training writes: the log and the checkpoints, and what it knows from them."""

    def __init__(self, config: Config, run: Path, problem: Problem, done: int):
        self._config = config
        self._record = record.make(config, problem.data)
        self.checkpoints = Checkpoints(run)
        self.checkpoints.forget_after(done)
        self.log = Log(run, done, tensorboard=config.tensorboard)

    def judge(self, update: int, validation: dict[str, Any]) -> bool:
        """Log a validation; whether it is the best so far."""
        self.log.append({"update": update, "validation": validation})
        return best_validation(self.log.records) == update

    def stale(self) -> bool:
        """Whether as many validations as the config's `patience` were not the best so far."""
        if self._config.patience is None:
            return False
        judged = [entry["update"] for entry in self.log.records if "validation" in entry]
        best = best_validation(self.log.records)
        return best is not None and len(judged[judged.index(best) :]) > self._config.patience

    def save(self, state: State) -> None:
        self.log.flush()
        self.checkpoints.save(int(state.update), state, self._record)
        best = best_validation(self.log.records)
        self.checkpoints.prune(self._config.keep_checkpoints, best)


def best_validation(records: list[dict[str, Any]]) -> int | None:
    """The update of the best validation, by accuracy or else by loss; the first of equals."""
    best, score = None, -np.inf
    for entry in records:
        judged = entry.get("validation", {})
        value = judged.get("accuracy")
        if value is None and judged.get("loss") is not None:
            value = -judged["loss"]
        if value is not None and value > score:
            best, score = entry["update"], value
    return best


class _Means:
    """Means of metrics over the parts of a dispatch."""

    def __init__(self) -> None:
        self._parts: list[tuple[dict[str, Any], int]] = []

    def add(self, values: dict[str, Any], updates: int) -> None:
        if updates:
            self._parts.append(({name: float(value) for name, value in values.items()}, updates))

    def result(self) -> dict[str, float]:
        if len(self._parts) == 1:
            return self._parts[0][0]
        total = sum(updates for _, updates in self._parts)
        names = self._parts[0][0] if self._parts else {}
        return {
            name: sum(values[name] * updates for values, updates in self._parts) / total
            for name in names
        }


def _next_stop(done: int, config: Config) -> int:
    """The next update that is a multiple of anything that the host does."""
    periods = [config.updates_per_dispatch, config.checkpoint_every, config.validate_every]
    return min(*(done + period - done % period for period in periods if period), config.updates)


def _validator(problem: Problem, config: Config) -> Callable[[Meta], dict[str, Any]]:
    source = problem.data.tasks("val", ways=config.ways, shots=config.shots, queries=config.queries)
    evaluator = Evaluator(problem.learner, source, steps=config.evaluation_steps)
    key = jax.random.fold_in(jax.random.key(config.seed), 2)

    def validate(meta: Meta) -> dict[str, Any]:
        meta = jax.tree.map(np.asarray, meta)  # away from the mesh, or every device would do it all
        return summary(evaluator(meta, tasks=config.validation_tasks, key=key))

    return validate


def _bar(config: Config, done: int, quiet: bool) -> Any:
    tqdm = require("tqdm", "cli").tqdm
    return tqdm(
        total=config.updates, initial=done, unit="update", desc=config.recipe, disable=quiet
    )
