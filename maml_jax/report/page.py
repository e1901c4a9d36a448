"""The page: what is to be shown, as one HTML file that needs no other."""

import html
from typing import Any

from maml_jax.report.contents import Contents, Results, Step, Tested
from maml_jax.report.curves import learning_curves, steps_chart
from maml_jax.report.style import STYLE
from maml_jax.report.tasks import pair, task


def page(contents: Contents) -> str:
    """The HTML of a report."""
    title = html.escape(contents.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: report</title><style>{STYLE}</style></head><body>"
        f"<h1>{title}</h1><p>{html.escape(contents.summary)}</p>"
        + "".join(
            f'<section id="{name}"><h2>{heading}</h2>{body}</section>'
            for name, heading, body in _sections(contents)
            if body
        )
        + "</body></html>\n"
    )


def _sections(contents: Contents) -> list[tuple[str, str, str]]:
    """The name, the heading and the body of each; an empty body is left out."""
    tested = contents.tested
    missing = "" if contents.missing is None else _note(contents.missing)
    title = "accuracy" if tested is None else tested.results.title
    return [
        ("settings", "Settings", _settings(contents)),
        ("curves", "Learning curves", learning_curves(contents.log)),
        ("steps", f"{title.capitalize()} per inner step", _steps(tested) or missing),
        ("episodes", "Tasks before and after adaptation", _first(contents, tested)),
        ("confused", "Classes taken for one another", _confused(contents, tested)),
        ("hardest", "The hardest tasks", _hardest(contents, tested)),
        ("versions", "Seeds, versions, device", _definitions(contents.versions)),
        ("again", "How to make it again", _commands(contents)),
        ("all", "All other settings", _others(contents)),
    ]


def _settings(contents: Contents) -> str:
    changed = [setting for setting in contents.settings if setting.value != setting.default]
    if not changed:
        return _note("Every option has the default of its recipe and algorithm.")
    rows = "".join(
        f"<tr><td><code>{html.escape(one.name)}</code></td><td>{_value(one.value)}</td>"
        f"<td>{_value(one.default)}</td></tr>"
        for one in changed
    )
    return (
        "<table><thead><tr><th>option</th><th>here</th><th>default of the recipe</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _others(contents: Contents) -> str:
    return _definitions(
        {one.name: one.value for one in contents.settings if one.value == one.default}
    )


def _definitions(values: dict[str, Any]) -> str:
    rows = (
        f"<div><dt>{html.escape(name)}</dt><dd>{_value(value)}</dd></div>"
        for name, value in values.items()
    )
    return f'<dl class="all">{"".join(rows)}</dl>'


def _steps(tested: Tested | None) -> str:
    if tested is None:
        return ""
    results = tested.results
    rows = [
        f'<tr><td class="number">{step.steps}</td><td class="number">'
        f"{interval(step, results)}</td></tr>"
        for step in results.per_step
    ]
    if results.nearest_neighbour is not None:
        rows.append(
            '<tr><td>nearest support example</td><td class="number">'
            f"{interval(results.nearest_neighbour, results)}</td></tr>"
        )
    each = "query examples a class" if results.name == "accuracy" else "query points"
    said = (
        f"{results.tasks} tasks of the {results.split} split, with {results.queries} {each}: "
        "the mean over tasks, and its 95 % interval."
    )
    table = (
        f"<table><thead><tr><th>inner steps</th><th>{html.escape(results.title)}</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return f'<p>{said}</p><div class="charts">{steps_chart(results)}<div>{table}</div></div>'


def interval(step: Step, results: Results) -> str:
    """A mean with its interval, as `maml-jax evaluate` prints it."""
    if results.name == "accuracy":
        return f"{100 * step.mean:.2f} ± {100 * step.ci95:.2f} %"
    return f"{step.mean:.4f} ± {step.ci95:.4f}"


def _first(contents: Contents, tested: Tested | None) -> str:
    if tested is None:
        return ""
    said = "The first of the evaluated tasks. "
    if tested.results.name == "accuracy":
        said += "Below each query: the class that it was taken for before and after adaptation."
    return _note(said) + "".join(task(one, contents.kind) for one in tested.first)


def _hardest(contents: Contents, tested: Tested | None) -> str:
    if tested is None:
        return ""
    said = f"The evaluated tasks with the highest {tested.results.title}."
    if tested.results.name == "accuracy":
        said = "The evaluated tasks with the lowest accuracy; the wrong queries stand first."
    return _note(said) + "".join(task(one, contents.kind) for one in tested.hardest)


def _confused(contents: Contents, tested: Tested | None) -> str:
    if tested is None or tested.confused is None:
        return ""
    if not tested.confused:
        return _note("No query was taken for another class.")
    said = (
        "The classes of the test split that were taken for one another most often after "
        "adaptation, over all evaluated tasks. Two classes count where a task has both."
    )
    pairs = "".join(pair(*both, contents.kind) for both in tested.confused)
    return f'{_note(said)}<ol class="pairs">{pairs}</ol>'


def _commands(contents: Contents) -> str:
    return "".join(
        f"<p>{html.escape(said)}</p>" + (f"<pre>{_unbroken(command)}</pre>" if command else "")
        for said, command in contents.commands
    )


def _unbroken(command: str) -> str:
    """A command whose lines are not broken within its words, at the hyphens of an option."""
    return " ".join(f"<span>{html.escape(word)}</span>" for word in command.split(" "))


def _note(said: str) -> str:
    return f'<p class="note">{html.escape(said)}</p>'


def _value(value: Any) -> str:
    """A value as an option takes it."""
    if isinstance(value, tuple):
        return html.escape(" ".join(map(str, value)))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return html.escape(str(value))
