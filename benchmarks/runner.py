"""Checks that all peers compute the same gradient, then times them in turns.

Claim: a time is only given to a peer whose meta-gradient is the reference's. That is checked twice,
because float32 alone cannot tell: there one ReLU or one maximum that rounds to its other side moves
a whole meta-gradient by up to some per cent, in every framework alike. So the peer's program must
agree to 1e-6 in float64, on a few tasks; and what is timed, in float32 on all tasks, to 0.1 (of
training with another `eps` of Adam's: `peers.CHECKED_EPS`).

The timed workers of one workload live side by side and take turns (A B C A B C …), one step at a
time while the others sleep, so that a machine which slows down slows all of them. A peer whose step
takes more than `LONG` takes part in the first turns only.
Repeat: `python -m benchmarks`.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.peers import BEFORE, PEERS, REFERENCE
from benchmarks.process import ROOT, Worker, WorkerError
from benchmarks.worker import decode
from benchmarks.workloads import Own, Workload, to_json

EXACT_TASKS = 2
TOLERANCE = {"float64": 1e-6, "float32": 0.1}
"""The largest relative error of the loss and of the whole gradient."""
LONG, LONG_TURNS = 10.0, 2
"""A step of more than `LONG` seconds is timed `LONG_TURNS` times, however many turns there are."""
PAUSE = 0.1
"""Seconds between two turns, in which the last one's thread pool stops spinning."""
SEED = 0

INTERRUPTED = "it was interrupted"
"""The reason of what Ctrl-C left undone."""

Record = dict[str, Any]


class Peer(NamedTuple):
    """What a peer's process runs."""

    module: str
    checkout: Path = ROOT
    """The folder whose `benchmarks` and `maml_jax` it imports."""
    cache: Path | None = None
    """The folder of maml_jax's compiled C++; None: the user's own."""


def run(
    workloads: Iterable[Workload],
    peers: Mapping[str, str],
    *,
    device: str,
    repeats: int,
    before: Path | None = None,
    patience: float = 900.0,
    seconds: float = float("inf"),
    progress: Callable[[str], None] = lambda _: None,
) -> list[Record]:
    """Check and time every peer on every workload.

    Args:
      workloads: what to compute.
      peers: modules by the names of the peers; one must be `REFERENCE`.
      device: "cpu" or "gpu".
      repeats: how many turns each peer gets.
      before: a checkout of this project, which takes part as the peer `BEFORE`.
      patience: seconds after which a worker that does not answer has failed.
      seconds: how long all may take: workloads whose turn has not come by then are skipped, and
        patience ends then.
      progress: called with a line of text before each stage.

    Returns:
      A record for each pair, with its `status`: "measured", or without times and with a `reason`
      "refused" (another gradient), "absent" (cannot take part), "failed" (crash or timeout) or
      "skipped" (the time was up, or Ctrl-C stopped it: what is finished by then is kept).
    """
    with tempfile.TemporaryDirectory() as caches:
        started = {name: Peer(module) for name, module in peers.items()}
        if before is not None:
            started = _with_before(started, before, Path(caches))
        return _run_all(workloads, started, device, repeats, patience, seconds, progress)


def _with_before(peers: Mapping[str, Peer], before: Path, caches: Path) -> dict[str, Peer]:
    """The reference, its earlier version, the others; the caches of both versions begin empty."""
    now = {name: peer._replace(cache=caches / "now") for name, peer in peers.items()}
    earlier = Peer(PEERS[REFERENCE], before, caches / "before")
    return {REFERENCE: now.pop(REFERENCE), BEFORE: earlier, **now}


def _run_all(
    workloads: Iterable[Workload],
    peers: Mapping[str, Peer],
    device: str,
    repeats: int,
    patience: float,
    seconds: float,
    progress: Callable[[str], None],
) -> list[Record]:
    end = time.monotonic() + seconds
    limit = f", {seconds:.0f} s" if seconds > 0 else " before the first workload"

    def patient() -> float:
        return min(patience, max(end - time.monotonic(), 1.0))

    reason = f"the time was up{limit}"
    records: list[Record] = []
    for workload in workloads:
        found = None
        if time.monotonic() < end:
            try:
                found = _run_one(workload, peers, device, repeats, patient, progress)
            except KeyboardInterrupt:
                end, reason = float("-inf"), INTERRUPTED
        if found is None:
            skipped = {"workload": workload.name, "status": "skipped", "reason": reason}
            records += [{**skipped, "peer": name} for name in peers]
            continue
        if time.monotonic() >= end:
            for record in found:
                if record["status"] == "failed":  # it may have been waited for no longer
                    record |= {"status": "skipped", "reason": f"{reason}; {record['reason']}"}
        records += found
    return records


