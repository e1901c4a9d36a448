"""The state of a run on disk, by Orbax: written whole or not at all, never pickled."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.trees import path_name

MANIFEST = "manifest.json"


class Checkpoints:
    """The newest checkpoints in the folder of a run.

    Each has a manifest: the digests of its files, and the type and shape of every array. Both are
    checked before Orbax reads: it would take long, and much to say, to find either out by itself.
    """

    def __init__(self, run: Path, keep: int = 2):
        ocp = require("orbax.checkpoint", "cli")
        logging.getLogger("absl").setLevel(logging.ERROR)  # a line for each save otherwise
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._args = ocp.args
        self._folder = (run / "checkpoints").absolute()
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._run = run

    def save(self, update: int, state: Any) -> None:
        """Write `state`, a pytree of arrays, as of `update`, unless that is there already."""
        if update == self._manager.latest_step():
            return
        self._manager.save(update, args=self._args.StandardSave(state))
        folder = self._folder / str(update)
        manifest = {"files": _digests(folder), "arrays": _arrays(state)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))

    def restore(self, like: Any) -> Any:
        """The newest state, with the structure, shapes and types of the pytree `like`.

        Raises:
          InputError: there is no checkpoint, or it is damaged or of another model.
        """
        update = self._manager.latest_step()
        if update is None:
            raise InputError(f"`run` was {self._run}; it holds no checkpoint yet.")
        folder = self._folder / str(update)
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except (OSError, ValueError):  # missing, or no longer JSON or text
            manifest = {}
        if manifest.get("files") != _digests(folder):
            raise InputError(f"`run` was {self._run}; its checkpoint {update} is damaged.")
        if manifest.get("arrays") != _arrays(like):
            raise InputError(
                f"`run` was {self._run}; its checkpoint {update} is of another model or algorithm "
                "than its config.json."
            )
        like = jax.tree.map(_with_sharding, like)
        state = self._manager.restore(update, args=self._args.StandardRestore(like))
        return jax.tree.map(np.asarray, state)  # bound to no device: whoever takes it next decides


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in `folder` but the one that holds them."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def _arrays(state: Any) -> dict[str, str]:
    """Every array's type and shape, like `float32(3, 3, 1, 64)`, by its path."""
    return {
        path_name(path): f"{leaf.dtype}{leaf.shape}"
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
