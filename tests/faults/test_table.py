"""The table of what once went wrong has every test."""

from pathlib import Path

import table


def test_the_table_is_that_of_the_tests():
    """Else: python tests/faults/table.py."""
    page = Path(table.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert page == table.table()
    assert {path.name for path in table.HERE.glob("test_*.py")} == {*table.PARTS, "test_table.py"}
