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


def blocks(page):
    """All `python` blocks of a page one after another, as a reader pastes them."""
    text = (ROOT / f"docs/{page}.md").read_text("utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("page", ["get-started", "your-own-loss", "your-own-problem"])
def test_pages_run_as_written(page):
    exec(blocks(page), {})  # noqa: S102


@pytest.mark.slow  # a program starts and compiles
def test_many_devices(tmp_path):
    """In a process of its own, for it makes every core a device."""
    code = f"{blocks('devices')}\nassert len(jax.devices()) == mj.use_all_cores()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # it compiles nine learners and a convolution
def test_the_article(capsys):
    exec(blocks("article"), {})  # noqa: S102
    # The formula by hand, and what the first-order gradient misses.
    error, missed = map(float, capsys.readouterr().out.splitlines()[0].split())
    assert error < 1e-6 < 1e-3 < missed
