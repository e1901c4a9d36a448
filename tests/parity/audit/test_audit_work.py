"""The processes of an audit."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, sys, time
from functools import partial
from pathlib import Path
from parity.audit.work import run_all

def compute(folder, number):
    Path(folder, f"{number}.pid").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(120)

if __name__ == "__main__":
    jobs = [partial(compute, sys.argv[1], number) for number in range(2)]
    run_all(jobs, ["first", "second"], processes=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    pytest.importorskip("torch", reason="workers set PyTorch's threads")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, program, tmp_path], stderr=subprocess.DEVNULL)
    files = [tmp_path / f"{number}.pid" for number in range(2)]
    try:
        wait_until(lambda: all(file.exists() and file.read_text("utf-8") for file in files))
        workers = [int(file.read_text("utf-8")) for file in files]
        assert all(map(runs, workers))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: not any(map(runs, workers)))


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:  # one that has ended stays listed until somebody asks how
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return sys.platform != "linux"
