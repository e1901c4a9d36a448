"""A user's own workload and PyTorch step, as docs/benchmark-your-own.md has them."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import maml_jax as mj
from benchmarks import __main__ as cli
from benchmarks import own, results_table, workloads
from benchmarks.peers import RefusedError, own_jax
from benchmarks.process import what_it_raised

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
    for name in ("mine", "mine_torch", "bad", "which"):
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
    with pytest.raises(RefusedError, match=r"changed in place: head\.bias"):
        of_step()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("dict()", "must return a pair, the mean loss and a dict .* it returned a dict"),
        ("loss, [1]", "must be a dict by the names of the weights; it was a list"),
        ("loss, {}", r"differ in the names body\.bias, body\.weight, head\.bias, head\.weight"),
        (
            "loss, {n: w.ravel() for n, w in weights.items()}",
            r"of the shape \(32, 20\); it was \(640,",
        ),
        ("loss, {n: w.detach().numpy() for n, w in weights.items()}", "it was ndarray"),
        ("loss + support_x.add_(1).sum(), weights", "changed in place: support_x"),
    ],
)
def test_a_step_that_returns_no_meta_gradient_is_refused(returned, message, page, x64):
    code = (page / "mine_torch.py").read_text("utf-8")
    wrong = re.sub(r"    return loss\.detach.*", lambda _: f"    return {returned}", code)
    assert wrong != code
    (page / "mine_torch.py").write_text(wrong, encoding="utf-8")
    with pytest.raises(RefusedError, match=message):
        of_step()


def test_whole_numbers_are_images_too():
    pytest.importorskip("torch")
    from benchmarks.peers.own_torch import _episodes

    images = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint8).reshape(2, 3, 4, 5, 6)
    tensor = _episodes(images)
    assert tensor.shape == (2, 3, 6, 4, 5)
    assert str(tensor.dtype) == "torch.int64"
    np.testing.assert_array_equal(tensor[1, 2, 3], images[1, 2, ..., 3])


def test_a_learner_with_other_meta_parameters_is_refused(page):
    workload = own.OwnWorkload(page_module("mine").inputs, more_than_the_weights)
    page_module("mine").other = workload
    (chosen,), _ = own.chosen(None, "mine:other", [])
    inputs = workloads.make_inputs(chosen, 0)
    with pytest.raises(RefusedError, match=r"must be the weights of `inputs`; they differ in \["):
        own_jax.prepare(chosen, inputs, "cpu")


def more_than_the_weights():
    return mj.meta_sgd(page_module("mine").network, inner_lr=0.1, inner_steps=1)


def page_module(name):
    return importlib.import_module(name)


TRACEBACK = """warning
Traceback (most recent call last):
  File "/home/user/mine.py", line 7, in apply
    x @ w
  File "/usr/lib/python3/site-packages/jax/core.py", line 9, in dot
    raise
TypeError: shapes differ
by much
--------------------
For simplicity, JAX has removed its internal frames.
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TRACEBACK, "TypeError: shapes differ (mine.py, line 7)"),
        (TRACEBACK.replace("/home/user", str(ROOT)), "TypeError: shapes differ"),
        (
            "Traceback (most recent call last):\nKeyError: 'a'\n" + TRACEBACK,
            "TypeError: shapes dif",
        ),
        ("a\nkilled\n", "killed"),
        ("", ""),
    ],
)
def test_what_a_worker_raised_is_told(text, said):
    assert what_it_raised(text)[: len(said)] == said
    assert len(what_it_raised(text)) <= 45


BAD = """
import numpy as np
import mine
from benchmarks.own import OwnWorkload

def cut(seed):
    weights, x, y, *query = mine.inputs(seed)
    return weights, x, y[:, :5], *query

raises = OwnWorkload(lambda seed: {}["x"], mine.learner)
lists = OwnWorkload(lambda seed: (mine.inputs(seed)[0], [1], [2], [3], [4]), mine.learner)
changes = OwnWorkload(lambda seed: mine.inputs(None), mine.learner)
fewer = OwnWorkload(cut, mine.learner)
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "a:b"], "argument --peer: it needs --workload"),
        (["--workload", "mine"], "argument --workload: was 'mine'; it must be module:NAME"),
        (["--workload", "nowhere:x"], "was 'nowhere:x'; no module named 'nowhere'"),
        (["--workload", "mine:nothing"], "was 'mine:nothing'; the module has no nothing"),
        (["--workload", "mine:inputs"], "was 'mine:inputs'; it must be an own.OwnWorkload"),
        (["--workload", "broken:x"], "importing 'broken' failed: RuntimeError: at import"),
        (["--workload", "bad:raises"], "the inputs of 'bad:raises' failed: KeyError: 'x'; they"),
        (["--workload", "bad:lists"], "the inputs of 'bad:lists' had a list as support_x; it"),
        (["--workload", "bad:changes"], "'bad:changes' differ from call to call in support_x"),
        (["--workload", "bad:fewer"], "had (16, 6), (16, 5), (16, 9), (16, 9) tasks and examples"),
        (["--workload", SOURCES[0], "--only", "x"], "--only, --peers and --before are for"),
        (["--workload", SOURCES[0], "--peer", "mine:np"], "was 'mine:np'; it must be a function"),
    ],
)
def test_bad_arguments_get_one_line(arguments, message, page, monkeypatch, capsys):
    monkeypatch.chdir(page)
    monkeypatch.setenv("PYTHONPATH", "")
    (page / "broken.py").write_text("raise RuntimeError('at import\\nfor a reason')", "utf-8")
    (page / "bad.py").write_text(BAD, encoding="utf-8")
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


def test_the_reference_alone_has_no_chart(tmp_path, capsys):
    results = {"results": [{"workload": "a", "peer": "maml_jax", "status": "measured"}]}
    cli._draw(results, tmp_path / "a.png")
    assert capsys.readouterr().err == "no chart: nothing was timed beside maml_jax\n"
    assert not list(tmp_path.iterdir())


def test_an_error_that_was_not_taken_is_a_dash():
    times = {"median_s": 1.0, "min_s": 1.0, "max_s": 1.0, "compile_s": 1.0}
    ratios = {"ratio_of_medians": 1.0, "median_ratio": 1.0}
    memory = {"memory": {"peak_bytes": 1, "growth_bytes": 1}}
    record = {**times, **ratios, **memory, "float64": {"gradient_error": 2e-15}}
    assert results_table._numbers(record)[-1] == "2e-15 / –"


@pytest.mark.slow  # it starts a process of each framework, twice
@pytest.mark.parametrize("right", [True, False])
def test_the_page(page, right):
    # A file is found from where the user is.
    (page / "here.txt").touch()
    code = (page / "mine.py").read_text("utf-8")
    reading = code.replace("    rng =", "    open('here.txt').close()\n    rng =")
    assert reading != code
    (page / "mine.py").write_text(reading, encoding="utf-8")
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
    found = subprocess.run(
        [sys.executable, "which.py"],
        cwd=page,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert ("correct" if right else "inner graph not created") in found.stdout, found.stderr
