"""What a run is: every choice that decides its result, and nothing else.

The options stand in groups, which `maml-jax train --help` shows; a `Config` has the fields of all.
This module imports no JAX, so that help and errors come at once.
"""

import dataclasses
import inspect
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from maml_jax import registry
from maml_jax.errors import InputError, check_choice, check_count, check_number, check_seed

DOWNSAMPLES = ("stride", "maxpool")
SCHEDULES = ("cosine", "constant")
NORM_ORDERS = ("norm-relu", "relu-norm")
INNER_OPTIMIZERS = ("sgd", "momentum", "adam")
NONFINITE = ("stop", "skip")
RESUMABLE = ("updates", "nonfinite", "chunk", "data_dir", "log")
"""What may be given anew when a run goes on."""


@dataclass(frozen=True)
class RunOptions:
    """What is trained, and for how long."""

    recipe: str = "quickstart"
    """The recipe whose values the other options replace."""
    algorithm: str = "maml"
    """How to meta-learn."""
    updates: int = 3000
    """Updates of the meta-parameters, by Adam."""
    seed: int = 0
    """Decides the initial weights and every task."""
    init: str | None = None
    """Start from the weights of this run, or of pretrained:NAME, with its network and size of
    images. None: from random ones."""


@dataclass(frozen=True)
class DataOptions:
    """Where tasks come from."""

    data: str = "glyphs"
    """The data set, by name (glyphs is part of the package); a folder, zip or .npz of images; or
    what TFDS prepared, by its name."""
    data_dir: Path | None = None
    """The folder of the data's files; the environment variable MAML_JAX_DATA where not given."""
    split_seed: int = 1
    """Which random split of the classes, where the data set is split at random."""
    class_split: str | None = None
    """Which classes are for what: finn or vinyals for omniglot; else a JSON file, {"train":
    [names], "val": ..., "test": ...}, or random. None: the set's own, or 64, 16 and 20 % at random,
    but enough of each for --ways."""
    image_size: int | None = None
    """Resize images to that many pixels a side. None: the set's usual size, or their own."""
    channels: int | None = None
    """1 makes images grey, 3 gives them colours. None: as they are."""
    image_fit: str = "squash"
    """How images that are not square are made so: squash ignores their proportions, crop keeps
    their middle, pad adds white."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read, instead of refusing the set."""
    min_images: int | None = None
    """Leave out classes with fewer images. None: none."""


@dataclass(frozen=True)
class TaskOptions:
    """What a task holds."""

    ways: int = 5
    """Classes in a task; regression has none."""
    shots: int = 1
    """Support examples per class; of regression, support points."""
    queries: int = 1
    """Query examples per class while training; of regression, query points."""
    training_shots: int | None = None
    """Support examples per class while training, where they are not `shots`."""


@dataclass(frozen=True)
class ModelOptions:
    """The network; each model takes those that have a meaning for it."""

    model: str = "conv4"
    """The network: conv4, resnet12 and article-cnn are for images, gru and lstm for sequences, mlp
    for all."""
    downsample: str = "stride"
    """How conv4 halves its images: stride (Finn's for Omniglot) or maxpool."""
    filters: int = 64
    """Channels of each block of conv4, and of the first of resnet12."""
    hidden: tuple[int, ...] = (40, 40)
    """Widths of the hidden layers of mlp; of gru and lstm, which have one."""
    batch_norm: bool | None = None
    """Whether mlp normalises its hidden layers. None: where an example has several values."""
    norm_order: str = "norm-relu"
    """What comes first after a layer of conv4 or mlp: norm-relu or relu-norm."""
    norm_epsilon: float = 1e-5
    """What batch norm adds to the variance."""
    input_range: tuple[float, float] = (0.0, 1.0)
    """What the network is given for black and for white: -1 1 scales images to [-1, 1], 1 0 inverts
    them."""


@dataclass(frozen=True)
class InnerLoopOptions:
    """How a task is learned."""

    inner_lr: float = 0.4
    """Rate of the gradient steps within a task, for a loss that is a mean over examples."""
    inner_steps: int = 1
    """Gradient steps within a task while training; 0 trains on all tasks jointly."""
    evaluation_steps: int = 3
    """Gradient steps within a task when evaluating."""
    inner_optimizer: str = "sgd"
    """What takes those steps: sgd, momentum (0.9) or adam (first moment 0, second 0.999)."""
    inner_clip: float | None = None
    """Longest gradient of an inner step; longer ones are scaled down. None: no limit."""
    inner_batch: int | None = None
    """Support examples that an inner step sees. None: all of them."""
    adapts: str | None = None
    """A regular expression, found in the paths of the weights that adapt. None: the algorithm's."""
    differentiate: str = "mixed"
    """How the inner gradient is: mixed (exact, small memory), reverse (exact) or first_order."""


