"""The results of the article's program as JSON and as a table."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from parity.article.agreement import Agreement
from parity.article.settings import EPOCHS, REPORTED_ACCURACY
from parity.article.training import SOFTMAXES, Run
from parity.relative_error import BOUND


def to_json(rows: Sequence[Agreement], runs: Sequence[Run], test_images: int) -> dict[str, Any]:
    """The results, for `json.dumps`; an error that is not a finite number is None."""
    return {
        "agreement": {
            "dtype": "float64",
            "bound": BOUND,
            "rows": [_as_dict(row) for row in rows],
        },
        "training": {
            "dtype": "float32",
            "test_images": test_images,
            "reported_accuracy": REPORTED_ACCURACY,
            "runs": [asdict(run) for run in runs],
        },
        "passed": all(row.passed for row in rows),
    }


def _as_dict(row: Agreement) -> dict[str, Any]:
    def number(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    fields = {name: number(value) for name, value in asdict(row).items()}
    return fields | {"passed": row.passed}


def to_table(rows: Sequence[Agreement], runs: Sequence[Run]) -> str:
    """The same as text."""
    lines = [f"JAX against PyTorch in float64, relative errors, at most {BOUND:.0e}", ""]
    lines += ["steps   weights  movement        largest at"]
    for row in rows:
        verdict = "ok" if row.passed else "FAIL"
        lines.append(
            f"{row.steps:5}  {row.weights:8.1e}  {row.movement:8.1e}  {verdict:4}  {row.largest_at}"
        )
    if runs:
        epochs = len(runs[0].accuracy_per_epoch)
        lines += ["", f"test accuracy after {epochs} epochs of the JAX program in float32", ""]
        labels = ("softmax twice, as the article has it", "softmax once")
        for softmax, label in zip(SOFTMAXES, labels, strict=True):
            final = [run.accuracy_per_epoch[-1] for run in runs if run.softmax == softmax]
            if final:
                lines.append(f"{label:36}  {_summary(final)}")
        label = f"the article reports, after {EPOCHS} epochs"
        lines.append(f"{label:36}  {REPORTED_ACCURACY:.0%}")
    return "\n".join(lines)


def _summary(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2%}"
    return (
        f"{statistics.mean(values):.2%}, the mean of {len(values)} seeds, "
        f"from {min(values):.2%} to {max(values):.2%}"
    )
