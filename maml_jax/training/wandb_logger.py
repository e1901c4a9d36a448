"""Weights & Biases, as a callback; it needs no library but the run that it is given."""

from collections.abc import Mapping
from typing import Any

from maml_jax.types import Meta


class WandbLogger:
    """Logs metrics to a run of Weights & Biases, with `update` as the axis of its charts.

    ```python
    log = mj.WandbLogger(wandb.init(project="letters", mode="offline"))
    mj.train(learner, params, tasks, updates=1000, callback=log)
    log.close()
    ```

    Args:
      run: what `wandb.init` returned.
    """

    def __init__(self, run: Any):
        self._run = run
        run.define_metric("*", step_metric="update")

    def __call__(self, update: int, metrics: Mapping[str, float], meta: Meta = None) -> None:
        self._run.log({"update": update, **metrics})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
