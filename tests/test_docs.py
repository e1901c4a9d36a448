"""The examples in the documentation run as written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from problems import classification

ROOT = Path(__file__).parent.parent


def first_example(name):
    return re.search(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)[1]


@pytest.mark.slow  # it reads the glyphs and compiles convolutions in a process of its own
def test_readme(tmp_path):
    """As pasted, but shorter; `test_wheel.py` runs it as it stands."""
    example = first_example("README.md")
    for long, short in (("range(200)", "range(2)"), ("=200", "=2"), ("filters=32", "filters=2")):
        assert long in example
        example = example.replace(long, short)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"accuracy \d+\.\d+ ± \d+\.\d+ % over 2 tasks \(95 % interval\)\n", done.stdout
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parity(capsys):
    pytest.importorskip("torch")
    exec(first_example("docs/parity.md"), {"episodes": classification(tasks=3)})  # noqa: S102
    said = capsys.readouterr().out
    assert said.startswith("WRONG")
    assert "explained by: inner graph not created (the gradient is first-order)" in said
