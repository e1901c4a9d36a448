"""Run folders: made, locked, opened again, evaluated."""

import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from maml_jax.batching import task_mesh, tune
from maml_jax.data import DataSet
from maml_jax.errors import InputError, check_choice, check_count, check_seed
from maml_jax.extras import require
from maml_jax.training import metrics
from maml_jax.training import provenance as record
from maml_jax.training.build import Problem, build, load_data
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.config import Config, read_config
from maml_jax.training.evaluate import Evaluator, summary
from maml_jax.training.loop import best_validation, training_tasks
from maml_jax.training.updates import State, initial_state, task_keys

_log = logging.getLogger("maml_jax")

WORTH_TUNING = 10_000
"""Updates of a run from which on it pays to measure how many tasks to compute side by side."""


def create(config: Config, run: Path) -> tuple[Config, Problem, State]:
    """Check everything, then make the folder, with `config.json` in it.

    Returns:
      The config, with its `chunk` measured if the run is long, the problem, and where it starts.

    Raises:
      InputError: a bad config, data that does not allow it, or a folder that exists.
    """
    if os.path.lexists(run):
        raise InputError(
            f"`out` was {run}, which exists; name another, or go on with it by --resume."
        )
    problem = build(config.check())
    training_tasks(config, problem)
    for split in ("val", "test"):
        problem.data.tasks(split, ways=config.ways, shots=config.shots, queries=config.queries)
    state = initial_state(problem, config)
    if config.chunk is None and config.updates >= WORTH_TUNING:
        config = dataclasses.replace(config, chunk=_measured_chunk(config, problem, state))
    with new_folder(run) as fresh:
        fresh.mkdir()
        _write_config(fresh, record.make(config, problem.data))
    return config, problem, state


def _measured_chunk(config: Config, problem: Problem, state: State) -> int:
    source = training_tasks(config, problem)
    items = source.items(task_keys(state.key, 0, config.tasks))
    episodes = jax.jit(jax.vmap(source.sample, (None, 0)))(source.store, items)
    mesh = task_mesh(config.tasks)
    plan = tune(problem.learner, state.meta, episodes, mesh)
    _log.info("tasks side by side: %s", plan)
    return plan.chunk


@contextmanager
def new_folder(run: Path) -> Iterator[Path]:
    """A path nearby for what becomes the folder `run` if all goes well, whole or not at all.

    Raises:
      InputError: the folder cannot be made.
    """
    try:
        near = next(folder for folder in run.absolute().parents if folder.is_dir())
        with tempfile.TemporaryDirectory(dir=near, prefix=".") as folder:
            yield Path(folder, "run")
            run.absolute().parent.mkdir(parents=True, exist_ok=True)
            Path(folder, "run").rename(run)
    except OSError as error:
        raise InputError(f"`out` was {run}; it cannot be made: {error.strerror}.") from error


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes from training in this folder; the system ends it with the process.

    Raises:
      InputError: another process trains there, or there is no such folder.
    """
    filelock = require("filelock", "cli")
    read_config(run)
    try:
        with filelock.FileLock(run / "lock", blocking=False):
            yield
    except filelock.Timeout as error:
        raise InputError(f"`run` was {run}, in which another process trains now.") from error


def load(
    run: Path, *, checkpoint: str = "latest", data_dir: Path | None = None
) -> tuple[Config, Problem, State]:
    """A run as it was saved.

    Args:
      run: its folder.
      checkpoint: `latest`, or `best` by validation.
      data_dir: where the data is now; None: where it was.

    Raises:
      InputError: not the folder of a run, no checkpoint in it, a damaged one, or other data.
    """
    check_choice("checkpoint", checkpoint, ("latest", "best"))
    config, problem, state = _opened(run, {} if data_dir is None else {"data_dir": data_dir})
    update = None
    if checkpoint == "best":
        update = best_validation(metrics.read(run))
        if update is None:
            raise InputError(f"`checkpoint` was 'best'; {run} has no validation in its log.")
    state, kept = Checkpoints(run).restore(state, update)
    record.check(run, kept, record.make(config, problem.data))
    return config, problem, state


def resume(run: Path, **changes: Any) -> tuple[Config, Problem, State]:
    """A run to go on with, from its newest whole checkpoint, or from the start if there is none.

    Args:
      run: its folder, which the caller has locked.
      changes: new values for fields of its config that `RESUMABLE` names; None: the old value.

    Raises:
      InputError: as for `load`.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    config, problem, state = _opened(run, changes)
    now = record.make(config, problem.data)
    checkpoints = Checkpoints(run)
    kept = json.loads((run / "config.json").read_text())
    if checkpoints.updates():
        state, kept = checkpoints.restore(state)
    record.check(run, kept, now)
    if changes:
        _write_config(run, now)
    return config, problem, state


