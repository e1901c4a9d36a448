"""The charts of a report: learning curves, and scores over inner steps."""

from collections.abc import Sequence
from typing import Any

from maml_jax.report.charts import Line, chart
from maml_jax.report.contents import Results

POINTS = 500
"""Points of a learning curve that a page has room for."""


def learning_curves(log: Sequence[dict[str, Any]]) -> str:
    """Accuracy, where there is any, and loss over updates, with the validations."""
    training = [entry for entry in log if "validation" not in entry]
    validations = [entry for entry in log if "validation" in entry]
    if not training:
        return '<p class="note">This run has no log of its training.</p>'
    every = -(-len(training) // POINTS)
    thinned = training[::-1][::every][::-1]  # the last among them
    charts = []
    for name, scale, label in (("accuracy", 100, "accuracy, %"), ("loss", 1, "loss")):
        if name not in training[0]:
            continue
        lines = [Line(_updates(thinned), _column(thinned, name, scale), "training tasks")]
        if validations:
            scores = [entry["validation"] for entry in validations]
            lines.append(
                Line(
                    _updates(validations),
                    _column(scores, name, scale),
                    "validation tasks (95 % interval)",
                    "good",
                    error=_column(scores, f"{name}_ci95", scale),
                )
            )
        values = [y for line in lines for y in line.y if y is not None]
        log_scale = name == "loss" and bool(values) and min(values) > 0
        charts.append(chart(lines, x_label="updates", y_label=label, log=log_scale, whole=True))
    said = "" if every == 1 else f'<p class="note">One training entry in {every} is drawn.</p>'
    return f'<div class="charts">{"".join(charts)}</div>{said}'


def steps_chart(results: Results) -> str:
    """The mean over tasks after each inner step."""
    scale = 100 if results.name == "accuracy" else 1
    steps = [float(step.steps) for step in results.per_step]
    lines = [
        Line(
            steps,
            [scale * step.mean for step in results.per_step],
            "adapted (95 % interval)",
            "good",
            error=[scale * step.ci95 for step in results.per_step],
        )
    ]
    nearest = results.nearest_neighbour
    if nearest is not None and len(steps) > 1:
        ends, level = [steps[0], steps[-1]], scale * nearest.mean
        lines.append(Line(ends, [level, level], "nearest support example", dashed=True))
    unit = ", %" if scale == 100 else ""
    return chart(lines, x_label="inner steps", y_label=results.title + unit, whole=True)


def _updates(entries: Sequence[dict[str, Any]]) -> list[float]:
    return [entry["update"] for entry in entries]


def _column(entries: Sequence[dict[str, Any]], name: str, scale: int) -> list[float | None]:
    """One value of each entry; None where it was not finite."""
    values = [entry.get(name) for entry in entries]
    return [None if value is None else scale * value for value in values]
