"""Training over many processes: equal to one, ended together, resumed to the same bits.

Claim: 2 processes of 2 CPU devices and 4 of 1 end 100 updates of every algorithm with the
meta-parameters of 1 process of 1 device, to 1e-6 in float32 and 1e-12 in float64 of their norm.
Where SIGKILL ends one of the two processes of `maml-jax train --distributed` at a random moment,
the other ends with one line and an exit code above 0, and the run, resumed each time on two
processes, ends with the state and the log of one that was never stopped, bit for bit. Resumed on
one process, it ends there to rounding.
Repeat: `python -m benchmarks.hosts`. 100 kills take about an hour on two cores; `--kills 0` leaves
them out.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import script
from benchmarks.hosts_worker import PRECISIONS
from benchmarks.kills import PROBLEM, fingerprint, stage
from maml_jax.cli.runtime_log import LOST
from maml_jax.registry import names

LAYOUTS = ((2, 2), (4, 1))
"""Processes, and devices of each, that are held to one process of one device."""
BOUNDS = {"float32": 1e-6, "float64": 1e-12}
PATIENCE_S = 600
"""Seconds after which a process that has not ended counts as hanging."""
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
"""What XLA leaves out of programs that run for a second: they compile in a fifth of the time."""
TRAIN = [sys.executable, "-m", "maml_jax", "train"]
JOINED = "2 hosts with"
"""What process 0 says when all have joined."""


def coordinator() -> str:
    """An address and a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Ended(NamedTuple):
    """How one process ended."""

    code: int
    stderr: str
    seconds: float
    """After the kill, or after the start where none was sent."""


def run_all(
    command: list[str], processes: int, kill: tuple[int, float, Path | None] | None = None
) -> list[Ended]:
    """Run the command in so many processes that join, until all have ended.

    Args:
      command: what to run; `--coordinator`, `--process` and `--processes` are added.
      processes: how many.
      kill: which process is sent SIGKILL, how many seconds after all have joined and the file, if
        one is given, has grown.
    """
    address = coordinator()
    with ExitStack() as opened:
        logs = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(processes)]
        joined = [*command, "--coordinator", address, "--processes", str(processes), "--process"]
        running = [
            subprocess.Popen([*joined, str(i)], stdout=log, stderr=log)  # noqa: S603
            for i, log in enumerate(logs)
        ]
        start = time.monotonic()
        try:
            if kill is not None:
                number, after, file = kill
                _wait_for(running, lambda: JOINED in _text(logs[0]))
                before = _size(file)
                _wait_for(running, lambda: file is None or _size(file) > before)
                time.sleep(after)
                running[number].kill()
                start = time.monotonic()
            ended = []
            for process in running:
                code = process.wait(PATIENCE_S)
                ended.append((code, time.monotonic() - start))
        finally:
            for process in running:
                process.kill()
        return [Ended(c, _text(log), s) for (c, s), log in zip(ended, logs, strict=True)]


def _wait_for(running: list[Any], happened: Any) -> None:
    while all(process.poll() is None for process in running) and not happened():
        time.sleep(0.005)


def _size(file: Path | None) -> int:
    return file.stat().st_size if file is not None and file.exists() else 0


def _text(log: Any) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def equalities(folder: Path, algorithms: list[str], updates: int) -> list[dict[str, Any]]:
    """The largest relative difference of each layout, for each precision and algorithm."""
    rows = []
    command = [sys.executable, "-m", "benchmarks.hosts_worker", str(folder / "one.npz")]
    options = ["--updates", str(updates), "--algorithms", *algorithms]
    subprocess.run([*command, *options], check=True)  # noqa: S603
    one = dict(np.load(folder / "one.npz", allow_pickle=False))
    for processes, devices in LAYOUTS:
        out = folder / f"{processes}x{devices}.npz"
        command = [sys.executable, "-m", "benchmarks.hosts_worker", str(out)]
        ended = run_all([*command, "--devices", str(devices), *options], processes)
        if any(process.code for process in ended):
            raise SystemExit(f"{processes} processes failed:\n{ended[0].stderr[-2000:]}")
        many = dict(np.load(out, allow_pickle=False))
        for precision in PRECISIONS:
            for algorithm in algorithms:
                error = _difference(many, one, f"{precision} {algorithm} ")
                rows.append(
                    {
                        "processes": processes,
                        "devices_of_each": devices,
                        "precision": precision,
                        "algorithm": algorithm,
                        "updates": updates,
                        "difference": error,
                        "equal": error <= BOUNDS[precision],
                    }
                )
                print(rows[-1], file=sys.stderr)
    return rows


