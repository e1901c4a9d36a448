"""Intervals of means, and the log of a run: JSON lines, and what is made of them."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maml_jax.batching import hosts
from maml_jax.errors import InputError
from maml_jax.training.logs import Loggers, entry_of


def confidence_95(per_task: np.ndarray) -> np.ndarray:
    r"""Half the width of the 95 % interval of the mean over tasks, $1.96\,s/\sqrt{T}$.

    Args:
      per_task: `[tasks, ...]`; `s` is their sample deviation, with T−1. NaN for one task.
    """
    tasks = len(per_task)
    if tasks < 2:
        return np.full(per_task.shape[1:], np.nan)
    with np.errstate(invalid="ignore"):  # a task that diverged to infinity leaves no interval
        return 1.96 * per_task.std(0, ddof=1) / math.sqrt(tasks)


def to_json(record: Any, **options: Any) -> str:
    """`record` as JSON, with null for what is not a finite number: JSON has no NaN."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(record), allow_nan=False, **options)


def read(run: Path | str) -> list[dict[str, Any]]:
    """The records of a run's log; a last line that was cut short is left out.

    Raises:
      InputError: another line is damaged.
    """
    path = Path(run, "metrics.jsonl")
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        records = [json.loads(line) for line in lines[:-1]]
        if all(type(record["update"]) is int for record in records):
            return records
        fault: Any = "a line has no update"
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = error
    raise InputError(f"`run` was {run}; its metrics.jsonl is damaged: {fault}.")


def best_validation(records: list[dict[str, Any]]) -> int | None:
    """The update of the best validation in a log, by accuracy or else by loss.

    The first of equals; None if there was no finite one.
    """
    best, best_score = None, -math.inf
    for record in records:
        validation = record.get("validation", {})
        score = validation.get("accuracy")
        if score is None and validation.get("loss") is not None:
            score = -validation["loss"]
        if score is not None and score > best_score:
            best, best_score = record["update"], score
    return best


def on_validation(records: list[dict[str, Any]]) -> list[str]:
    """The last validation of a log in words, and the best if that was another."""
    validated = {entry["update"]: entry["validation"] for entry in records if "validation" in entry}
    if not validated:
        return []
    last, best = max(validated), best_validation(records)
    lines = [f"validation after {last} updates: {_in_words(validated[last])}"]
    if best is not None and _in_words(validated[best]) != _in_words(validated[last]):
        lines.append(
            f"the best was after {best}: {_in_words(validated[best])}; "
            "evaluate takes it by --checkpoint best"
        )
    return lines


def _in_words(validation: dict[str, Any]) -> str:
    accuracy, loss = validation.get("accuracy"), validation.get("loss")
    if accuracy is not None:
        interval = validation.get("accuracy_ci95")
        wide = "" if interval is None else f" ± {100 * interval:.1f}"
        return f"accuracy {100 * accuracy:.1f}{wide} %"
    return "loss not finite" if loss is None else f"loss {loss:.4g}"


class Log:
    """The log of a run, `metrics.jsonl`, continued from update `done`.

    Entries later than `done` are deleted: their updates were not saved, and will be made and
    logged again. The same figures go to the `loggers`, by name. Of many hosts the first alone
    writes; all have the records.
    """

    def __init__(self, run: Path, done: int, loggers: Sequence[str] = ()):
        self._path = run / "metrics.jsonl"
        self.records = [record for record in read(run) if record["update"] <= done]
        hosts.wait_for_all("log")
        self._writes = hosts.is_first()
        if self._writes:
            fresh = self._path.with_suffix(".new")
            lines = [to_json(record) + "\n" for record in self.records]
            fresh.write_text("".join(lines), encoding="utf-8")
            fresh.replace(self._path)
        loggers = loggers if self._writes else ()
        self._loggers = Loggers(loggers, run, [entry_of(record) for record in self.records])

    def append(self, record: dict[str, Any]) -> None:
        """Add a record; its `update` says how many updates were made."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(to_json(record) + "\n")
        self.records.append(json.loads(to_json(record)))
        self._loggers(*entry_of(self.records[-1]))

    def flush(self) -> None:
        """Have the disk hold it, before a checkpoint that relies on it."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        self._loggers.close()
