"""Tasks, and classes taken for one another, as HTML."""

import html

from maml_jax.report.charts import Line, chart
from maml_jax.report.contents import ConfusedClass, Points, Query, ShownTask, TaskClass
from maml_jax.report.examples import example


def task(shown: ShownTask, kind: str) -> str:
    """An evaluated task: its classes with their examples, or of regression a chart."""
    if shown.points is not None:
        scores = f"loss {shown.before:.4f} before, {shown.after:.4f} after adaptation"
        body = f'<div class="charts">{_points(shown.points)}</div>'
    else:
        before, after = 100 * shown.before, 100 * shown.after
        scores = f"{before:.0f} % right before, {after:.0f} % after adaptation"
        body = "".join(_class(one, label, kind) for label, one in enumerate(shown.classes))
        body = f'<div class="classes">{body}</div>'
    return f"<h3>Task {shown.number}: {scores}</h3>{body}"


def pair(one: ConfusedClass, other: ConfusedClass, kind: str) -> str:
    """Two classes with a picture of each, and how often one was taken for the other."""
    return (
        f"<li>{example(one.example, one.name, kind)}{example(other.example, other.name, kind)}"
        f"<div>{_taken(one, other)}<br>{_taken(other, one)}</div></li>"
    )


def _taken(one: ConfusedClass, other: ConfusedClass) -> str:
    return (
        f"{one.wrong} of {one.queries} <strong>{html.escape(one.name)}</strong> "
        f"taken for {html.escape(other.name)}"
    )


def _class(shown: TaskClass, label: int, kind: str) -> str:
    support = "".join(example(x, f"support of class {label}", kind) for x in shown.support)
    queries = "".join(_query(one, label, kind) for one in shown.queries)
    return (
        f'<div class="class"><h4>{label}: {html.escape(shown.name)}</h4>'
        f'<div class="row"><span class="kind">support</span>{support}</div>'
        f'<div class="row"><span class="kind">query: before, after</span>{queries}</div></div>'
    )


def _query(query: Query, label: int, kind: str) -> str:
    return (
        f'<div class="query">{example(query.x, f"query of class {label}", kind)}'
        f"<span>{_predicted(query.before, label)}, {_predicted(query.after, label)}</span></div>"
    )


def _predicted(predicted: int, label: int) -> str:
    if predicted == label:
        return f'<b class="right">{predicted} ✓</b>'
    return f'<b class="wrong">{predicted} ✗</b>'


def _points(points: Points) -> str:
    styles = ["quiet", "bad", "good"] if len(points.predictions) > 2 else ["quiet", "good"]
    predicted = [
        Line(
            points.x.tolist(),
            y.tolist(),
            f"{step} step{'s' * (step != 1)}",
            style,
            dashed=style != "good",
            dots=points.over_targets,
        )
        for (step, y), style in zip(points.predictions.items(), styles, strict=False)
    ]
    if points.over_targets:
        ends = [float(points.x.min()), float(points.x.max())]
        lines = [Line(ends, ends, "exact", "plain"), *predicted]
        return chart(lines, x_label="target", y_label="prediction")
    query, support = (
        Line(part[0].tolist(), part[1].tolist(), label, style, dashed=label == "query", dots=True)
        for part, label, style in (
            (points.query, "query", "quiet"),
            (points.support, "support", "plain"),
        )
    )
    return chart([query, *predicted, support], x_label="x", y_label="y")
