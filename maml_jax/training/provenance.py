"""What decides a run besides its state: config, data, versions and device."""

import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from maml_jax import losses
from maml_jax.batching import hosts, task_mesh
from maml_jax.cache import processor
from maml_jax.data import DataSet
from maml_jax.errors import InputError
from maml_jax.kernels.jax_internals import settings
from maml_jax.kernels.native import compiler_version
from maml_jax.training.config import RESUMABLE, Config
from maml_jax.types import Loss
from maml_jax.version import __version__

_log = logging.getLogger("maml_jax")

_SETTINGS = (
    *("jax_default_prng_impl", "jax_threefry_partitionable"),  # which random numbers a key gives
    *("jax_enable_x64", "jax_default_matmul_precision"),
)


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
    """Versions and device, and what else the last bits depend on beside the config.

    On a CPU these are the processor with its instructions, and the compiler of the convolutions.
    """
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in packages}
    of_cpu = {}
    if jax.default_backend() == "cpu":
        of_cpu = {"processor": processor(), "compiler": compiler_version()}
    return {
        "python": platform.python_version(),
        "maml-jax": __version__,
        **found,
        "device": jax.devices()[0].device_kind,
        **of_cpu,
        **settings(*_SETTINGS),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def commit() -> str | None:
    """The commit of the package's source, with `-dirty` where files differ from it.

    None where the package is installed from elsewhere than a checkout of its repository.
    """
    checkout, git = Path(__file__).parents[2], shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return None
    command = [git, "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run([*command, "--exclude=*"], capture_output=True, encoding="utf-8")  # noqa: S603
    return done.stdout.strip() or None


def make(config: Config, data: DataSet) -> dict[str, Any]:
    """What decides a run, as JSON."""
    left_out = getattr(data, "left_out", {})
    return make_of(config, examples_of(config, data), data.fingerprint(), left_out)


def make_of(
    config: Config,
    examples: ExampleSpec,
    fingerprint: dict[str, Any] | None,
    left_out: dict[str, int] | None = None,
) -> dict[str, Any]:
    """What decides a run, as JSON; no `fingerprint`: it was not trained on any data yet."""
    record = {
        "config": config.to_json(),
        "data": fingerprint,
        "left_out": left_out or {},
        "examples": _to_json(examples),
        "versions": versions()
        | {"devices": task_mesh(config.tasks).size, "processes": hosts.count()},
        "commit": commit(),
    }
    return json.loads(json.dumps(record))


def check_hosts(record: dict[str, Any]) -> None:
    """Whether all hosts have the same record, wherever their data lies.

    Raises:
      InputError: they have not.
    """
    shared = {**record, "config": {**record["config"], "data_dir": None}}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).digest()
    here = np.frombuffer(digest, np.uint8)
    if hosts.any_host(not np.array_equal(here, hosts.from_first(here))):
        raise InputError(
            "`processes` have not the same options, data, versions and machines, by which they "
            "would drift apart; config.json of a run alone on each host says what differs."
        )


def check_config(run: Path, kept: dict[str, Any], config: Config) -> None:
    """Whether a run's checkpoint, with its provenance `kept`, is one of `config`.

    Raises:
      InputError: config.json is not that of the checkpoint.
    """
    now, defaults = (json.loads(json.dumps(one.to_json())) for one in (config, Config()))
    for name in sorted(now.keys() - set(RESUMABLE)):
        # A run may have been made before there was this field.
        was, is_now = kept["config"].get(name, defaults[name]), now[name]
        if was != is_now:
            raise InputError(
                f"`run` was {run}; its config.json says {name} is {is_now}, its checkpoint {was}."
            )


def check_data(run: Path, kept: dict[str, Any], data: DataSet, *, option: str = "data_dir") -> None:
    """Whether `data` is what the run with the provenance `kept` was trained on.

    Raises:
      InputError: it is not; `option` is what named the data.
    """
    now = json.loads(json.dumps(data.fingerprint()))
    if kept["data"] is not None and kept["data"] != now:
        raise InputError(
            f"`{option}` held other data than {run} was trained on: "
            f"{_difference(kept['data'], now)}."
        )


def is_training_data(kept: dict[str, Any], data: DataSet) -> bool:
    """Whether `data` has the very examples of training, however it is called and split."""
    was, now = kept["data"] or {}, data.fingerprint()
    digests = [name for name in ("sha256_images", "sha256_examples") if name in now]
    return any(was.get(name) == now[name] for name in digests)


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
