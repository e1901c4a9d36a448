"""Training over many processes: the same as in one. What the command line says is in `test_cli`."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import maml_jax as mj
from benchmarks import hosts, hosts_worker
from maml_jax.batching import hosts as together
from maml_jax.cli import hosts as cli_hosts
from maml_jax.cli import runtime_log


def test_two_processes_draw_and_learn_as_one(tmp_path, x64, monkeypatch):
    """Two devices of two processes against one device of this one, in double precision."""
    out = tmp_path / "two.npz"
    arguments = ["--algorithms", "protonet", "--precisions", "float64", "--updates", "3"]
    command = [sys.executable, "-m", "benchmarks.hosts_worker", str(out), *arguments]
    monkeypatch.chdir(Path(__file__).parents[2])
    ended = hosts.run_all(command, 2)
    assert [process.code for process in ended] == [0, 0], ended
    two = np.load(out, allow_pickle=False)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    one = hosts_worker.learn("protonet", "float64", 3)
    start = hosts_worker.network("float64")[0]["body"]["kernel"]
    assert np.abs(one["body/kernel"] - start).max() > 1e-3
    for path, leaf in one.items():
        np.testing.assert_allclose(two[f"float64 protonet {path}"], leaf, rtol=0, atol=1e-14)


@pytest.mark.slow  # seven processes; `python -m benchmarks.hosts` has every algorithm
def test_processes_train_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    rows = hosts.equalities(tmp_path, ["maml", "imaml", "reptile"], 20)
    assert len(rows) == 4 * 3
    assert [row for row in rows if not row["equal"]] == []


@pytest.mark.slow  # two processes train, one is killed, they resume, ten times over
def test_a_kill_ends_both_and_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    figures = hosts.kills(tmp_path, 2, 400, seed=1)
    assert figures["kills"] == 2
    assert figures["runs_equal"] >= 1
    assert figures["slowest_end_of_the_other_s"] < together.HEARTBEAT_S + 15
    assert hosts.elsewhere(tmp_path, 200)["equal"]


def train(folder, *alone):
    """The exit codes and errors of two processes that train together, each with its options."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--processes", "2"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "maml_jax", "train", *own, *joined, "--process", str(number)],
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            encoding="utf-8",
        )
        for number, own in enumerate(alone)
    ]
    try:
        errors = [process.communicate(timeout=200)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], errors


@pytest.mark.slow  # two processes, three times
def test_hosts_that_would_wait_for_one_another_say_so(tmp_path):
    new = ["--recipe", "sinusoid", "--updates", "4", "--out", "new"]
    codes, errors = train(tmp_path, ["--resume", "old"], new)
    assert codes == [2, 2], errors
    assert "--resume was old on this host" in errors[0]
    assert "--resume was given on another host" in errors[1]
    assert not list(tmp_path.iterdir())
    codes, errors = train(tmp_path, new, new)
    assert codes == [0, 0], errors
    shutil.copytree(tmp_path / "new", tmp_path / "copy")
    more = ["--updates", "8", "--resume"]
    codes, errors = train(tmp_path, [*more, "new"], [*more, "copy"])
    assert codes == [2, 2], errors
    assert "--resume was copy; all hosts must see it: name a folder they share" in errors[1]
    assert not list(tmp_path.glob("*/.seen*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", 0, 1), r"`coordinator` was 'nowhere'; it must be an address and a port"),
        (("here:99999", 1, 2), r"`coordinator` was 'here:99999'; it must be an address and a port"),
        (("here:７", 1, 2), r"`coordinator` was 'here:７'; it must be an address and a port"),
        ((":1", 1, 2), r"`coordinator` was ':1'; it must be an address and a port"),
        ((5, 1, 2), r"`coordinator` was 5; it must be an address and a port"),
        (("here:1", 2, 2), r"`process` was 2; of 2 the last is 1\."),
        (("here:1", -1, 2), r"`process` was -1; it must be an integer of at least 0\."),
        (("here:1", 0, 0), r"`processes` was 0; it must be an integer of at least 1\."),
        ((), r"`coordinator`, `process` and `processes` must be given|cannot join the processes"),
    ],
)
def test_bad_hosts_are_refused(arguments, message):
    with pytest.raises(mj.InputError, match=message):
        mj.initialize_hosts(*arguments)


def test_a_port_that_another_has_is_refused():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            mj.InputError, match=r"its port cannot be had here \(.*\): choose another"
        ):
            mj.initialize_hosts(address, 0, 2)


def test_options_of_hosts_need_distributed():
    for name, value in (("coordinator", "here:1"), ("process", 0), ("processes", 2)):
        command = SimpleNamespace(hosts=cli_hosts.HostOptions(**{name: value}))
        with pytest.raises(mj.InputError, match=f"`{name}` was {value}; it needs `distributed`"):
            cli_hosts.join(command)
    cli_hosts.join(SimpleNamespace())  # a command without such options


RUNTIME = """\
[Gloo] Rank 1 is connected to 3 peer ranks. Expected number of connected peer ranks is : 3
a line of another library
E1126 17:19:49.626592   12227 coordination_service_agent.cc:289] Polled an error from coordination
F1126 17:19:49.626722   12227 client.h:80] Terminating process because the JAX distributed service \
detected fatal errors. This most likely indicates that another task died
Additional GRPC error information from remote target coordination_service
*** Check failure stack trace: ***
    @     0x7f4167c40634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""


def test_the_end_of_the_runtime_is_told_in_one_line():
    command = [sys.executable, "-I", runtime_log.__file__, "maml-jax train"]
    said = subprocess.run(command, input=RUNTIME, capture_output=True, text=True).stderr
    assert said == f"a line of another library\nmaml-jax train: {runtime_log.LOST}\n"
    again = f"{runtime_log.LOST}\n{RUNTIME}"
    said = subprocess.run(command, input=again, capture_output=True, text=True).stderr
    assert said == f"maml-jax train: {runtime_log.LOST}\n"
