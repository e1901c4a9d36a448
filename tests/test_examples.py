"""The examples run as they stand, only shorter: each by itself, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORTER = {
    "first_learner": {"UPDATES = 6000": "UPDATES = 20", "count=200, steps=10": "count=2, steps=10"},
    "own_pictures": {"UPDATES = 300": "UPDATES = 2", "filters=32": "filters=2"},
    "compare_five": {"UPDATES = 1000": "UPDATES = 10", "TASKS = 200": "TASKS = 2"},
    "verify_pytorch": {},
    "long_inner_loops": {"STEPS = (1, 5, 20, 50)": "STEPS = (1, 3)"},
}
"""What makes each shorter; it must be in the source."""
SAYS = {
    "first_learner": r"MAML .* mean squared error after 0, 1, 5, 10 steps: \d",
    "own_pictures": r"\d+% of 100 pictures are right",
    "compare_five": r"ProtoNet  accuracy \d",
    "verify_pytorch": r"(?s)inner graph not created.*correct: .*weight decay 0.0005 in the inner",
    "long_inner_loops": r"mixed against reverse: \d\.\de-0[5-9]",
}


def test_all_examples_are_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHORTER)


def test_the_first_cells_of_the_first_learner(capsys):
    """Up to its training, in this process: the meta-gradient is as long as the loss is steep."""
    source = (EXAMPLES / "first_learner.py").read_text(encoding="utf-8")
    cells = source.split("# ## Meta-training")[0]
    for here, instead in (("mj.use_all_cores()", ""), ("plt.show()", "plt.close()")):
        assert here in cells
        cells = cells.replace(here, instead)
    matplotlib.use("agg")
    exec(cells, {})  # noqa: S102
    steep, length = map(float, re.findall(r"\d\.\d+", capsys.readouterr().out.splitlines()[-1]))
    assert steep == pytest.approx(length, rel=0.02)


@pytest.mark.slow  # each compiles several learners, or tries all known mistakes
@pytest.mark.parametrize("name", SHORTER)
def test_an_example_runs(name, tmp_path):
    if name == "verify_pytorch":
        pytest.importorskip("torch")
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for long, short in SHORTER[name].items():
        assert long in source
        source = source.replace(long, short)
    (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, f"{name}.py"],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(SAYS[name], done.stdout), done.stdout
