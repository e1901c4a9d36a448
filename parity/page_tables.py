"""The tables of a documentation page, from the files that `python -m parity --out FILE` wrote.

A page marks where a table belongs, and what stands between the two marks is replaced:

    <!-- errors by algorithm: benchmarks/results/FILE.json -->
    <!-- end of table -->

`python -m parity.page_tables docs/parity.md` updates all tables of the page; a test checks that
they are up to date. `errors` are those in float64, `float32` those of `parity/rounding.py`; the
rows can be any field of a cell, such as `algorithm`, `model` or `inner optimizer`.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Cells: TypeAlias = Sequence[dict[str, Any]]

ROOT = Path(__file__).parents[1]
_END = "<!-- end of table -->"
_MARK = re.compile(rf"(<!-- (errors|float32) by ([a-z ]+): (\S+) -->\n).*?{_END}", re.DOTALL)
_NAMES = {"sgd": "gradient descent", "adam": "Adam"}


def main(arguments: list[str]) -> int:
    """Update the tables of the pages that `arguments` name."""
    return update_pages("parity.page_tables", arguments, with_tables)


def update_pages(module: str, pages: Sequence[str], with_tables: Callable[[str], str]) -> int:
    """Write each page as `with_tables` makes it of its text; the exit status of that command."""
    if not pages:
        print(f"usage: python -m {module} PAGE.md …", file=sys.stderr)
        return 2
    for page in map(Path, pages):
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_tables(text: str) -> str:
    """The page with all its tables made from their files."""

    def replacement(mark: re.Match[str]) -> str:
        begin, kind, key, name = mark.groups()
        results = json.loads((ROOT / name).read_text(encoding="utf-8"))
        columns = ERRORS if kind == "errors" else FLOAT32
        return f"{begin}{table(results, key, columns)}\n\n{origin(results, name)}\n{_END}"

    return _MARK.sub(replacement, text)


def files(text: str) -> list[str]:
    """The results files of the page's tables."""
    return [mark[4] for mark in _MARK.finditer(text)]


def table(results: dict[str, Any], key: str, columns: dict[str, Callable[[Cells], str]]) -> str:
    """A row for each value of the field `key`, with the number of its cells."""
    field = key.replace(" ", "_")
    rows = {
        cell[field]: [c for c in results["cells"] if c[field] == cell[field]]
        for cell in results["cells"]
    }
    lines = [[key, "cells", *columns]]
    for value, cells in rows.items():
        lines.append(
            [
                _NAMES.get(value, str(value)),
                str(len(cells)),
                *(show(cells) for show in columns.values()),
            ]
        )
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def origin(results: dict[str, Any], name: str) -> str:
    """How many cells passed, the file with every cell, and the command that wrote it."""
    passed = sum(cell["passed"] for cell in results["cells"])
    versions = ", ".join(f"{k} {results['versions'][k]}" for k in ("jax", "torch"))
    return (
        f"[{passed} of {len(results['cells'])} cells](../{name}) within their bounds, by\n"
        f"`{results['command']}` ({versions})."
    )


def _largest(of: Callable[[dict[str, Any]], float | None]) -> Callable[[Cells], str]:
    def show(cells: Cells) -> str:
        found = [error for cell in cells if (error := of(cell)) is not None]
        return f"{max(found):.0e}" if found else ""

    return show


def _range(field: str) -> Callable[[Cells], str]:
    def show(cells: Cells) -> str:
        found = [cell["float32"][field] for cell in cells]
        return f"{min(found):.0e} to {max(found):.0e}"

    return show


ERRORS = {
    "loss": _largest(lambda cell: cell["loss"]),
    "weights": _largest(lambda cell: max(cell["weights"])),
    "meta-gradient": _largest(lambda cell: cell["meta_gradient"]),
    "after updates": _largest(lambda cell: cell["after_updates"]),
}
FLOAT32 = {
    "JAX against float64": _range("jax"),
    "PyTorch against float64": _range("torch"),
    "JAX against PyTorch": _range("apart"),
    "at a kink": lambda cells: str(sum(cell["float32"]["jump"] > 0 for cell in cells)),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
