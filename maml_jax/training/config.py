"""What a run is: every choice that decides its result, and nothing else."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from maml_jax import registry
from maml_jax.adapters.precision import PRECISIONS
from maml_jax.core.metagrad import Differentiate
from maml_jax.errors import InputError, check_choice, check_count, check_number, check_seed

ALGORITHMS = registry.names("algorithms")
MODELS = ("conv4", "resnet12", "article-cnn", "mlp", "gru", "lstm")
DOWNSAMPLES = ("stride", "maxpool")
SCHEDULES = ("cosine", "constant")
_MODELS_FOR = {"sinusoid": ("mlp",), "sequences": ("gru", "lstm", "mlp")}
INNER_OPTIMIZERS = ("sgd", "momentum", "adam")
NONFINITE = ("stop", "skip")
RESUMABLE = ("updates", "nonfinite")
"""What may be given anew when a run goes on."""


def _but(*names: str) -> tuple[str, ...]:
    return tuple(name for name in ALGORITHMS if name not in names)


# The options that only some algorithms have.
TAKEN_BY = {
    "inner_optimizer": _but("meta-sgd", "maml-plus-plus", "protonet"),
    "inner_clip": _but("meta-sgd", "maml-plus-plus", "protonet"),
    "inner_batch": _but("imaml", "protonet"),
    "adapts": _but("protonet"),
    "differentiate": _but("fomaml", "imaml", "pretrained", "protonet", "reptile", "scratch"),
    **dict.fromkeys(
        ("regularization", "solver", "solver_steps", "damping", "neumann_rate"), ("imaml",)
    ),
    "context_size": ("cavia",),
    **dict.fromkeys(
        ("learn_rates", "norm_per_step", "multi_step_until", "second_order_from"),
        ("maml-plus-plus",),
    ),
}


@dataclass(frozen=True)
class Config:
    """One training run. The same config and seed give the same bits on the same machine."""

    recipe: str = "quickstart"
    """The recipe whose values the other options replace."""
    algorithm: str = "maml"
    """How to meta-learn: anil, boil, cavia, fomaml, imaml, maml, maml-plus-plus, meta-curvature,
    meta-sgd, pretrained, proto-maml, protonet, reptile, scratch."""
    data: str = "glyphs"
    """The tasks: glyphs (embedded), omniglot, mnist, mini-imagenet, cifar-fs, fc100, sequences,
    sinusoid; a folder, zip or .npz of images; or what TFDS prepared, by its name."""
    data_dir: Path | None = None
    """The folder of the data's files; the environment variable MAML_JAX_DATA where not given."""
    split_seed: int = 1
    """Which random split of the classes, where the data set is split at random."""
    class_split: str | None = None
    """Which classes are for what: finn or vinyals for omniglot; else a JSON file, {"train":
    [names], "val": ..., "test": ...}. None: the set's own, or 64, 16 and 20 % at random."""
    image_size: int | None = None
    """Resize images to that many pixels a side. None: the set's usual size, or their own."""
    channels: int | None = None
    """1 makes images grey, 3 gives them colours. None: as they are."""
    in_memory_gb: float | None = None
    """Splits larger than that stay on the host, and tasks are fetched ahead. None: a quarter of the
    device's memory."""
    ways: int = 5
    """Classes in a task; regression has none."""
    shots: int = 1
    """Support examples per class."""
    queries: int = 1
    """Query examples per class while training."""
    model: str = "conv4"
    """The network: conv4, resnet12, article-cnn, mlp, and for sequences gru, lstm."""
    downsample: str = "stride"
    """How conv4 halves its images: stride (Finn's for Omniglot) or maxpool."""
    filters: int = 64
    """Channels of each block of conv4, and of the first of resnet12."""
    hidden: tuple[int, ...] = (40, 40)
    """Widths of the hidden layers of mlp; of gru and lstm, which have one."""
    precision: str = "default"
    """Bits of the network's arithmetic: default (JAX's for the device), float32, tensorfloat32 or
    bfloat16; weights and losses stay float32."""
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
    """Support examples that an inner step sees; None: all of them."""
    training_shots: int | None = None
    """Support examples per class while training, where they are not `shots`."""
    adapts: str | None = None
    """A regular expression, found in the paths of the weights that adapt; None: the algorithm's."""
    differentiate: str = "mixed"
    """How the inner gradient is: mixed (exact, small memory), reverse (exact) or first_order."""
    regularization: float = 2.0
    """imaml: λ, the strength that holds adapted weights near the initial ones."""
    solver: str = "cg"
    """imaml: cg (conjugate gradients) or neumann."""
    solver_steps: int = 5
    """imaml: iterations of the solver."""
    damping: float = 0.0
    """imaml: multiple of the identity that is added to the solver's matrix."""
    neumann_rate: float = 1.0
    """imaml: step size of the neumann solver."""
    context_size: int = 100
    """cavia: length of the context vector."""
    learn_rates: bool = True
    """maml-plus-plus: learn a rate for each array of weights and each step."""
    norm_per_step: bool = True
    """maml-plus-plus: learn batch norm's scales and biases for each step."""
    multi_step_until: float = 0.1
    """maml-plus-plus: part of training in which the losses after every step count; 0: none."""
    second_order_from: float = 0.0
    """maml-plus-plus: part of training before which inner gradients are constants."""
    tasks: int = 32
    """Tasks per update."""
    updates: int = 3000
    """Updates of the meta-parameters, by Adam."""
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
    seed: int = 0
    """Decides the initial weights and every task."""
    chunk: int | None = None
    """Tasks that a device computes side by side; results are equal to rounding. None: long runs
    measure it once and write it down here, others take what fits a CPU's cache, else all."""
    updates_per_dispatch: int = 50
    """Updates that run on the device between two looks from the host."""
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
    tensorboard: bool = False
    """Write the log for TensorBoard too, into the run's folder tensorboard."""

    def check(self) -> "Config":
        """The config itself, or an `InputError` that names the first bad field."""
        for name, kind in get_type_hints(Config).items():
            _check_type(name, getattr(self, name), kind)
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("model", self.model, MODELS)
        check_choice("downsample", self.downsample, DOWNSAMPLES)
        check_choice("meta_schedule", self.meta_schedule, SCHEDULES)
        check_choice("nonfinite", self.nonfinite, NONFINITE)
        for name in ("shots", "queries", "filters", "tasks", "updates", "updates_per_dispatch"):
            check_count(name, getattr(self, name))
        for name in ("validation_tasks", "checkpoint_every", "keep_checkpoints"):
            check_count(name, getattr(self, name))
        for name in ("inner_steps", "evaluation_steps", "validate_every", "warm_up"):
            check_count(name, getattr(self, name), least=0)
        check_count("ways", self.ways, least=2)
        for width in self.hidden:
            check_count("hidden", width)
        if self.chunk is not None:
            check_count("chunk", self.chunk)
        for name in ("seed", "split_seed"):
            check_seed(name, getattr(self, name))
        for name in ("inner_batch", "training_shots", "patience"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_choice("inner_optimizer", self.inner_optimizer, INNER_OPTIMIZERS)
        check_choice("differentiate", self.differentiate, get_args(Differentiate))
        check_choice("precision", self.precision, PRECISIONS)
        for name, takers in TAKEN_BY.items():
            if self.algorithm not in takers and getattr(self, name) != getattr(Config, name):
                raise InputError(
                    f"`{name}` was {getattr(self, name)}; {self.algorithm} has none: "
                    f"it is for {', '.join(takers)}."
                )
        if self.adapts is not None:
            try:
                re.compile(self.adapts)
            except re.error as error:
                raise InputError(f"`adapts` was {self.adapts!r}; as a pattern: {error}.") from error
        for name in ("inner_lr", "meta_lr", "inner_clip", "meta_clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"`{name}` was {value}; it must be a finite number above 0.")
        if self.patience is not None and not self.validate_every:
            raise InputError("`patience` was given; it needs a `validate_every` above 0.")
        models = _MODELS_FOR.get(self.data, MODELS[:4])
        if self.model not in models:
            raise InputError(
                f"`model` was {self.model!r}; {self.data} takes {' or '.join(models)}."
            )
        if self.in_memory_gb is not None:
            check_number("in_memory_gb", self.in_memory_gb)
        if self.model in ("gru", "lstm") and len(self.hidden) != 1:
            raise InputError(f"`hidden` was {self.hidden}; {self.model} has one width.")
        return self

    def to_json(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["data_dir"] = None if self.data_dir is None else str(self.data_dir)
        return values


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Whether a value is of the type of its field; integers are floats too."""
    kinds = get_args(kind) if get_origin(kind) is UnionType else (kind,)
    known = [int if get_origin(one) is tuple else one for one in kinds]
    for one in value if get_origin(kind) is tuple and isinstance(value, tuple) else [value]:
        fits = isinstance(one, tuple(known)) or (float in known and type(one) is int)
        if not fits or (isinstance(one, bool) and bool not in known):
            allowed = " or ".join("None" if k is NoneType else k.__name__ for k in known)
            raise InputError(f"`{name}` was {value!r}; it must be {allowed}.")


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
        config = Config(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"`run` was {run}; its config.json is damaged: {error}.") from error
    return config.check()
