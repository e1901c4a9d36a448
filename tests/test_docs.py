"""The examples in the documentation run as written."""

import json
import os
import re
import socket
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


@pytest.mark.slow  # it trains nine runs, two of them in two processes
def test_from_a_laptop_to_a_slice(tmp_path):
    """Every command of the page, with processes and CPU devices in the place of hosts and chips."""
    text = (ROOT / "docs/scale.md").read_text("utf-8")
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    assert commands.count("maml-jax") == 5
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        commands = commands.replace("7321", str(probe.getsockname()[1]))
    program = tmp_path / "bin" / "maml-jax"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m maml_jax "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    known = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, known)),
    }
    shell = ["/bin/sh", "-e", "-c", commands]
    done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(deviation over 3 seeds)" in done.stdout
    assert "2 hosts with" in done.stderr
    for run, updates in (
        ("one", 100),
        ("hosts", 150),
        ("sweep/meta-lr-0.001-seed-0", 150),
        ("sweep/meta-lr-0.002-seed-2", 100),
    ):
        kept = [int(path.name) for path in (tmp_path / "runs" / run / "checkpoints").iterdir()]
        assert max(kept) == updates

    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = f"import jax\njax.config.update('jax_num_cpu_devices', 4)\n{code}\nprint(float(loss))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0.5 < float(done.stdout) < 5


def test_the_table_of_scaling_is_that_of_its_file():
    from benchmarks import scaling

    file = ROOT / "benchmarks/results/2026-11-26-scaling.json"
    rows = json.loads(file.read_text("utf-8"))["rows"]
    assert "\n".join(scaling.table(rows)) in (ROOT / "docs/scale.md").read_text("utf-8")
    assert rows == scaling.rows()
    one = scaling.Slice(1.0, 2.0, 1.0, {1: (1,), 4: (2, 2)})
    assert scaling.all_reduce_s(one, 8.0, 4) == pytest.approx(2 * 3 / 4 * 8 + 4e-6)
    # Two slices: each of 4 chips sends a quarter of the bytes to the other slice.
    assert scaling.all_reduce_s(one, 8.0, 8) == pytest.approx(2 * 3 / 4 * 8 + 4e-6 + 2)
