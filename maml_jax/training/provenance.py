"""What decides a run besides its state: config, data, versions and device."""

import json
import logging
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax

from maml_jax import losses
from maml_jax.batching import task_mesh
from maml_jax.data import DataSet
from maml_jax.errors import InputError
from maml_jax.training.config import RESUMABLE, Config
from maml_jax.types import Loss
from maml_jax.version import __version__

_log = logging.getLogger("maml_jax")


class ExampleSpec(NamedTuple):
    """What model and learner need to know of a data set, so that a run can be loaded without it."""

    kind: str
    """`images`, `sequences`, `vectors` or `regression`."""
    input_shape: tuple[int, ...]
    """Of one example."""
    outputs: int
    """Of the model."""
    classes: int | None
    """How many classes the train split has; None for regression."""
    loss: Loss


def examples_of(config: Config, data: DataSet) -> ExampleSpec:
    """What model and learner of the config need to know of `data`."""
    return ExampleSpec(
        kind=data.kind,
        input_shape=data.input_shape,
        outputs=data.outputs(config.ways),
        classes=data.labels("train"),
        loss=data.loss,
    )


def _to_json(examples: ExampleSpec) -> dict[str, Any] | None:
    """For `examples_from`; None for data with a loss of its own, which has no name here."""
    name = name_of_loss(examples.loss)
    if getattr(losses, name, None) is not examples.loss:
        return None
    return {**examples._asdict(), "loss": name}


def name_of_loss(loss: Loss) -> str:
    """`mean_squared_error`; `loss` for one without a name."""
    return getattr(loss, "__name__", "loss")


def examples_from(recorded: dict[str, Any]) -> ExampleSpec:
    """What `make` recorded under `examples`."""
    shape, loss = tuple(recorded["input_shape"]), getattr(losses, recorded["loss"])
    return ExampleSpec(**{**recorded, "input_shape": shape, "loss": loss})


def versions() -> dict[str, str]:
    """Versions and device."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in packages}
    return {
        "python": platform.python_version(),
        "maml-jax": __version__,
        **found,
        "device": jax.devices()[0].device_kind,
    }


def make(config: Config, data: DataSet) -> dict[str, Any]:
    """What decides a run, as JSON."""
    record = {
        "config": config.to_json(),
        "data": data.fingerprint(),
        "left_out": getattr(data, "left_out", {}),
        "examples": _to_json(examples_of(config, data)),
        "versions": versions() | {"devices": task_mesh(config.tasks).size},
    }
    return json.loads(json.dumps(record))


def check_config(run: Path, kept: dict[str, Any], config: Config) -> None:
    """Whether a run's checkpoint, with its provenance `kept`, is one of `config`.

    Raises:
      InputError: config.json is not that of the checkpoint.
    """
    now, defaults = (json.loads(json.dumps(one.to_json())) for one in (config, Config()))
    for name in sorted(now.keys() - {*RESUMABLE, "data_dir"}):
        # A run may have been made before there was this field.
        was, is_now = kept["config"].get(name, defaults[name]), now[name]
        if was != is_now:
            raise InputError(
                f"`run` was {run}; its config.json says {name} is {is_now}, its checkpoint {was}."
            )


def check_data(run: Path, kept: dict[str, Any], data: DataSet) -> None:
    """Whether `data` is what the run with the provenance `kept` was trained on.

    Raises:
      InputError: it is not.
    """
    now = json.loads(json.dumps(data.fingerprint()))
    if kept["data"] != now:
        raise InputError(
            f"`data_dir` held other data than {run} was trained on: "
            f"{_difference(kept['data'], now)}."
        )


def warn_of_versions(run: Path, kept: dict[str, Any], now: dict[str, Any]) -> None:
    """Log a warning if versions or device are not those of the provenance `kept`."""
    # A run may have been made before all of these were recorded.
    common = kept["versions"].keys() & now.keys()
    was, is_now = ({name: side[name] for name in common} for side in (kept["versions"], now))
    if was != is_now:
        _log.warning(
            "%s was computed otherwise (%s): its results may differ in the last bits",
            run,
            _difference(was, is_now),
        )


def _difference(was: dict[str, Any], now: dict[str, Any]) -> str:
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    return ", ".join(f"{name} was {was.get(name)} and is {now.get(name)}" for name in names)
