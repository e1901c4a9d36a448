"""Weights & Biases, as the log of a run."""

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.training.logs import Entry
from maml_jax.training.wandb_logger import WandbLogger
from maml_jax.types import Meta

_wandb = require("wandb", "wandb")

PROJECT = "maml-jax"
"""Where runs go that the environment variable WANDB_PROJECT sends nowhere else."""


class _OfRun(WandbLogger):
    """Logs each entry of a run once, though it is told of some again.

    A run makes the same entries again, so that the number of an entry is its step, and W&B says
    which of them it has.
    """

    def __init__(self, run: Any, entries: Sequence[Entry]):
        super().__init__(run)
        self._had, self._told = run.step, 0  # the next step, which is 0 where nothing was logged
        for update, metrics in entries:
            self(update, metrics)

    def __call__(self, update: int, metrics: Mapping[str, float], meta: Meta = None) -> None:
        self._told += 1
        if self._told >= self._had:
            self._run.log({"update": update, **metrics}, step=self._told, commit=True)


def in_run(run: Path, entries: Sequence[Entry]) -> WandbLogger:
    """The run of W&B that belongs to a run: its id is kept in the folder `wandb/`.

    It is offline where the environment variable WANDB_MODE is not set. Then nothing was sent, and
    what an offline run had is written anew.
    """
    folder = run / "wandb"
    folder.mkdir(exist_ok=True)
    kept = folder / "id"
    if not kept.exists():
        fresh = folder / "id.new"
        fresh.write_text(uuid.uuid4().hex, encoding="utf-8")
        fresh.replace(kept)
    identity = kept.read_text(encoding="utf-8")
    before = list(folder.glob(f"offline-run-*-{identity}"))
    started = _start(run, identity)
    if started.offline:
        for old in before:
            shutil.rmtree(old)
    return _OfRun(started, entries)


def _start(run: Path, identity: str) -> Any:
    record = json.loads((run / "config.json").read_text(encoding="utf-8"))
    try:
        return _wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            mode=os.environ.get("WANDB_MODE", "offline"),
            name=run.absolute().name,
            id=identity,
            resume="allow",
            dir=run,
            config=record["config"],
            settings=_wandb.Settings(console="off"),
        )
    except (_wandb.Error, ValueError) as error:  # such as that nobody has logged in
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"`log` was wandb, which did not start: {reason}.") from error
