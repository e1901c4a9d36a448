"""Training that a folder records: log, validations, checkpoints; stopping early or by a signal."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import jax
import numpy as np

from maml_jax.batching import hosts
from maml_jax.errors import InputError
from maml_jax.training import provenance
from maml_jax.training.build import Problem
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.config import Config
from maml_jax.training.evaluate import Evaluator, Scores
from maml_jax.training.interruption import interruption
from maml_jax.training.loop import Progress, TrainingError, run_updates
from maml_jax.training.metrics import Log, best_validation
from maml_jax.training.runs import training_tasks
from maml_jax.training.schedule import next_stop, outer_optimizer
from maml_jax.training.updates import Nonfinite, State
from maml_jax.types import Meta


class Outcome(NamedTuple):
    """How training ended."""

    state: State
    ended: Literal["done", "interrupted", "early"]
    """`early`: as many validations as the config's `patience` were not better than the best."""


def train_run(
    config: Config, run: Path | str, problem: Problem, state: State, *, quiet: bool = False
) -> Outcome:
    """Train in the folder `run` from `state` until `config.updates`, or until interrupted.

    Writes `metrics.jsonl` (a line per dispatch, and one per validation) and `checkpoints/`. On the
    main thread, SIGINT and SIGTERM end it after the dispatch in flight, with a checkpoint; a second
    one ends it at once. The caller holds the run's lock (`runs.locked`).

    Raises:
      TrainingError: an update is not finite, or the folder cannot be written; the last good state
        is, or stays, the newest checkpoint.
    """
    with interruption() as interrupted, closing(RunRecorder(config, run, problem, state)) as folder:

        def observe(now: Progress) -> bool:
            folder.record(now)
            return hosts.any_host(interrupted()) or folder.should_stop_early()

        if not folder.should_stop_early():
            state = run_updates(
                problem.learner,
                training_tasks(config, problem.data),
                outer_optimizer(config),
                state,
                tasks_per_update=config.tasks,
                updates=config.updates,
                next_stop=partial(next_stop, config=config),
                observe=observe,
                nonfinite=cast(Nonfinite, config.nonfinite),
                chunk=config.chunk,
                label=None if quiet or not hosts.is_first() else config.recipe,
            )
        folder.save(state)
        state = jax.tree.map(np.asarray, state)
        if state.update >= config.updates:
            return Outcome(state, "done")
        return Outcome(state, "early" if folder.should_stop_early() else "interrupted")


def validator(config: Config, problem: Problem) -> Evaluator | None:
    """What scores meta-parameters on tasks of the val split; None where the config says never."""
    if not config.validate_every:
        return None
    tasks = problem.data.tasks("val", ways=config.ways, shots=config.shots, queries=config.queries)
    return Evaluator(problem.learner, tasks, steps=config.evaluation_steps)


class RunRecorder:
    """Writes what training does into the folder of a run, and decides by it.

    It goes on from `state`: what the folder holds of later updates is deleted, since they will be
    made again. Runs of one learner and data may share `evaluator`, which compiles once.
    """

    def __init__(
        self,
        config: Config,
        run: Path | str,
        problem: Problem,
        state: State,
        evaluator: Evaluator | None = None,
    ):
        run = Path(run)
        self._config, self._run = config, run
        self._provenance = provenance.make(config, problem.data)
        self._checkpoints = Checkpoints(run)
        done = int(state.update)
        with self._writing():
            if hosts.is_first():
                self._checkpoints.delete_after(done)
            self._log = Log(run, done, config.log)
        self._evaluator = evaluator or validator(config, problem)

    def record(self, now: Progress) -> None:
        """Log how far training is; validate and save where the config says so."""
        config, update, state = self._config, now.update, now.state
        if now.metrics:
            self._append({"update": update, **now.metrics})
        if now.failed:
            self.save(state)
            return
        better = False
        if self._evaluator is not None and update % config.validate_every == 0:
            better = self.log_validation(self._evaluator, update, state.meta)
        if better or update % config.checkpoint_every == 0:
            self.save(state)

    def log_validation(self, evaluator: Evaluator, update: int, meta: Meta) -> bool:
        """Evaluate on the tasks of validation; return whether the score is the best so far."""
        meta = jax.tree.map(np.asarray, meta)  # off the mesh, or each device would do it all
        key = jax.random.fold_in(jax.random.key(self._config.seed), 2)
        scores = evaluator(meta, tasks=self._config.validation_tasks, key=key)
        scores = Scores(**hosts.from_first(vars(scores)))  # decides the same on all hosts
        self._append({"update": update, "validation": scores.to_json()})
        return best_validation(self._log.records) == update

    def should_stop_early(self) -> bool:
        """Whether more validations than the config's `patience` followed the best."""
        if self._config.patience is None:
            return False
        validated = [entry["update"] for entry in self._log.records if "validation" in entry]
        best = best_validation(self._log.records)
        return best is not None and len(validated[validated.index(best) :]) > self._config.patience

    def save(self, state: State) -> None:
        """Write a checkpoint, then delete those that the config does not keep."""
        with self._writing():
            self._log.flush()
            self._checkpoints.save(int(state.update), state, self._provenance)
            best = best_validation(self._log.records)
            if hosts.is_first():
                self._checkpoints.prune(self._config.keep_checkpoints, best)

    def close(self) -> None:
        self._log.close()

    def _append(self, entry: dict[str, Any]) -> None:
        with self._writing():
            self._log.append(entry)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            kept = self._checkpoints.updates()
            last = f"The last checkpoint is of update {kept[-1]}" if kept else "There is none yet"
            raise TrainingError(
                f"{self._run} cannot be written: {error}. {last}; --resume goes on from there."
            ) from error
        except ValueError as error:  # no fault of the disk: by its own reason
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TrainingError(f"{self._run} was not saved: {reason}") from error