def _opened(run: Path, changes: dict[str, Any]) -> tuple[Config, Problem, State]:
    config = dataclasses.replace(read_config(run), **changes).check()
    problem = build(config)
    return config, problem, initial_state(problem, config)


def _write_config(run: Path, content: dict[str, Any]) -> None:
    fresh = run / "config.new"
    fresh.write_text(json.dumps(content, indent=2) + "\n")
    fresh.replace(run / "config.json")


def evaluate(
    run: Path,
    *,
    tasks: int = 1000,
    queries: int = 15,
    shots: int | None = None,
    steps: int | None = None,
    split: str | None = None,
    transductive: bool = True,
    per_step: bool = True,
    data: str | None = None,
    data_dir: Path | None = None,
    checkpoint: str = "latest",
    seed: int = 0,
    progress: Callable[[int], Any] = lambda _: None,
) -> dict[str, Any]:
    """Adapt a run's model to new tasks and judge it; the result is JSON.

    Args:
      run: the folder of the run.
      tasks: how many tasks.
      queries: query examples per class.
      shots: support examples per class; None: those of training.
      steps: inner steps; None: the config's `evaluation_steps`.
      split: `test`, `val`, `train`, or of images `all`; None: `test`, but `all` of another data
        set.
      transductive: normalise a task's queries together; if not, each with the support set alone.
      per_step: judge the weights after every inner step, and not the last alone.
      data: another data set to test on, its images resized, and made grey or coloured, as those
        of training; None: the one of training.
      data_dir: the folder of the data's files; None: the one of training.
      checkpoint: `latest`, or `best` by validation.
      seed: decides the tasks.
      progress: told of tasks done.

    Raises:
      InputError: an argument out of range, or a run that cannot be loaded.
    """
    check_count("tasks", tasks)
    check_seed("seed", seed)
    if steps is not None:
        check_count("steps", steps, least=0)
    config, problem, state = load(run, checkpoint=checkpoint, data_dir=data_dir)
    steps = config.evaluation_steps if steps is None else steps
    shots = config.shots if shots is None else shots
    tested = _other_data(config, problem.data, data)
    if split is None:
        split = "test" if tested is problem.data else "all"
    source = tested.tasks(split, ways=config.ways, shots=shots, queries=queries)
    evaluator = Evaluator(
        problem.learner, source, steps=steps, transductive=transductive, per_step=per_step
    )
    key = jax.random.fold_in(jax.random.key(seed), 4)
    scores = evaluator(state.meta, tasks=tasks, key=key, progress=progress)
    return {
        "recipe": config.recipe,
        "algorithm": config.algorithm,
        "data": data or config.data,
        "split": split,
        "updates": int(state.update),
        "ways": config.ways,
        "shots": shots,
        "queries": queries,
        "tasks": tasks,
        "steps": steps,
        "seed": seed,
        "batch_norm": "transductive: the queries of a task together"
        if transductive
        else "each query with the support set",
        **summary(scores),
        "config": {name: value for name, value in config.to_json().items() if name != "data_dir"},
        "versions": record.versions(),
    }


def _other_data(config: Config, trained_on: DataSet, name: str | None) -> DataSet:
    """The data set of that name, if a model for the other can take its examples."""
    if name is None or name == config.data:
        return trained_on
    fit = {}
    if len(trained_on.input_shape) == 3 and name not in ("sequences", "sinusoid"):
        fit = {"image_size": trained_on.input_shape[0], "channels": trained_on.input_shape[-1]}
    data = load_data(config, name, **fit)
    if data.input_shape != trained_on.input_shape or data.loss is not trained_on.loss:
        raise InputError(
            f"`data` was {name!r}, whose examples are {data.input_shape}; "
            f"the model of this run takes {config.data}'s, {trained_on.input_shape}."
        )
    return data
