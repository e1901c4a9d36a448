"""What an audit found, as a table and as JSON."""

from collections.abc import Sequence
from typing import Any

from parity.audit.cells import RIGHT, UNDECIDED, UNSUPPORTED, WRONG, Cell
from parity.audit.kinks import Convention
from parity.audit.reproducer import reproducer

ORDERS = {1: "first", 2: "second", 3: "third"}
_RANK = {WRONG: 3, UNDECIDED: 2, UNSUPPORTED: 1, RIGHT: 0}


def summary(cells: Sequence[Cell]) -> dict[str, Any]:
    """Counts by verdict, and the wrong operations with the order that they are wrong from."""
    wrong = [cell for cell in cells if cell.verdict == WRONG]
    return {
        "operations": len({(cell.stack, cell.operation) for cell in cells}),
        "cells": len(cells),
        **{
            verdict.replace(" ", "_"): sum(cell.verdict == verdict for cell in cells)
            for verdict in _RANK
        },
        "wrong_from_order": {
            f"{stack} {name}": min(
                c.order for c in wrong if (c.stack, c.operation) == (stack, name)
            )
            for stack, name in dict.fromkeys((c.stack, c.operation) for c in wrong)
        },
    }


def to_json(cells: Sequence[Cell], conventions: Sequence[Convention]) -> dict[str, Any]:
    """The summary, the cells (those that are right by their errors alone), and the conventions."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for cell in cells:
        key = (cell.stack, cell.kind, cell.operation, cell.mode, cell.precision)
        names = ("stack", "kind", "operation", "mode", "precision")
        group = groups.setdefault(key, dict(zip(names, key, strict=True)) | {"right": {}})
        if cell.verdict == RIGHT:
            group["right"][cell.transformation] = float(f"{cell.error:.2g}")
        else:
            others = {k: v for k, v in cell.to_json().items() if k not in names}
            group.setdefault("others", []).append(others)
    return {
        "summary": summary(cells),
        "audited": list(groups.values()),
        "conventions": [c.to_json() for c in conventions],
    }


def table(cells: Sequence[Cell]) -> str:
    """Operations by transformations, of those operations that are not right throughout."""
    columns = list(dict.fromkeys(cell.transformation for cell in cells))
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.stack, cell.operation), []).append(cell)
    lines = [["stack", "operation", *columns]]
    for (stack, name), found in rows.items():
        if any(cell.verdict != RIGHT for cell in found):
            lines.append([stack, name, *(_entry(found, column) for column in columns)])
    right = len(rows) - len(lines) + 1
    text = [f"{right} operations are right under every transformation."]
    if len(lines) > 1:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text += [
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
    return "\n".join(text)


def details(cells: Sequence[Cell]) -> str:
    """A paragraph for each wrong cell, one reproducer for each operation and mode."""
    paragraphs, seen = [], set()
    for cell in cells:
        if cell.verdict not in (WRONG, UNDECIDED):
            continue
        paragraphs.append(
            f"{cell.verdict.upper()} {cell.stack} {cell.operation}, {cell.transformation}, "
            f"{cell.mode}, {cell.precision}: relative error {cell.error:.1e} where rounding "
            f"explains {cell.bound:.0e}; along the error {cell.found:.10g} was found, "
            f"{cell.expected:.10g} is expected, differences of values give {cell.numeric:.10g}."
        )
        key = (cell.stack, cell.operation, cell.mode)
        if cell.verdict == WRONG and key not in seen:
            seen.add(key)
            paragraphs.append(reproducer_of(cell))
    return "\n\n".join(paragraphs)


def reproducer_of(cell: Cell) -> str:
    """The program that shows a cell."""
    return reproducer(cell.operation, cell.stack, cell.mode, cell.precision, cell.transformation)


def conventions_table(conventions: Sequence[Convention]) -> str:
    """Who returns what at a kink; `!` marks what is no subgradient."""
    lines = [["at a kink or a tie", "x", "left", "right", "torch", "torch, jvp", "jax", "maml-jax"]]
    for c in conventions:
        marks = {name: "!" if name in c.outside else "" for name in ("torch", "jax", "own")}
        forward = "!" if "torch_forward" in c.outside else ""
        numbers = [f"{value:g}" for value in (c.at, c.left, c.right)]
        found = [c.torch + marks["torch"], c.torch_forward + forward, c.jax + marks["jax"]]
        lines.append([c.name, *numbers, *found, c.own + marks["own"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _entry(cells: Sequence[Cell], transformation: str) -> str:
    """The worst verdict of all modes; where they differ, in which mode it is."""
    of_it = [cell for cell in cells if cell.transformation == transformation]
    if not of_it:
        return ""
    worst = max(of_it, key=lambda cell: (_RANK[cell.verdict], cell.error or 0.0))
    text = f"{worst.verdict} {worst.error:.0e}" if worst.verdict == WRONG else worst.verdict
    verdicts = {cell.verdict for cell in of_it}
    where = "" if len(verdicts) == 1 else f" ({worst.mode}, {worst.precision})"
    return text + where
