"""Run folders: made, opened again, evaluated."""

import dataclasses
import json
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from maml_jax.build import Problem, build
from maml_jax.checkpoint import Checkpoints
from maml_jax.config import Config, read_config
from maml_jax.data import DataSet
from maml_jax.data import load as load_data
from maml_jax.errors import InputError, check_count, check_seed
from maml_jax.evaluate import Evaluator, summary
from maml_jax.train import State, initial_state, training_tasks


def create(config: Config, run: Path) -> tuple[Problem, State]:
    """Check everything, then make the folder and write `config.json` there.

    Raises:
      InputError: a bad config, data that does not allow it, or a folder that exists.
    """
    if run.exists():
        raise InputError(
            f"`out` was {run}, which exists; name another, or go on with it by --resume."
        )
    problem = build(config.check())
    training_tasks(config, problem)
    for split in ("val", "test"):
        problem.data.tasks(split, ways=config.ways, shots=config.shots, queries=config.queries)
    run.mkdir(parents=True)
    record = {"config": config.to_json(), "data": problem.data.facts(), "versions": versions()}
    (run / "config.json").write_text(json.dumps(record, indent=2) + "\n")
    return problem, initial_state(problem, config)


def load(run: Path, **changes: Any) -> tuple[Config, Problem, State]:
    """A run as it was last saved, with `changes` of its config, those that are not None.

    Raises:
      InputError: not the folder of a run, no checkpoint in it or a damaged one, or missing data.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    config = dataclasses.replace(read_config(run), **given).check()
    problem = build(config)
    return config, problem, Checkpoints(run).restore(initial_state(problem, config))


def evaluate(
    run: Path,
    *,
    tasks: int = 1000,
    queries: int = 15,
    shots: int | None = None,
    steps: int | None = None,
    split: str = "test",
    transductive: bool = True,
    per_step: bool = True,
    data: str | None = None,
    data_dir: Path | None = None,
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
      split: `test`, `val` or `train`.
      transductive: normalise a task's queries together; if not, each with the support set alone.
      per_step: judge the weights after every inner step, and not the last alone.
      data: another data set to test on; None: the one of training.
      data_dir: the folder of the data's files; None: the one of training.
      seed: decides the tasks.
      progress: told of tasks done.

    Raises:
      InputError: an argument out of range, or a run that cannot be loaded.
    """
    check_count("tasks", tasks)
    check_seed("seed", seed)
    if steps is not None:
        check_count("steps", steps, least=0)
    config, problem, state = load(run, data_dir=data_dir)
    steps = config.evaluation_steps if steps is None else steps
    shots = config.shots if shots is None else shots
    tested = _other_data(config, problem.data, data)
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
        "versions": versions(),
    }


def _other_data(config: Config, trained_on: DataSet, name: str | None) -> DataSet:
    """The data set of that name, if a model for the other can take its examples."""
    if name is None or name == config.data:
        return trained_on
    data = load_data(name, config.data_dir, config.split_seed)
    if data.input_shape != trained_on.input_shape or data.loss is not trained_on.loss:
        raise InputError(
            f"`data` was {name!r}, whose examples are {data.input_shape}; "
            f"the model of this run takes {config.data}'s, {trained_on.input_shape}."
        )
    return data


def versions() -> dict[str, str]:
    """What computed a run."""
    packages = ("maml-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found, "device": jax.devices()[0].device_kind}
