"""One peer on one workload in a process of its own, which the runner drives by JSON lines.

Claim: nothing but the peer's own framework is loaded when the clock runs, and the clock sees one
whole step: from the call until its result is finished on the device.

The first line on stdin is the job: `workload`, `module`, `device`, `seed`, `dtype`, `timed`; a
module may be followed by `#` and the `source` that its `prepare` takes. The
answer's `status` is "ready" (with the loss, the gradient and, if timed, the first call's seconds),
"absent" or "refused" (with a `reason`). Then each line `"run"` is answered by seconds per step, or
of whole training per update, and `"finish"` by the peak memory.
Repeat by hand: `echo '{"workload": …}' | python -m benchmarks.worker`; `runner.py` writes the job.
"""

import base64
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import IO, Any

import numpy as np

from benchmarks import memory
from benchmarks.peers import AbsentError, Program, RefusedError
from benchmarks.workloads import flatten, from_json, make_inputs

SHORT, BATCH = 0.02, 0.2
"""Steps under `SHORT` seconds are timed by as many calls as fill `BATCH` seconds."""
WARM, LONG = 0.3, 3.0
"""Before it is timed a peer makes steps for `WARM` seconds, at least one, for the others had the
machine meanwhile, and its first tenth of a second after a pause is up to half slower; but not where
a step takes more than `LONG` seconds, of which that is little."""


def serve(job: Mapping[str, Any], commands: IO[str], answers: IO[str]) -> None:
    """Prepare the job's program, answer with its result, then do as the commands say."""

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    workload = from_json(job["workload"])
    try:
        module, _, source = job["module"].partition("#")
        peer = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "maml_jax"):
            raise
        answer(status="absent", reason=f"no module named {error.name!r}")
        return
    prepare = partial(peer.prepare, source=source) if source else peer.prepare
    if workload.updates:
        if not hasattr(peer, "prepare_training"):
            answer(status="absent", reason="whole training is not written for it")
            return
        prepare = peer.prepare_training
    inputs = make_inputs(workload, job["seed"], job["dtype"])
    base = memory.resident_bytes()
    try:
        program: Program = prepare(workload, inputs, job["device"])
        if not job["timed"]:
            loss, gradient = program.result((program.check or program.step)())
            answer(status="ready", loss=loss, gradient=encode(flatten(gradient)))
            return
        first_call_s, outputs = _timed(program)
        loss, gradient = program.result(program.check() if program.check else outputs)
    except AbsentError as error:
        answer(status="absent", reason=str(error))
        return
    except RefusedError as error:
        answer(status="refused", reason=str(error))
        return
    second_call_s, _ = _timed(program)
    step_s = second_call_s if second_call_s > WARM else _warm_up(program)
    calls = math.ceil(BATCH / step_s) if step_s < SHORT else 1
    answer(
        status="ready",
        loss=loss,
        gradient=encode(flatten(gradient)),
        first_call_s=first_call_s,
        compile_s=max(0.0, first_call_s - second_call_s),
        second_call_s=second_call_s,
        calls_per_repeat=calls,
        note=program.note,
    )
    del outputs, gradient
    memory.settle()
    for line in commands:
        match json.loads(line):
            case "run":
                if second_call_s < LONG:
                    _warm_up(program)
                answer(seconds=_timed(program, calls)[0] / max(1, workload.updates))
            case "finish":
                answer(memory=memory.report(base, program.peak_bytes()))
                return


def _warm_up(program: Program) -> float:
    """Make steps for `WARM` seconds; how long the last took."""
    end, seconds = time.perf_counter() + WARM, 0.0
    while not seconds or time.perf_counter() < end:
        seconds, _ = _timed(program)
    return seconds


def _timed(program: Program, calls: int = 1) -> tuple[float, Any]:
    """Seconds per step over so many steps, and what the last returned."""
    outputs = None
    start = time.perf_counter()
    for _ in range(calls):
        outputs = program.step()
    return (time.perf_counter() - start) / calls, outputs


def encode(vector: np.ndarray) -> str:
    """A vector's float64 bytes as text."""
    return base64.b64encode(vector.astype("<f8").tobytes()).decode()


def decode(text: str) -> np.ndarray:
    """The inverse of `encode`."""
    return np.frombuffer(base64.b64decode(text), "<f8")


def main() -> None:
    # Libraries may print; what they print must not land among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with answers:
        serve(json.loads(sys.stdin.readline()), sys.stdin, answers)


if __name__ == "__main__":
    main()
