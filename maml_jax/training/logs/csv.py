"""A table of comma-separated values."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from maml_jax.training.logs import Entry
from maml_jax.types import Meta


class CSVLogger:
    """Writes a row for each call: the update, then a column for each metric.

    ```python
    mj.train(learner, params, tasks, updates=1000, callback=mj.CSVLogger("log.csv"))
    ```

    A row is on the disk when the call returns. A metric that has no value in a row leaves its
    place empty; one that comes later adds a column to the table.

    Args:
      path: the file; what it held is replaced.
    """

    def __init__(self, path: Path | str):
        self._path = Path(path)
        self._columns = ["update"]
        self._rows: list[dict[str, float]] = []
        self._write_all()

    def __call__(self, update: int, metrics: Mapping[str, float], meta: Meta = None) -> None:
        self._rows.append({"update": update, **metrics})
        new = [name for name in metrics if name not in self._columns]
        if new:
            self._columns += new
            self._write_all()
            return
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(self._rows[-1])

    def close(self) -> None:
        """Nothing is left to write."""

    def _write_all(self) -> None:
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        fresh.replace(self._path)


def in_run(run: Path, entries: Sequence[Entry]) -> CSVLogger:
    """The table `log.csv` of a run, written anew from what the run has."""
    logger = CSVLogger(run / "log.csv")
    for update, metrics in entries:
        logger(update, metrics)
    return logger