def _run_one(
    workload: Workload,
    peers: Mapping[str, Peer],
    device: str,
    repeats: int,
    patience: Callable[[], float],
    progress: Callable[[str], None],
) -> list[Record]:
    records: dict[str, Record] = {
        name: {"workload": workload.name, "peer": name, "status": "ready"} for name in peers
    }

    def ready() -> list[str]:
        return [name for name in peers if records[name]["status"] == "ready"]

    progress(f"{workload.name}: checking gradients in float64")
    few = dataclasses.replace(workload, tasks=min(EXACT_TASKS, workload.tasks))

    def exact(name: str) -> Record:
        with ExitStack() as stack:
            return _start(stack, few, peers[name], device, "float64", patience)[1]

    with ThreadPoolExecutor(machine.cores()) as pool:
        _compare(records, dict(zip(peers, pool.map(exact, peers), strict=True)), "float64")

    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        answers: dict[str, Record] = {}
        names = ready()

        def timed(name: str) -> tuple[Worker, Record]:
            progress(f"{workload.name}: compiling {name}")
            return _start(stack, workload, peers[name], device, "float32", patience)

        side_by_side = len(names) if at_once(len(peers), device) else 1
        with ThreadPoolExecutor(max(1, side_by_side)) as pool:
            for name, (worker, answer) in zip(names, pool.map(timed, names), strict=True):
                workers[name], answers[name] = worker, answer
        # An earlier version's training is checked by an Adam of its own in float32 (`CHECKED_EPS`).
        other = {BEFORE} if workload.updates else set()
        _compare(records, answers, "float32", not_compared=other)
        for name in set(workers) - set(ready()):
            workers[name].close()
        for name in ready():
            kept = ("loss", "first_call_s", "compile_s", "calls_per_repeat", "note")
            records[name] |= {field: answers[name][field] for field in kept} | {"seconds": []}
        for repeat in range(repeats):
            for name in ready():
                if repeat >= LONG_TURNS and answers[name]["second_call_s"] > LONG:
                    continue
                progress(f"{workload.name}: {name} {repeat + 1}/{repeats}")
                time.sleep(PAUSE)
                _ask(workers[name], records[name], "run", patience)
        for name in ready():
            _ask(workers[name], records[name], "finish", patience)
    for name in ready():
        records[name]["status"] = "measured"
    reference = records[REFERENCE]
    for record in records.values():
        if record["status"] == "measured":
            record |= summary(record["seconds"], reference.get("seconds"))
    return list(records.values())


def at_once(workers: int, device: str) -> bool:
    """Whether so many timed workers may start and compile side by side: two cores for each.

    On a GPU never: XLA and cuDNN choose kernels there by timing them, which others would disturb.
    """
    return device == "cpu" and machine.cores() >= 2 * workers


def _start(
    stack: ExitStack,
    workload: Workload,
    peer: Peer,
    device: str,
    dtype: str,
    patience: Callable[[], float],
) -> tuple[Worker, Record]:
    """A worker that was given its job, and its answer or how it failed."""
    # A user's files are found from where the user is.
    folder = Path.cwd() if isinstance(workload.network, Own) else peer.checkout
    worker = stack.enter_context(Worker(environment(device, dtype, peer), folder))
    job = {
        "workload": to_json(workload),
        "module": peer.module,
        "device": device,
        "seed": SEED,
        "dtype": dtype,
        "timed": dtype == "float32",
    }
    try:
        return worker, worker.ask(job, patience())
    except WorkerError as error:
        return worker, {"status": "failed", "reason": str(error)}


