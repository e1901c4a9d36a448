"""A run that is killed again and again, and one that never was: the same bits.

Claim: `maml-jax train` killed by SIGKILL at a random moment, 100 times, and resumed each time, ends
with the parameters, the optimiser, the random key and the log of a run that was never stopped, bit
for bit; half of the time is spent saving, so that many moments fall into a save. The same with
SIGTERM, which saves first.
Repeat: `python -m benchmarks.kills`. It takes about a quarter of an hour on one core.
"""

import argparse
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

from benchmarks import machine

TRAIN = [sys.executable, "-m", "maml_jax", "train"]
PROBLEM = ["--recipe", "sinusoid", "--hidden", "8", "--tasks", "4", "--validation-tasks", "10"]
PROBLEM += ["--updates-per-dispatch", "50", "--checkpoint-every", "100", "--validate-every", "500"]


def life(
    command: list[str], after: float | None, number: int, log: Path | None = None
) -> tuple[int, str]:
    """One process, sent the signal after that many seconds: its exit code and what it said last.

    With a `log`, the seconds count from when that file grows, which is when it trains.
    """
    process = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    before = _size(log)
    while log is not None and process.poll() is None and _size(log) <= before:
        time.sleep(0.005)
    try:
        said = process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        said = process.communicate()[1]
    return process.returncode, said[-2000:]


def _size(log: Path | None) -> int:
    return log.stat().st_size if log is not None and log.exists() else 0


def fingerprint(run: Path) -> dict[str, str]:
    """Digests of the final state, array by array, and of the log."""
    import jax
    import numpy as np

    from maml_jax.training import runs

    state = runs.load(run)[2]
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(state):
        digest.update(f"{path}{leaf.dtype}{leaf.shape}".encode() + np.asarray(leaf).tobytes())
    return {
        "state": digest.hexdigest(),
        "metrics": hashlib.sha256((run / "metrics.jsonl").read_bytes()).hexdigest(),
    }


def where(run: Path) -> str:
    """What the process was doing when it died, as far as the folder tells."""
    if not run.exists():
        return "before there was a folder"
    if list((run / "checkpoints").glob("*.new")):
        return "in the middle of a save"
    return "with a checkpoint" if list((run / "checkpoints").glob("*")) else "before a checkpoint"


def trial(folder: Path, kills: int, updates: int, name: str, seed: int) -> dict[str, Any]:
    """Interrupt runs until that many signals were sent, compare each with an undisturbed one."""
    number = getattr(signal, f"SIG{name}")
    problem = [*PROBLEM, "--updates", str(updates)]
    start = time.monotonic()
    code, said = life([*TRAIN, *problem, "--out", str(folder / "whole")], None, number)
    whole = time.monotonic() - start
    if code:
        raise SystemExit(f"the undisturbed run failed:\n{said}")
    expected = fingerprint(folder / "whole")
    rng = random.Random(seed)  # noqa: S311 - moments, not secrets
    sent, runs_done, deaths = 0, 0, collections.Counter[str]()
    while sent < kills:
        run = folder / f"run-{runs_done}"
        while True:
            goes_on = ["--resume", str(run)] if run.exists() else [*problem, "--out", str(run)]
            # One in four at any moment of a life, the others while it trains and saves.
            anywhere = rng.random() < 0.25
            after: float | None = rng.uniform(0.1, whole) if anywhere else rng.uniform(0.0, 1.5)
            log = None if anywhere else run / "metrics.jsonl"
            if sent == kills:
                after = log = None
            code, said = life([*TRAIN, *goes_on], after, number, log)
            finished = code == 0 and "done; now" in said
            if finished:
                break
            if code not in (0, -number, 128 + number):
                raise SystemExit(f"exit code {code} after a signal:\n{said}")
            deaths[where(run)] += 1
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
        "died": dict(deaths),
        "updates_of_a_run": updates,
        "seconds_of_an_undisturbed_run": round(whole, 1),
        **expected,
    }


def main() -> int:
    """Do both trials; print the figures, and write them where `--out` says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=100, help="how many SIGKILLs")
    parser.add_argument("--terms", type=int, default=20, help="how many SIGTERMs")
    parser.add_argument("--updates", type=int, default=4000, help="of each run")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trials = [
            trial(Path(folder), count, options.updates, name, options.seed)
            for name, count in (("KILL", options.kills), ("TERM", options.terms))
            if count
        ]
    print(json.dumps(trials, indent=1))
    if options.out is not None:
        machine.write_record(options.out, "benchmarks.kills", trials=trials)
    return 0


if __name__ == "__main__":
    sys.exit(main())
