"""docs/parity.md: from a training step to a verdict, as written."""

import re
from pathlib import Path

import pytest
from shared_cells import errors_against

from parity.cells import Cell

TEXT = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
EXAMPLE, REFERENCE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_example_is_short():
    assert len(EXAMPLE.splitlines()) < 30


def test_the_example_needs_nothing_else(capsys):
    exec(EXAMPLE, {})  # noqa: S102
    said = capsys.readouterr().out
    assert said.startswith("WRONG: relative error")
    quoted = re.search(r"```\n(explained by: .*) \(residual .*\)\n```", TEXT)[1]
    assert quoted in said
    assert " or by: " not in said


def test_the_example_is_right_once_it_is_mended(capsys):
    forgotten = "theta.values())\n        fast"
    assert EXAMPLE.count(forgotten) == 1
    mended = EXAMPLE.replace(forgotten, "theta.values(), create_graph=True)\n        fast")
    exec(mended, {})  # noqa: S102
    assert capsys.readouterr().out.startswith("correct")


def test_the_reference_of_ones_own_is_maml_as_written():
    names = {}
    exec(REFERENCE, names)  # noqa: S102
    (comparison,) = names["COMPARISONS"]
    assert errors_against(Cell("maml", "mlp", 5, "mixed"), comparison.reference).passed


@pytest.mark.parametrize(
    "option",
    ["--as-trained", "--all", "--only", "--float32", "--against", "--json", "--out", "--list"],
)
def test_the_options_exist(option, capsys):
    from parity.__main__ import main

    assert option in TEXT
    with pytest.raises(SystemExit):
        main(["--help"])
    assert option in capsys.readouterr().out
