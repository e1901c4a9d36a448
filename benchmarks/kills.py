"""Runs that are killed and resumed end in the same bits as a run that was never stopped.

Claim: `maml-jax train`, killed by SIGKILL at random moments, 100 times in all, and resumed each
time, ends with the parameters, the optimiser, the random key and the log of a run that was never
stopped, bit for bit. Half of the time is spent saving, so that many moments fall into a save. The
same holds for SIGTERM, on which the program saves first.
Repeat: `python -m benchmarks.kills`. It takes about a quarter of an hour on one core.
"""

import collections
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import script

TRAIN = [sys.executable, "-m", "maml_jax", "train"]
PROBLEM = ["--recipe", "sinusoid", "--hidden", "8", "--tasks", "4", "--validation-tasks", "10"]
PROBLEM += ["--updates-per-dispatch", "50", "--checkpoint-every", "100", "--validate-every", "500"]


def run_until_signal(
    command: list[str], after: float | None, number: int, log: Path | None = None
) -> tuple[int, str]:
    """Run one process and send it the signal after so many seconds.

    Args:
      command: what to run.
      after: seconds until the signal; None lets it end by itself.
      number: the signal.
      log: if given, the seconds count from when that file grows, which is when training begins.

    Returns:
      The exit code and the end of what it wrote to stderr.
    """
    process = subprocess.Popen(  # noqa: S603
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    before = _size(log)
    while log is not None and process.poll() is None and _size(log) <= before:
        time.sleep(0.005)
    try:
        stderr = process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        stderr = process.communicate()[1]
    return process.returncode, stderr[-2000:]


def _size(log: Path | None) -> int:
    return log.stat().st_size if log is not None and log.exists() else 0


def fingerprint(run: Path) -> dict[str, str]:
    """Digests of the final state, array by array, and of the log."""
    import jax
    import numpy as np

    from maml_jax.training import runs

    state = runs.restore(run).state
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        digest.update(f"{path}{leaf.dtype}{leaf.shape}".encode() + np.asarray(leaf).tobytes())
    return {
        "state": digest.hexdigest(),
        "metrics": hashlib.sha256((run / "metrics.jsonl").read_bytes()).hexdigest(),
    }


def stage(run: Path) -> str:
    """What the process was doing when it was killed, as far as its folder tells."""
    if not run.exists():
        return "before the run had a folder"
    if list((run / "checkpoints").glob("*.new")):
        return "in the middle of a save"
    return "with a checkpoint" if list((run / "checkpoints").glob("*")) else "before a checkpoint"


def trial(folder: Path, kills: int, updates: int, name: str, seed: int) -> dict[str, Any]:
    """Kill and resume runs until `kills` signals were sent, and compare them with a whole one."""
    number = getattr(signal, f"SIG{name}")
    problem = [*PROBLEM, "--updates", str(updates)]
    start = time.monotonic()
    code, stderr = run_until_signal(
        [*TRAIN, *problem, "--out", str(folder / "whole")], None, number
    )
    whole = time.monotonic() - start
    if code:
        raise SystemExit(f"the undisturbed run failed:\n{stderr}")
    expected = fingerprint(folder / "whole")
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    sent, runs_done, stages = 0, 0, collections.Counter[str]()
    while sent < kills:
        run = folder / f"run-{runs_done}"
        while True:
            arguments = ["--resume", str(run)] if run.exists() else [*problem, "--out", str(run)]
            # One in four at any moment of the process, the others while it trains and saves.
            anywhere = rng.random() < 0.25
            after: float | None = rng.uniform(0.1, whole) if anywhere else rng.uniform(0.0, 1.5)
            log = None if anywhere else run / "metrics.jsonl"
            if sent == kills:
                after = log = None
            code, stderr = run_until_signal([*TRAIN, *arguments], after, number, log)
            finished = code == 0 and "done; now" in stderr
            if finished:
                break
            if code not in (0, -number, 128 + number):
                raise SystemExit(f"exit code {code} after a signal:\n{stderr}")
            stages[stage(run)] += 1
            sent += 1
            print(f"\r{sent}/{kills} signals, {runs_done} runs", end="", file=sys.stderr)
        found = fingerprint(run)
        if found != expected:
            raise SystemExit(f"run {runs_done} ended in other bits: {found}, not {expected}")
        runs_done += 1
        shutil.rmtree(run)
    print(file=sys.stderr)
    shutil.rmtree(folder / "whole")
    return {
        "signal": f"SIG{name}",
        "signals": sent,
        "runs": runs_done,
        "runs_equal": runs_done,
        "died": dict(stages),
        "updates_of_a_run": updates,
        "seconds_of_an_undisturbed_run": round(whole, 1),
        **expected,
    }


def main() -> int:
    """Do both trials; print the figures, and write them where `--out` says."""
    parser = script.measuring_parser("benchmarks.kills", __doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many SIGKILLs")
    parser.add_argument("--terms", type=int, default=20, help="how many SIGTERMs")
    parser.add_argument("--updates", type=int, default=4000, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trials = [
            trial(Path(folder), count, options.updates, name, options.seed)
            for name, count in (("KILL", options.kills), ("TERM", options.terms))
            if count
        ]
    print(json.dumps(trials, indent=1))
    script.write_record(options.out, "benchmarks.kills", trials=trials)
    return 0


if __name__ == "__main__":
    sys.exit(main())
