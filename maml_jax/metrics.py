"""Intervals, and the log of a run as JSON lines."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


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


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one line to a log."""
    with path.open("a") as file:
        file.write(to_json(record) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that was cut short is left out."""
    lines = path.read_text().split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1]]


def rewrite(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace a log, all or nothing."""
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(to_json(record) + "\n" for record in records))
    fresh.replace(path)
