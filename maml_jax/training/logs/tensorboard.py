"""Files that TensorBoard shows."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from maml_jax.extras import require
from maml_jax.training.logs import Entry
from maml_jax.types import Meta

_tensorboard = require("tensorboardX", "cli")


class TensorBoardLogger:
    """Writes a scalar for each metric, at the update as its step.

    ```python
    mj.train(learner, params, tasks, updates=1000, callback=mj.TensorBoardLogger("board"))
    ```

    `tensorboard --logdir board` shows them meanwhile.

    Args:
      folder: where the files go, beside those of other trainings.
    """

    def __init__(self, folder: Path | str):
        self._writer = _tensorboard.SummaryWriter(str(folder))

    def __call__(self, update: int, metrics: Mapping[str, float], meta: Meta = None) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, update)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def in_run(run: Path, entries: Sequence[Entry]) -> TensorBoardLogger:
    """The folder `tensorboard/` of a run, written anew from what the run has."""
    shutil.rmtree(run / "tensorboard", ignore_errors=True)
    logger = TensorBoardLogger(run / "tensorboard")
    for update, metrics in entries:
        logger(update, metrics)
    return logger
