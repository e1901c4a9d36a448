"""The options of each command, as dataclasses that tyro turns into flags and help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from maml_jax.training.config import Config


@dataclass(frozen=True)
class Train:
    """Options of a new run: the fields of its config, and where it goes."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path | None = None
    """The folder of the run, which must not exist; if not given, runs/RECIPE-ALGORITHM-SEED."""
    resume: Path | None = None
    """Go on with this run instead, exactly as if it had never stopped; of the other options only
    --updates and --nonfinite may be given with it."""


@dataclass(frozen=True)
class Resume:
    """Options of a run that goes on."""

    resume: Path
    """The folder of the run to go on with."""
    updates: int | None = None
    """Go on to this many updates in all; a cosine schedule then ends there."""
    nonfinite: str | None = None
    """What to do about an update that is not finite from now on: stop or skip."""


@dataclass(frozen=True)
class Evaluate:
    """Options of an evaluation."""

    run: tyro.conf.Positional[Path]
    """The folder of the run."""
    tasks: int = 1000
    """How many tasks."""
    queries: int = 15
    """Query examples per class of a task."""
    shots: int | None = None
    """Support examples per class; those of training where not given."""
    steps: int | None = None
    """Inner steps; the evaluation steps of the run's config where not given."""
    split: str | None = None
    """Which classes: test, val, train or all; if not given, test, and of another data set all."""
    transductive: bool = True
    """Normalise a task's queries together; if not, each query with the support set alone."""
    per_step: bool = True
    """Judge after every inner step; if not, after the last alone, which is faster."""
    data: str | None = None
    """Another data set to test on, by name or path, its images resized and made grey or coloured
    as those of training; the one of training where not given."""
    data_dir: Path | None = None
    """The folder of the data's files; the one of training where not given."""
    checkpoint: str = "latest"
    """Which weights: those of the latest checkpoint, or of the best by validation."""
    seed: int = 0
    """Decides the tasks."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON, accuracies as fractions."""


@dataclass(frozen=True)
class Report:
    """Options of the pictures."""

    run: tyro.conf.Positional[Path]
    """The folder of the run."""


@dataclass(frozen=True)
class Export:
    """Options of an export."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The new file, .safetensors or .pt."""
    data_dir: Path | None = None
    """The folder of the data's files; the one of training where not given."""


@dataclass(frozen=True)
class Import:
    """Options of an import: the fields of the run's config, and where it goes."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The file of weights, .safetensors or .pt (a state_dict)."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Path
    """The folder of the run, which must not exist."""
    mapping: Path | None = None
    """A JSON file, {"their name": "our path"}, where names and shapes do not tell."""


@dataclass(frozen=True)
class Prepare:
    """Options of preparing a data set."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """The data set, as TensorFlow Datasets names it: mnist, fashion_mnist, cifar100, ..."""
    data_dir: Path | None = None
    """The folder to put it in; where TFDS puts it where not given."""
    manual_dir: Path | None = None
    """A folder with the original files, which then are not downloaded."""


@dataclass(frozen=True)
class Show:
    """Options of a sheet of pictures."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """The data set, by all that --data of train takes."""
    out: Path | None = None
    """The new file of the sheet; NAME.png where not given."""
    data_dir: Path | None = None
    """The folder of the data's files; the environment variable MAML_JAX_DATA where not given."""
    class_split: str | None = None
    """As for train."""
    image_size: int | None = None
    """Resize images to that many pixels a side."""
    channels: int | None = None
    """1 makes images grey, 3 gives them colours."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 1
    """Support images per class."""
    queries: int = 5
    """Query images per class."""
    seed: int = 0
    """Decides which classes and episodes are shown."""
