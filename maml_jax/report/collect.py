"""From the folder of a run to what its report shows."""

import dataclasses
import logging
import shlex
from collections.abc import Callable
from pathlib import Path

from maml_jax.data import DataSet
from maml_jax.errors import InputError, check_count, check_seed
from maml_jax.report.contents import Contents
from maml_jax.report.settings import settings_of, train_command
from maml_jax.report.tested import evaluated
from maml_jax.training import metrics, provenance, runs
from maml_jax.training.build import load_data
from maml_jax.training.runs import Restored

_log = logging.getLogger("maml_jax")


def collect(
    run: Path | str,
    *,
    tasks: int,
    seed: int,
    data: str | None = None,
    data_dir: Path | str | None = None,
    checkpoint: str = "latest",
    progress: Callable[[int], object],
) -> Contents:
    """What the report of a run shows; without its data, what needs none.

    Args:
      run: the folder of the run, or `pretrained:NAME`.
      tasks: how many tasks of the test split are evaluated.
      seed: decides these tasks.
      data: where its data is now, by name or path; None: where it was.
      data_dir: where the files of its data are now; None: where they were.
      checkpoint: `latest`, or `best` by validation.
      progress: told of tasks done.

    Raises:
      InputError: an argument out of range, a run that cannot be loaded, or `data` or a `data_dir`
        that is not the data that the run was trained on.
    """
    check_count("tasks", tasks)
    check_seed("seed", seed)
    log = metrics.read(runs.folder_of(run))
    restored = runs.restore(run, checkpoint=checkpoint, data_dir=data_dir)
    config, name = restored.config, runs.folder_of(run).absolute().name
    held, missing = _data_of(restored, run, data, data_dir)
    return Contents(
        name=name,
        summary=_summary(restored),
        kind=restored.examples.kind,
        updates=int(restored.state.update),
        settings=settings_of(config),
        log=log,
        tested=None
        if held is None
        else evaluated(restored, held, tasks=tasks, seed=seed, progress=progress),
        missing=missing,
        versions=_versions(restored, seed),
        commands=_commands(restored, name, tasks, seed, checkpoint),
    )


def _data_of(
    restored: Restored, run: Path | str, place: str | None, data_dir: Path | str | None
) -> tuple[DataSet | None, str | None]:
    """The data of the run, at the `place` where it is now, or why it is not there."""
    config = runs.moved(restored.config, data_dir)
    if place is not None:
        config = runs.from_anywhere(dataclasses.replace(config, data=place))
    try:
        data = load_data(config)
        option = "data_dir" if place is None else "data"
        provenance.check_data(Path(run), restored.provenance, data, option=option)
    except InputError as error:
        if (place, data_dir) != (None, None):
            raise
        _log.warning("no evaluation and no tasks, which need the data: %s", error)
        return None, (
            "Scores, tasks and confused classes are left out, for they need the data of the run, "
            "which was not there."
        )
    return data, None


def _summary(restored: Restored) -> str:
    config, done = restored.config, int(restored.state.update)
    shape = f"{config.ways}-way {config.shots}-shot"
    if restored.examples.kind == "regression":
        shape = f"{config.shots} points a task"
    updates = f"{done:,}" if done == config.updates else f"{done:,} of {config.updates:,}"
    return f"{config.algorithm} on {config.data}, {shape}, after {updates} updates"


def _versions(restored: Restored, seed: int) -> dict[str, str]:
    """Seeds, then what was recorded of versions and device in training."""
    config, record = restored.config, restored.provenance
    return {
        "seed of training": str(config.seed),
        "seed of the split": str(config.split_seed),
        "seed of these tests": str(seed),
        **{name: value if value != "" else "none" for name, value in record["versions"].items()},
        "commit": record.get("commit") or "not recorded",
    }


def _commands(
    restored: Restored, name: str, tasks: int, seed: int, checkpoint: str
) -> list[tuple[str, str]]:
    config, record = restored.config, restored.provenance
    if record["data"] is None:
        train = ("Its weights were imported from a file, by maml-jax import.", "")
    else:
        train = ("Train it:", train_command(config, name))
    words = [shlex.quote(name), "--tasks", str(tasks), "--seed", str(seed)]
    words += [] if checkpoint == "latest" else ["--checkpoint", checkpoint]
    place = ["--data-dir", "DATA_FOLDER"] if config.data_dir is not None else []
    evaluate = " ".join(["maml-jax", "evaluate", *words, *place])
    return [
        train,
        ("Evaluate it on the same tasks:", evaluate),
        ("Write this page:", " ".join(["maml-jax", "report", *words, *place])),
    ]
