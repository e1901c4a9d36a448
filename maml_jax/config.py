"""What a run is: every choice that decides its result, and nothing else."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maml_jax import algorithms
from maml_jax.data import DATA_SETS
from maml_jax.errors import InputError, check_choice, check_count, check_seed

ALGORITHMS = tuple(name.replace("_", "-") for name in algorithms.__all__)
MODELS = ("conv4", "article-cnn", "mlp")
DOWNSAMPLES = ("stride", "maxpool")
SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class Config:
    """One training run. The same config and seed give the same bits on the same machine."""

    recipe: str = "quickstart"
    """The recipe whose values the other options replace."""
    algorithm: str = "maml"
    """How to meta-learn: maml, fomaml."""
    data: str = "glyphs"
    """The tasks: glyphs (embedded), omniglot, sinusoid."""
    data_dir: Path | None = None
    """The folder of the data's files; the environment variable MAML_JAX_DATA where not given."""
    split_seed: int = 1
    """Which random split of the classes, where the data set is split at random."""
    ways: int = 5
    """Classes in a task; regression has none."""
    shots: int = 1
    """Support examples per class."""
    queries: int = 1
    """Query examples per class while training."""
    model: str = "conv4"
    """The network: conv4, article-cnn, mlp."""
    downsample: str = "stride"
    """How conv4 halves its images: stride (Finn's for Omniglot) or maxpool."""
    filters: int = 64
    """Channels of each block of conv4."""
    hidden: tuple[int, ...] = (40, 40)
    """Widths of the hidden layers of mlp."""
    inner_lr: float = 0.4
    """Rate of the gradient steps within a task, for a loss that is a mean over examples."""
    inner_steps: int = 1
    """Gradient steps within a task while training; 0 trains on all tasks jointly."""
    evaluation_steps: int = 3
    """Gradient steps within a task when evaluating."""
    tasks: int = 32
    """Tasks per update."""
    updates: int = 3000
    """Updates of the meta-parameters, by Adam."""
    meta_lr: float = 1e-3
    """Rate of Adam at the start."""
    meta_schedule: str = "cosine"
    """How that rate goes on: cosine (falls to 0 at the last update) or constant."""
    seed: int = 0
    """Decides the initial weights and every task."""
    chunk: int | None = None
    """Tasks computed side by side; None: a rule for the device. Results are equal to rounding."""
    updates_per_dispatch: int = 50
    """Updates that run on the device between two looks from the host."""
    validate_every: int = 500
    """Updates between two validations, which are logged; 0: never."""
    validation_tasks: int = 200
    """Tasks of a validation."""
    checkpoint_every: int = 1000
    """Updates between two checkpoints; an interrupted run saves one more."""

    def check(self) -> "Config":
        """The config itself, or an `InputError` that names the first bad field."""
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("data", self.data, DATA_SETS)
        check_choice("model", self.model, MODELS)
        check_choice("downsample", self.downsample, DOWNSAMPLES)
        check_choice("meta_schedule", self.meta_schedule, SCHEDULES)
        for name in ("shots", "queries", "filters", "tasks", "updates", "updates_per_dispatch"):
            check_count(name, getattr(self, name))
        for name in ("validation_tasks", "checkpoint_every"):
            check_count(name, getattr(self, name))
        for name in ("inner_steps", "evaluation_steps", "validate_every"):
            check_count(name, getattr(self, name), least=0)
        check_count("ways", self.ways, least=2)
        for width in self.hidden:
            check_count("hidden", width)
        if self.chunk is not None:
            check_count("chunk", self.chunk)
        for name in ("seed", "split_seed"):
            check_seed(name, getattr(self, name))
        for name in ("inner_lr", "meta_lr"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"`{name}` was {getattr(self, name)}; it must be above 0.")
        if self.data == "sinusoid" and self.model != "mlp":
            raise InputError(f"`model` was {self.model!r}; sinusoid has no images: it takes mlp.")
        return self

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["data_dir"] = None if self.data_dir is None else str(self.data_dir)
        return values


def read_config(run: Path) -> Config:
    """The config of a run folder.

    Raises:
      InputError: there is none, or it is not a config of this version.
    """
    path = run / "config.json"
    if not path.is_file():
        raise InputError(f"`run` was {run}; it must be the folder of a run, with a config.json.")
    try:
        values = json.loads(path.read_text())["config"]
        values["hidden"] = tuple(values["hidden"])
        values["data_dir"] = values["data_dir"] and Path(values["data_dir"])
        return Config(**values).check()
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"`run` was {run}; its config.json is damaged: {error}.") from error
