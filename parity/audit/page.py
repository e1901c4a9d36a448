"""The tables of docs/audit.md, from the files that `python -m parity.audit --out FILE` wrote.

A page marks where a table belongs, and what stands between the two marks is replaced:

    <!-- audit: benchmarks/results/FILE.json -->
    <!-- end of table -->

Other kinds are `conventions: FILE.json …` and `reproducer: OPERATION STACK MODE TRANSFORMATION`.
`python -m parity.audit.page docs/audit.md` updates the page; a test checks that it is up to date.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

from parity.audit.backends import INNER
from parity.audit.reproducer import reproducer
from parity.page_tables import ROOT, update_pages

_END = "<!-- end of table -->"
_MARK = re.compile(rf"(<!-- (audit|conventions|reproducer): ([^>]+) -->\n).*?{_END}", re.DOTALL)
_NOT_RIGHT = {"wrong": "**{error}**", "not supported": "–", "undecided": "?"}


def main(arguments: list[str]) -> int:
    """Update the tables of the pages that `arguments` name."""
    return update_pages("parity.audit.page", arguments, with_tables)


def with_tables(text: str) -> str:
    """The page with all its tables made from their files."""

    def replacement(mark: re.Match[str]) -> str:
        begin, kind, names = mark.groups()
        return f"{begin}{_MAKE[kind](names.split())}\n{_END}"

    return _MARK.sub(replacement, text)


def audit_table(names: list[str]) -> str:
    """Of one run: what is not right under every transformation, and counts of the rest."""
    (name,) = names
    found = _read(name)
    # Of this mode nothing is supported, which would hide what the others say.
    found["audited"] = [group for group in found["audited"] if group["mode"] != INNER]
    columns = list(dict.fromkeys(t for group in found["audited"] for t in _transformations(group)))
    rows = []
    for (stack, operation), groups in _by_operation(found).items():
        if any("others" in group for group in groups):
            cells = [_cell(groups, column) for column in columns]
            rows.append([f"`{operation}`" + ("" if stack == "torch" else f" ({stack})"), *cells])
    lines = [["not right throughout", *columns], ["---"] * (len(columns) + 1), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""
    s, versions = found["summary"], found["versions"]
    count = len({(g["stack"], g["operation"]) for g in found["audited"]})
    said = (
        f"[{s['right']} of {s['cells']} cells](../{name}) are right, {s['wrong']} wrong, "
        f"{s['not_supported']} not supported, {s['undecided']} undecided; {count - len(rows)} of "
        f"{count} operations are right throughout. By `{found['command']}` (torch "
        f"{versions['torch']}, jax {versions['jax']}) in {found['seconds']:.0f} s."
    )
    return f"{table}\n\n{said}" if table else said


def conventions_table(names: list[str]) -> str:
    """Who returns what at a kink; where the runs differ, both."""
    runs = [_read(name) for name in names]
    heads = ["at a kink or a tie", "x", "slopes", "PyTorch", "its jvp", "JAX", "maml-jax"]
    lines = [heads, ["---"] * len(heads)]
    for group in zip(*(run["conventions"] for run in runs), strict=True):
        first = group[0]
        columns = [
            " / ".join(dict.fromkeys(_marked(c, field) for c in group))
            for field in ("torch", "torch_forward", "jax", "own")
        ]
        slopes = f"{first['left']:g}, {first['right']:g}"
        lines.append([first["name"], f"{first['at']:g}", slopes, *columns])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    versions = " and ".join(
        f"[torch {r['versions']['torch']}, jax {r['versions']['jax']}](../{name})"
        for r, name in zip(runs, names, strict=True)
    )
    return f"{table}\n\nOf {versions}; where both differ, in this order."


def program(words: list[str]) -> str:
    """The reproducer of a cell."""
    operation, stack, mode, transformation = words
    text = reproducer(operation, stack, mode, "float64", transformation)
    return f"```python\n{text}\n```"


_MAKE: dict[str, Callable[[list[str]], str]] = {
    "audit": audit_table,
    "conventions": conventions_table,
    "reproducer": program,
}


def _marked(convention: dict[str, Any], field: str) -> str:
    text = str(convention[field])
    return f"**{text}**" if field in convention["outside"] or text == "NaN" else text


def _read(name: str) -> dict[str, Any]:
    return json.loads((ROOT / name).read_text(encoding="utf-8"))


def _transformations(group: dict[str, Any]) -> list[str]:
    return [*group["right"], *(cell["transformation"] for cell in group.get("others", []))]


def _by_operation(found: dict[str, Any]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for group in found["audited"]:
        groups.setdefault((group["stack"], group["operation"]), []).append(group)
    return groups


def _cell(groups: list[dict[str, Any]], transformation: str) -> str:
    """The worst of all modes."""
    others = [
        cell
        for group in groups
        for cell in group.get("others", [])
        if cell["transformation"] == transformation
    ]
    for verdict, text in _NOT_RIGHT.items():
        of_it = [cell for cell in others if cell["verdict"] == verdict]
        if of_it:
            errors = [cell["error"] for cell in of_it if "error" in cell]
            numbers = [e for e in errors if isinstance(e, float)]
            error = f"{max(numbers):.0e}" if numbers else "NaN"
            return text.format(error=error)
    return "right" if any(transformation in group["right"] for group in groups) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