@dataclass(frozen=True)
class OuterLoopOptions:
    """How the meta-parameters are learned."""

    tasks: int = 32
    """Tasks per update."""
    meta_lr: float = 1e-3
    """Rate of Adam at the start."""
    meta_schedule: str = "cosine"
    """How that rate goes on: cosine (falls to 0 at the last update) or constant."""
    warm_up: int = 0
    """Updates in which that rate first rises from 0."""
    meta_clip: float | None = None
    """Longest meta-gradient; longer ones are scaled down. None: no limit."""
    nonfinite: str = "stop"
    """What to do about an update that is not finite: stop the run, or skip the update, which is
    counted."""


@dataclass(frozen=True)
class ImamlOptions:
    """For --algorithm imaml alone."""

    regularization: float = 2.0
    """How strongly adapted weights are held near the initial ones (lambda)."""
    solver: str = "cg"
    """cg (conjugate gradients) or neumann."""
    solver_steps: int = 5
    """Iterations of the solver."""
    damping: float = 0.0
    """Multiple of the identity that is added to the solver's matrix."""
    neumann_rate: float = 1.0
    """Step size of the neumann solver."""


@dataclass(frozen=True)
class CaviaOptions:
    """For --algorithm cavia alone."""

    context_size: int = 100
    """Length of the context vector."""


@dataclass(frozen=True)
class MamlPlusPlusOptions:
    """For --algorithm maml-plus-plus alone."""

    learn_rates: bool = True
    """Learn a rate for each array of weights and each step."""
    norm_per_step: bool = True
    """Learn batch norm's scales and biases for each step."""
    multi_step_until: float = 0.1
    """Part of training in which the losses after every step count; 0: none."""
    second_order_from: float = 0.0
    """Part of training before which inner gradients are constants."""


@dataclass(frozen=True)
class LogOptions:
    """What is logged and saved meanwhile, and when to end early."""

    validate_every: int = 500
    """Updates between two validations, which are logged; 0: never."""
    validation_tasks: int = 200
    """Tasks of a validation."""
    patience: int | None = None
    """Validations in a row without a better one after which training ends. None: it does not."""
    checkpoint_every: int = 1000
    """Updates between two checkpoints; a best validation and an interruption make one more."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay, besides that of the best validation."""
    log: tuple[str, ...] = ()
    """Where the log goes besides metrics.jsonl, one or more: csv and tensorboard write files into
    the run's folder; wandb (offline, unless WANDB_MODE says otherwise) is Weights & Biases."""


@dataclass(frozen=True)
class MachineOptions:
    """How it is computed here."""

    precision: str = "default"
    """Bits of the network's arithmetic: default (JAX's for the device), float32, tensorfloat32 or
    bfloat16; weights and losses stay float32."""
    chunk: int | None = None
    """Tasks that a device computes side by side; results are equal to rounding. None: long runs
    measure it once and write it down here, others take what fits a CPU's cache, else all."""
    updates_per_dispatch: int = 50
    """Updates per jitted call; the host logs after each call."""
    in_memory_gb: float | None = None
    """Splits larger than that stay on the host, and tasks are fetched ahead. None: a quarter of the
    device's memory."""


GROUPS = {
    "run": RunOptions,
    "data": DataOptions,
    "task": TaskOptions,
    "model": ModelOptions,
    "inner_loop": InnerLoopOptions,
    "outer_loop": OuterLoopOptions,
    "imaml": ImamlOptions,
    "cavia": CaviaOptions,
    "maml_plus_plus": MamlPlusPlusOptions,
    "log": LogOptions,
    "machine": MachineOptions,
}


def _fields(*groups: Any) -> tuple[str, ...]:
    return tuple(field.name for group in groups for field in dataclasses.fields(group))


_OF_SOME_ALGORITHMS = (
    *("inner_optimizer", "inner_clip", "inner_batch", "adapts", "differentiate"),
    *_fields(ImamlOptions, CaviaOptions, MamlPlusPlusOptions),
)
_KEYWORDS = {"inner_batch": "batch_size", "inner_clip": "inner_optimizer"}
"""The keyword by which an algorithm takes an option, where it has another name."""


def options_of(algorithm: str) -> tuple[str, ...]:
    """The options that this algorithm takes and not every algorithm does, by its signature."""
    keywords = inspect.signature(registry.find("algorithms", algorithm)).parameters
    return tuple(name for name in _OF_SOME_ALGORITHMS if _KEYWORDS.get(name, name) in keywords)


