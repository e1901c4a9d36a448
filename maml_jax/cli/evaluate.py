"""The commands `evaluate` and `report`, which read a run."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import FlagCreatePairsOff, Positional

from maml_jax.errors import check_count
from maml_jax.extras import require


@dataclass(frozen=True)
class Evaluate:
    """Test a trained model on new tasks."""

    run: Positional[Path]
    """The folder of the run."""
    tasks: int = 1000
    """How many tasks."""
    queries: int | None = None
    """Query examples per class of a task; of regression, query points. 15 where not given, or as
    many as the smallest class has."""
    shots: int | None = None
    """Support examples per class; those of training where not given."""
    ways: int | None = None
    """Classes in a task, as many as in training or fewer; those of training where not given."""
    steps: int | None = None
    """Inner steps; the evaluation steps of the run's config where not given."""
    split: str | None = None
    """Which classes: test, val, train or all; if not given, test, and of another data set all."""
    transductive: bool = True
    """Normalise a task's queries together; if not, each query with the support set alone."""
    per_step: bool = True
    """Score the weights after every inner step; if not, after the last alone, which is faster."""
    data: str | None = None
    """Another data set to test on, by name or path, its images resized and made grey or coloured
    as those of training; the one of training where not given."""
    data_dir: Path | None = None
    """The folder of the data's files; the one of training where not given."""
    checkpoint: str = "latest"
    """Which weights: those of the latest checkpoint, or of the best by validation."""
    seed: int = 0
    """Decides the tasks."""
    json: FlagCreatePairsOff[bool] = False
    """Print JSON, accuracies as fractions."""

    def __call__(self) -> int:
        from maml_jax.training import runs
        from maml_jax.training.metrics import to_json

        values = dataclasses.asdict(self)
        as_json = values.pop("json")
        tasks = check_count("tasks", self.tasks)
        tqdm = require("tqdm", "cli").tqdm
        with tqdm(total=tasks, unit="task", leave=False, disable=None) as bar:
            result = runs.evaluate(**values, progress=bar.update)
        print(to_json(result, indent=2) if as_json else table(result))
        return 0


@dataclass(frozen=True)
class Report:
    """Write a page on a run: settings, learning curves, scores, tasks, confused classes."""

    run: Positional[Path]
    """The folder of the run."""
    tasks: int = 200
    """How many tasks of the test split to evaluate for it."""
    out: Path | None = None
    """Write it to this new .html file; report.html in the folder of the run where not given."""
    data: str | None = None
    """Where the data of the run is now, by name or path, if it has moved."""
    data_dir: Path | None = None
    """The folder of the data's files; the one of training where not given."""
    checkpoint: str = "latest"
    """Which weights: those of the latest checkpoint, or of the best by validation."""
    seed: int = 0
    """Decides the tasks."""

    def __call__(self) -> int:
        from maml_jax import report

        tasks = check_count("tasks", self.tasks)
        tqdm = require("tqdm", "cli").tqdm
        with tqdm(total=tasks, unit="task", leave=False, disable=None) as bar:
            page = report.write(**dataclasses.asdict(self), progress=bar.update)
        print(page)
        return 0


def table(result: dict[str, Any]) -> str:
    """An evaluation for people: percentages for accuracies."""
    heading = (
        f"{result['algorithm']} on {result['data']} ({result['split']} split), "
        f"{result['tasks']} tasks of {result['shots']} support and {result['queries']} query"
    )
    if "accuracy" in result:
        name, title, scale, unit, digits = "accuracy", "accuracy", 100.0, " %", 2
        lines = [f"{heading} examples per class", f"batch norm: {result['batch_norm']}"]
    else:
        title = result["loss_function"].replace("_", " ")
        name, scale, unit, digits = "loss", 1.0, "", 4
        lines = [f"{heading} points"]
    lines += ["", f"inner steps   {title}, mean ± 95 % interval"]
    rows = list(zip(result[f"{name}_per_step"], result[f"{name}_per_step_ci95"], strict=True))
    for step, (mean, interval) in enumerate(rows, start=result["steps"] + 1 - len(rows)):
        lines.append(
            f"{step:11d}   {scale * mean:.{digits}f} ± {scale * interval:.{digits}f}{unit}"
        )
    if "nearest_neighbour" in result:
        nearest = result["nearest_neighbour"]
        lines.append(
            f"    nearest   {scale * nearest['accuracy']:.2f} ± "
            f"{scale * nearest['accuracy_ci95']:.2f}{unit}  (label of the nearest support example)"
        )
    return "\n".join(lines)