def _ask(worker: Worker, record: Record, command: str, patience: Callable[[], float]) -> None:
    """Add one more time, or the memory, to the record; a failure removes the times."""
    try:
        answer = worker.ask(command, patience())
    except WorkerError as error:
        record.pop("seconds")
        record |= {"status": "failed", "reason": str(error)}
        return
    if command == "run":
        record["seconds"].append(answer["seconds"])
    else:
        record |= answer


def _compare(
    records: dict[str, Record],
    answers: Mapping[str, Record],
    dtype: str,
    not_compared: Collection[str] = (),
) -> None:
    """Add the errors to the records, and the status of those that are not timed."""
    reference = answers.get(REFERENCE, {"status": "failed"})
    for name, answer in answers.items():
        record = records[name]
        if answer["status"] != "ready":
            record |= answer
        elif reference["status"] != "ready":
            reason = f"{REFERENCE} gave no gradient to compare it with"
            record |= {"status": "failed", "reason": reason}
        elif name not in not_compared:
            errors = relative_errors(answer, reference)
            # JSON has no NaN and no infinity.
            record[dtype] = {k: v if np.isfinite(v) else None for k, v in errors.items()}
            # Nothing compares with NaN, so NaN is refused; `max` might have dropped it.
            if not all(error <= TOLERANCE[dtype] for error in errors.values()):
                reason = (
                    f"computes something else in {dtype}: relative error of the gradient "
                    f"{errors['gradient_error']:.1e}, of the loss {errors['loss_error']:.1e}"
                )
                record |= {"status": "refused", "reason": reason}


def relative_errors(answer: Record, reference: Record) -> dict[str, float]:
    """How far the loss and the whole gradient are from the reference's, relative to its norm."""
    found, wanted = decode(answer["gradient"]), decode(reference["gradient"])
    if found.shape != wanted.shape:
        return {"loss_error": np.inf, "gradient_error": np.inf}
    tiny = np.finfo(float).tiny
    loss_error = abs(answer["loss"] - reference["loss"]) / max(abs(reference["loss"]), tiny)
    gradient_error = np.linalg.norm(found - wanted) / max(float(np.linalg.norm(wanted)), tiny)
    return {"loss_error": float(loss_error), "gradient_error": float(gradient_error)}


def summary(seconds: list[float], reference: list[float] | None) -> dict[str, float | None]:
    """Median, extremes, and the ratios to the reference's times: above 1 is slower than it."""
    median = statistics.median(seconds)
    numbers: dict[str, float | None] = {
        "median_s": median,
        "min_s": min(seconds),
        "max_s": max(seconds),
        "ratio_of_medians": None,
        "median_ratio": None,
    }
    if reference:
        pairs = zip(seconds, reference, strict=False)  # a slow peer has the first turns only
        numbers["ratio_of_medians"] = median / statistics.median(reference)
        numbers["median_ratio"] = statistics.median(own / other for own, other in pairs)
    return numbers


def environment(device: str, dtype: str, peer: Peer) -> dict[str, str]:
    """The environment of a worker: its packages, JAX's device, and how exactly it computes."""
    variables = dict(os.environ)
    path = [str(peer.checkout), *filter(None, [variables.get("PYTHONPATH")])]
    variables["PYTHONPATH"] = os.pathsep.join(path)
    if peer.cache is not None:
        variables["MAML_JAX_CACHE"] = str(peer.cache)
    variables["JAX_PLATFORMS"] = "cuda" if device == "gpu" else "cpu"
    variables["JAX_NUM_CPU_DEVICES"] = str(machine.cores())
    variables["JAX_ENABLE_X64"] = "1" if dtype == "float64" else "0"
    if device == "gpu":
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        # Otherwise JAX multiplies float32 in TF32 there, and PyTorch is told not to.
        variables["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        if dtype == "float64":  # what is not timed needs no kernels chosen by timing
            flags = variables.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{flags} --xla_gpu_autotune_level=0".strip()
    return variables


def package_origin(checkout: Path) -> Path:
    """Where a worker of that checkout would import `maml_jax` from."""
    script = "import importlib.util; print(importlib.util.find_spec('maml_jax').origin)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        cwd=checkout,
        env=environment("cpu", "float32", Peer("", checkout)),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return Path(done.stdout.strip())