@dataclass(frozen=True)
class Config(
    MachineOptions,
    LogOptions,
    MamlPlusPlusOptions,
    CaviaOptions,
    ImamlOptions,
    OuterLoopOptions,
    InnerLoopOptions,
    ModelOptions,
    TaskOptions,
    DataOptions,
    RunOptions,  # a dataclass has the fields of its last base first
):
    """One training run. The same config and seed give the same bits on the same machine."""

    def check(self) -> "Config":
        """The config itself, or an `InputError` that names the first bad field.

        What a number means to the data, the model or the algorithm, these check themselves.
        """
        from maml_jax.adapters import PRECISIONS  # these import JAX
        from maml_jax.core.metagrad import Differentiate
        from maml_jax.data.pictures import FITS

        for name, kind in get_type_hints(Config).items():
            _check_type(name, getattr(self, name), kind)
        check_choice("algorithm", self.algorithm, registry.names("algorithms"))
        check_choice("model", self.model, registry.names("models"))
        check_choice("downsample", self.downsample, DOWNSAMPLES)
        check_choice("norm_order", self.norm_order, NORM_ORDERS)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("differentiate", self.differentiate, get_args(Differentiate))
        check_choice("meta_schedule", self.meta_schedule, SCHEDULES)
        check_choice("nonfinite", self.nonfinite, NONFINITE)
        check_choice("image_fit", self.image_fit, FITS)
        check_choice("inner_optimizer", self.inner_optimizer, INNER_OPTIMIZERS)
        for name in ("shots", "queries", "filters", "tasks", "updates_per_dispatch"):
            check_count(name, getattr(self, name))
        for name in ("validation_tasks", "checkpoint_every", "keep_checkpoints"):
            check_count(name, getattr(self, name))
        # A run of weights that were imported may have no updates; training asks for at least one.
        for name in ("updates", "inner_steps", "evaluation_steps", "validate_every", "warm_up"):
            check_count(name, getattr(self, name), least=0)
        check_count("ways", self.ways, least=2)
        for width in self.hidden:
            check_count("hidden", width)
        for name in ("seed", "split_seed"):
            check_seed(name, getattr(self, name))
        for name in ("chunk", "inner_batch", "training_shots", "patience", "min_images"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        self._check_input_range()
        for name in ("inner_lr", "meta_lr", "inner_clip", "meta_clip", "norm_epsilon"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"`{name}` was {value}; it must be a finite number above 0.")
        if self.in_memory_gb is not None:
            check_number("in_memory_gb", self.in_memory_gb)
        if self.patience is not None and not self.validate_every:
            raise InputError("`patience` was given; it needs a `validate_every` above 0.")
        if self.adapts is not None:
            try:
                re.compile(self.adapts)
            except re.error as error:
                raise InputError(f"`adapts` was {self.adapts!r}; as a pattern: {error}.") from error
        self._check_algorithm_takes_options()
        return self

    def _check_input_range(self) -> None:
        ends = self.input_range
        if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] == ends[1]:
            raise InputError(
                f"`input_range` was {ends}; it must be two finite numbers that differ: what the "
                "network is given for black and for white."
            )

    def _check_algorithm_takes_options(self) -> None:
        for name in _OF_SOME_ALGORITHMS:
            value = getattr(self, name)
            if value == getattr(Config, name) or name in options_of(self.algorithm):
                continue
            takers = [one for one in registry.names("algorithms") if name in options_of(one)]
            raise InputError(
                f"`{name}` was {value}; {self.algorithm} has none: it is for {', '.join(takers)}."
            )

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["data_dir"] = None if self.data_dir is None else str(self.data_dir)
        return values


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Whether a value is of the type of its field; integers are floats too."""
    kinds = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    known = [get_args(one)[0] if get_origin(one) is tuple else one for one in kinds]
    for one in value if get_origin(kind) is tuple and isinstance(value, tuple) else [value]:
        fits = isinstance(one, tuple(known)) or (float in known and type(one) is int)
        if not fits or (isinstance(one, bool) and bool not in known):
            allowed = " or ".join("None" if k is NoneType else k.__name__ for k in known)
            raise InputError(f"`{name}` was {value!r}; it must be {allowed}.")


def read_config(run: Path | str) -> Config:
    """The config of a run folder.

    Raises:
      InputError: there is none, or it is not a config of this version.
    """
    path = Path(run, "config.json")
    if not path.is_file():
        raise InputError(f"`run` was {run}; it must be the folder of a run, with a config.json.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["config"]
        values["hidden"] = tuple(values["hidden"])
        if "input_range" in values:  # which older runs do not have
            values["input_range"] = tuple(values["input_range"])
        if "tensorboard" in values:  # which older runs have instead of `log`
            values["log"] = ("tensorboard",) if values.pop("tensorboard") else ()
        values["log"] = tuple(values.get("log", ()))
        values["data_dir"] = values["data_dir"] and Path(values["data_dir"])
        config = Config(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"`run` was {run}; its config.json is damaged: {error}.") from error
    return config.check()
