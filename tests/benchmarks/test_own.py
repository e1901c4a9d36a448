"""A user's own workload and PyTorch step, as docs/benchmark-your-own.md has them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as cli
from benchmarks import own, results_table, workloads
from benchmarks.peers import AbsentError, own_jax

ROOT = Path(__file__).parents[2]
SOURCES = ("mine:workload", "mine_torch:step")


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The two files of the page, in a folder that is searched for modules."""
    text = (ROOT / "docs/benchmark-your-own.md").read_text("utf-8")
    for name, code in re.findall(r'```python title="(\S+)"\n(.*?)```', text, re.DOTALL):
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("mine", "mine_torch"):
        sys.modules.pop(name, None)


def of_step():
    """The workload, its inputs in float64, and the step's loss and gradient as they are timed."""
    pytest.importorskip("torch")
    from benchmarks.peers import own_torch

    (workload,), _ = own.chosen(None, SOURCES[0], [SOURCES[1]])
    inputs = workloads.make_inputs(workload, 0, "float64")
    program = own_torch.prepare(workload, inputs, "cpu", SOURCES[1])
    return workload, inputs, program.result(program.step())


@pytest.mark.slow  # it compiles two inner steps and their derivatives
def test_both_compute_the_same_from_the_same(page, x64):
    workload, inputs, (other_loss, other) = of_step()
    program = own_jax.prepare(workload, inputs, "cpu")
    loss, gradient = program.result(program.step())
    assert loss == pytest.approx(other_loss, rel=1e-12)
    ours, theirs = workloads.flatten(gradient), workloads.flatten(other)
    assert np.linalg.norm(ours - theirs) < 1e-12 * np.linalg.norm(ours)


def test_a_step_that_changes_its_weights_is_not_timed(page, x64):
    code = (page / "mine_torch.py").read_text("utf-8")
    wrong = code.replace(
        "    return loss.d", "    weights['head.bias'].data += 1\n    return loss.d"
    )
    assert wrong != code
    (page / "mine_torch.py").write_text(wrong, encoding="utf-8")
    with pytest.raises(AbsentError, match=r"changed its weights in place: head\.bias"):
        of_step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "a:b"], "argument --peer: it needs --workload"),
        (["--workload", "mine"], "argument --workload: was 'mine'; it must be module:NAME"),
        (["--workload", "nowhere:x"], "was 'nowhere:x'; no module named 'nowhere'"),
        (["--workload", "mine:nothing"], "was 'mine:nothing'; the module has no nothing"),
        (["--workload", "mine:inputs"], "was 'mine:inputs'; it must be an own.OwnWorkload"),
        (["--workload", SOURCES[0], "--only", "x"], "--only, --peers and --before are for"),
        (["--workload", SOURCES[0], "--peer", "mine:np"], "was 'mine:np'; it must be a function"),
    ],
)
def test_bad_arguments_get_one_line(arguments, message, page, monkeypatch, capsys):
    monkeypatch.chdir(page)
    monkeypatch.setenv("PYTHONPATH", "")
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments, "--device", "cpu"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_busy_machine_is_told_in_the_table():
    assert results_table._busy({"method": {"load_average_before": 0.2}}) == []
    assert results_table._busy({"method": {}}) == []
    (line,) = results_table._busy({"method": {"load_average_before": 3.21}})
    assert line.startswith("Measured on a busy machine (load average 3.2 before it began)")


@pytest.mark.slow  # it starts a process of each framework, twice
@pytest.mark.parametrize("right", [True, False])
def test_the_page(page, right):
    if not right:
        code = (page / "mine_torch.py").read_text("utf-8")
        (page / "mine_torch.py").write_text(code.replace(", create_graph=True", ""), "utf-8")
    command = [sys.executable, "-m", "benchmarks", "--workload", SOURCES[0], "--peer", SOURCES[1]]
    command += ["--device", "cpu", "--repeats", "1", "--out", "mine.json"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, cwd=page, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == int(not right), done.stderr
    results = json.loads((page / "mine.json").read_text("utf-8"))
    ours, theirs = results["results"]
    assert ours["status"] == "measured"
    assert theirs["peer"] == SOURCES[1]
    if right:
        assert theirs["status"] == "measured"
        assert 0 < theirs["float64"]["gradient_error"] < 1e-9
        assert "| mine:workload | mine_torch:step |" in results_table.markdown_table(results)
    else:
        assert theirs["status"] == "refused"
        assert theirs["float64"]["gradient_error"] > 1e-3
