"""Where the figures of a training go besides `metrics.jsonl`.

The folder is the register: `csv.py` is what `--log csv` chooses, made by its `in_run`.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from maml_jax import registry
from maml_jax.types import Meta

Entry: TypeAlias = tuple[int, dict[str, float]]
"""How many updates were made, and figures by name."""


class Logger(Protocol):
    """A callback that writes down what it is told; `mj.train(…, callback=logger)` takes it."""

    def __call__(self, update: int, metrics: Mapping[str, float], meta: Meta = None) -> None:
        """Write down `metrics`, finite numbers by name, of training after `update` updates."""

    def close(self) -> None:
        """Finish writing."""


class InRun(Protocol):
    """What a module of this folder calls `in_run`."""

    def __call__(self, run: Path, entries: Sequence[Entry]) -> Logger:
        """A logger of the run in that folder, which has `entries` already and goes on from there.

        Where training was stopped after its last checkpoint, the logger was told of later entries
        before, and is told of them again.
        """


def entry_of(record: Mapping[str, Any]) -> Entry:
    """A record of `metrics.jsonl`, its numbers named like `training/loss`, `validation/loss`."""
    kind = "validation" if "validation" in record else "training"
    return record["update"], {
        f"{kind}/{name}": value
        for name, value in record.get("validation", record).items()
        if name != "update" and isinstance(value, int | float)
    }


class Loggers:
    """The loggers of these names, of the run in a folder, as one."""

    def __init__(self, names: Sequence[str], run: Path, entries: Sequence[Entry]):
        self._loggers: list[Logger] = []
        with ExitStack() as opened:
            for name in dict.fromkeys(names):
                logger = registry.find("logs", name)(run, entries)
                self._loggers.append(opened.enter_context(closing(logger)))
            self._opened = opened.pop_all()

    def __call__(self, update: int, metrics: Mapping[str, float], meta: Meta = None) -> None:
        for logger in self._loggers:
            logger(update, metrics, meta)

    def close(self) -> None:
        self._opened.close()
