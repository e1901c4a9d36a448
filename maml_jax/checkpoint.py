"""The state of a run on disk, by Orbax: written whole or not at all, never pickled."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maml_jax.errors import InputError
from maml_jax.extras import require


class Checkpoints:
    """The newest checkpoints in the folder of a run."""

    def __init__(self, run: Path, keep: int = 2):
        ocp = require("orbax.checkpoint", "cli")
        logging.getLogger("absl").setLevel(logging.ERROR)  # a line for each save otherwise
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._args = ocp.args
        self._manager = ocp.CheckpointManager((run / "checkpoints").absolute(), options=options)
        self._run = run

    def save(self, update: int, state: Any) -> None:
        """Write `state`, a pytree of arrays, as of `update`, unless that is there already."""
        if update != self._manager.latest_step():
            self._manager.save(update, args=self._args.StandardSave(state))

    def restore(self, like: Any) -> Any:
        """The newest state, with the structure, shapes and types of the pytree `like`.

        Raises:
          InputError: there is no checkpoint, or it is damaged or of another model.
        """
        update = self._manager.latest_step()
        if update is None:
            raise InputError(f"`run` was {self._run}; it holds no checkpoint yet.")
        like = jax.tree.map(_with_sharding, like)
        try:
            state = self._manager.restore(update, args=self._args.StandardRestore(like))
        except Exception as error:  # Orbax and the storage below raise dozens of types
            reason = str(error).strip().split("\n")[0][:200]
            raise InputError(
                f"`run` was {self._run}; its checkpoint {update} is damaged "
                f"or of another model: {reason}."
            ) from error
        return jax.tree.map(np.asarray, state)  # bound to no device: whoever takes it next decides


def _with_sharding(leaf: Any) -> jax.ShapeDtypeStruct:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