def _difference(many: dict[str, Any], one: dict[str, Any], prefix: str) -> float:
    """‖many − one‖/‖one‖ of all arrays with this prefix as one vector."""
    if many.keys() != one.keys():
        raise SystemExit(f"other arrays: {sorted(many.keys() ^ one.keys())}")
    chosen = [name for name in one if name.startswith(prefix)]
    a, b = (
        np.concatenate([np.ravel(arrays[n]).astype(np.float64) for n in chosen])
        for arrays in (many, one)
    )
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def kills(folder: Path, count: int, updates: int, seed: int) -> dict[str, Any]:
    """Kill one of two processes and resume, `count` times in all, and compare with a whole run."""
    problem = [*PROBLEM, "--updates", str(updates), "--distributed"]
    start = time.monotonic()
    _must_succeed(run_all([*TRAIN, *problem, "--out", str(folder / "whole")], 2))
    whole, expected = time.monotonic() - start, fingerprint(folder / "whole")
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    sent, runs_done, slowest, stages = 0, 0, 0.0, dict[str, int]()
    while sent < count:
        run = folder / f"run-{runs_done}"
        while True:
            arguments = problem if not run.exists() else ["--distributed"]
            arguments = [*arguments, "--out" if not run.exists() else "--resume", str(run)]
            killed = rng.randrange(2)
            log = None if rng.random() < 0.25 else run / "metrics.jsonl"
            kill = None if sent == count else (killed, rng.uniform(0.0, 1.5), log)
            ended = run_all([*TRAIN, *arguments], 2, kill)
            if [process.code for process in ended] == [0, 0]:
                break
            survivor, died = ended[1 - killed], ended[killed]
            needed_it = survivor.code != 0  # else it had only its own last files to write
            if died.code != -9 or (needed_it and not _one_line(survivor.stderr)):
                raise SystemExit(f"process {1 - killed} ended otherwise: {survivor}")
            slowest = max(slowest, survivor.seconds if needed_it else 0.0)
            where = f"process {killed}, {stage(run) if needed_it else 'when both had trained'}"
            stages[where] = stages.get(where, 0) + 1
            sent += 1
            print(f"\r{sent}/{count} kills, {runs_done} runs", end="", file=sys.stderr)
        found = fingerprint(run)
        if found != expected:
            raise SystemExit(f"run {runs_done} ended in other bits: {found}, not {expected}")
        runs_done += 1
    print(file=sys.stderr)
    return {
        "kills": sent,
        "runs": runs_done,
        "runs_equal": runs_done,
        "slowest_end_of_the_other_s": round(slowest, 2),
        "died": stages,
        "updates_of_a_run": updates,
        "seconds_of_an_undisturbed_run": round(whole, 1),
        **expected,
    }


def _one_line(stderr: str) -> bool:
    """Whether the process said once that it was left alone, and the runtime nothing besides."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    last = [line for line in lines if line.endswith(LOST)]
    return len(last) == 1 and lines[-1] == last[0] and "Traceback" not in stderr


def elsewhere(folder: Path, updates: int) -> dict[str, Any]:
    """Half of a run on two processes, the rest on one, against all of it on two."""
    import jax

    from maml_jax.training import runs

    problem = [*PROBLEM, "--meta-schedule", "constant"]
    half, run, whole = str(updates // 2), folder / "elsewhere", folder / "two"
    for out, some in ((whole, str(updates)), (run, half)):
        command = [*TRAIN, *problem, "--updates", some, "--distributed", "--out", str(out)]
        _must_succeed(run_all(command, 2))
    subprocess.run(  # noqa: S603
        [*TRAIN, "--resume", str(run), "--updates", str(updates)], check=True, capture_output=True
    )
    a, b = (
        {str(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(state.meta)}
        for state in (runs.restore(run).state, runs.restore(whole).state)
    )
    error = _difference(a, b, "")
    return {"updates": updates, "difference": error, "equal": error <= BOUNDS["float32"]}


def _must_succeed(ended: list[Ended]) -> None:
    for process in ended:
        if process.code:
            raise SystemExit(f"a run failed:\n{process.stderr[-2000:]}")


def main() -> int:
    """Show all of it; print the figures, and write them where `--out` says."""
    parser = script.measuring_parser("benchmarks.hosts", __doc__)
    parser.add_argument("--algorithms", nargs="*", default=names("algorithms"))
    parser.add_argument("--updates", type=int, default=100, help="of the equalities")
    parser.add_argument("--kills", type=int, default=100, help="how many SIGKILLs")
    parser.add_argument("--run-updates", type=int, default=1000, help="of each run that is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.algorithms:
            figures["equalities"] = equalities(folder, options.algorithms, options.updates)
        if options.kills:
            figures["kills"] = kills(folder, options.kills, options.run_updates, options.seed)
            figures["elsewhere"] = elsewhere(folder, options.run_updates)
    print(json.dumps(figures, indent=1))
    script.write_record(
        options.out, "benchmarks.hosts", xla_flags=os.environ["XLA_FLAGS"], **figures
    )
    compared = [*figures.get("equalities", []), figures.get("elsewhere", {"equal": True})]
    return 0 if all(row["equal"] for row in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
