"""The page "your own algorithm", followed as a new contributor would, in a copy of the project.

It is slow for it trains, compiles and compares in processes of their own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/your-own-algorithm.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run Python in a copy of the project that has what the page adds."""
    copy = tmp_path_factory.mktemp("copy")
    left = shutil.ignore_patterns("__pycache__")
    for folder in ("maml_jax", "parity", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=left)
    shutil.copy(ROOT / "pyproject.toml", copy)
    added = re.findall(r"<!-- (file|line): (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert [kind for kind, _, _ in added] == ["file", "line", "file"]
    for kind, name, text in added:
        with (copy / name).open("x" if kind == "file" else "a", encoding="utf-8") as file:
            file.write(text)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    assert run("-c", "import maml_jax; print(maml_jax.__file__)").startswith(str(copy))
    return run


def test_it_trains_by_name(run):
    small = ("--updates", "20", "--validate-every", "0", "--hidden", "8", "--tasks", "4")
    trained = ("--algorithm", "normalized-maml", "--out", "run")
    run("-m", "maml_jax", "train", "--recipe", "sequences", *trained, *small)
    assert "± " in run("-m", "maml_jax", "evaluate", "run", "--tasks", "5")


def test_it_conforms(run):
    said = run("-m", "pytest", "tests/algorithms/conformance.py", "-k", "normalized_maml")
    assert re.search(r"1[0-9] passed", said)


def test_it_stands_in_parity(run):
    cells = ("normalized-maml/mlp-sinusoid/5", "normalized-maml/mlp-batch-norm/5")
    said = run("-m", "parity", "--only", *cells)
    assert said.count(" ok ") >= 2


def test_what_checks_the_whole_is_content(run):
    run("-m", "pytest", "tests/test_imports.py", "tests/parity/test_references.py")
    run("-m", "pytest", "tests/parity/test_cells.py", "-k", "every or complete or compared")
    run("-m", "ruff", "check", "maml_jax/algorithms", "parity/reference")
    run("-m", "mypy", "maml_jax/algorithms/normalized_maml.py")


def test_the_first_example_runs_as_pasted(run):
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]
    percent = re.search(r"accuracy (\d+\.\d+) ± ", run("-c", example))
    assert float(percent[1]) > 45  # five classes: chance is 20
