"""The table of `tests/faults/README.md`: what once went wrong, and the test that holds it.

    python tests/faults/table.py

writes it anew from the first lines of the tests' docstrings.
"""

import ast
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "test_pictures.py": "Pictures and folders",
    "test_picture_trees.py": "The same, at random",
    "test_runs_stand_alone.py": "Runs",
    "test_python_interface.py": "The Python interface",
    "test_odd_shapes.py": "The same, at random",
    "test_parity.py": "Parity",
    "test_foreign_weights.py": "Weights of others",
}
HEAD = """\
# What once went wrong

Each trial comes from a report of a user, here or of other software, and failed once. Its whole kind
was mended, and a test holds it; ★ marks what was silently wrong. `python
tests/faults/table.py` writes this table from the tests.
"""


def table() -> str:
    """The page."""
    lines = [HEAD]
    for file, title in PARTS.items():
        lines += [f"## {title}: [{file}]({file})", "", "| trial | test |", "|---|---|"]
        tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                said = (ast.get_docstring(node) or "").partition("\n")[0].replace("|", "\\|")
                lines.append(f"| {said} | `{node.name}` |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    (HERE / "README.md").write_text(table(), encoding="utf-8")
