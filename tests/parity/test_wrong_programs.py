"""The page of wrong programs: each is led to the verdict that the page shows.

It is slow for each program is compared with the whole catalogue of mistakes.
"""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/wrong-programs.md"
SETUP, *PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
VERDICTS = re.findall(r"```\n\n```\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
pytestmark = pytest.mark.slow


def without_rounding(text):
    """The verdict without its figures, of which some are rounding."""
    return re.sub(r"\d[\d.]*(e[+-]\d+)?", "#", text).strip()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_program_has_its_verdict(capsys):
    assert len(PROGRAMS) == len(VERDICTS) == 5
    names = {}
    exec(SETUP, names)  # noqa: S102
    for program, verdict in zip(PROGRAMS, VERDICTS, strict=True):
        exec(program, names)  # noqa: S102
        assert without_rounding(capsys.readouterr().out) == without_rounding(verdict)
    assert "unknown" not in "".join(VERDICTS)
