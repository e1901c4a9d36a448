"""What decides a run besides its state: config, data and versions; kept with every checkpoint."""

import json
import logging
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from maml_jax.data import DataSet
from maml_jax.errors import InputError
from maml_jax.training.config import RESUMABLE, Config

_log = logging.getLogger("maml_jax")


def versions() -> dict[str, str]:
    """What computes here."""
    packages = ("maml-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    found = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **found, "device": jax.devices()[0].device_kind}


def make(config: Config, data: DataSet) -> dict[str, Any]:
    """The record of a run, as JSON has it."""
    record = {"config": config.to_json(), "data": data.fingerprint(), "versions": versions()}
    return json.loads(json.dumps(record))


def check(run: Path, kept: dict[str, Any], now: dict[str, Any]) -> None:
    """Whether a run's checkpoint, with its record `kept`, may go on as `now`.

    Raises:
      InputError: config.json or the data is not that of the checkpoint.
    """
    may_differ = {*RESUMABLE, "data_dir"}
    for name in sorted((kept["config"].keys() | now["config"].keys()) - may_differ):
        was, is_now = kept["config"].get(name), now["config"].get(name)
        if was != is_now:
            raise InputError(
                f"`run` was {run}; its config.json says {name} is {is_now}, its checkpoint {was}."
            )
    if kept["data"] != now["data"]:
        raise InputError(
            f"`data_dir` held other data than {run} was trained on: "
            f"{_difference(kept['data'], now['data'])}."
        )
    if kept["versions"] != now["versions"]:
        _log.warning(
            "%s was computed otherwise (%s): its results may differ in the last bits",
            run,
            _difference(kept["versions"], now["versions"]),
        )


def _difference(was: dict[str, Any], now: dict[str, Any]) -> str:
    names = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    return ", ".join(f"{name} was {was.get(name)} and is {now.get(name)}" for name in names)
