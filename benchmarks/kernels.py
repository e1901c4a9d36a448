"""What a GPU does in a workload: its kernels, how long they take, and how long it waits for them.

Claim: alone on the GPU, in JAX's default precision, the time is that of `CALLS` calls without a
profiler; the kernels are those of `TRACED` calls within one, by the kinds that XLA's names begin
with. A call of training makes `UPDATES` updates, and all figures are per update or meta-gradient.
Repeat: `python -m benchmarks.kernels --only training-conv4-stride` on a machine with a GPU.
"""

import dataclasses
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax

from benchmarks import machine, script
from benchmarks.options import chosen_workloads
from benchmarks.peers import maml_jax
from benchmarks.workloads import Workload, make_inputs

UPDATES = 50
WARM, CALLS, TRACED = 4, 5, 2
PRODUCTS = ("gemm", "cutlass", "xmma")
"""A part of the names of matrix products."""


def profile(workload: Workload) -> dict[str, Any]:
    """Milliseconds of the workload, and those that the GPU computes, by kinds of kernels."""
    if workload.updates:
        workload = dataclasses.replace(workload, updates=UPDATES)
    prepare = maml_jax.prepare_training if workload.updates else maml_jax.prepare
    step = prepare(workload, make_inputs(workload, seed=0), "gpu").step
    for _ in range(WARM):
        step()
    start = time.perf_counter()
    for _ in range(CALLS):
        step()
    each = max(1, workload.updates)
    seconds = (time.perf_counter() - start) / CALLS / each
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(TRACED):
                step()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        return {"ms": 1e3 * seconds, **kernels(trace, TRACED * each)}


def kernels(trace: Path, count: int) -> dict[str, Any]:
    """The kernels of a profiler's trace of so many updates or meta-gradients, by kind."""
    microseconds, numbers = Counter[str](), Counter[str]()
    for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
        if plane.name.startswith("/device:GPU:"):
            for event in (e for line in plane.lines if "Compute" in line.name for e in line.events):
                microseconds[_kind(event.name)] += event.duration_ns / 1e3 / count
                numbers[_kind(event.name)] += 1
    return {
        "computing_ms": round(sum(microseconds.values()) / 1e3, 4),
        "kernels": round(sum(numbers.values()) / count, 1),
        "by_kind": {
            kind: {"kernels": round(numbers[kind] / count, 1), "us": round(us, 1)}
            for kind, us in microseconds.most_common()
        },
    }


def _kind(name: str) -> str:
    """XLA calls a fusion by what is in it and a number, like `loop_select_fusion_3`."""
    if any(part in name for part in PRODUCTS):
        return "matrix products"
    return name.split("_fusion")[0] if "_fusion" in name else "others"


def main() -> int:
    """Profile the workloads, print a table, write the figures down."""
    parser = script.measuring_parser("benchmarks.kernels", __doc__)
    parser.add_argument("--only", metavar="A,B", help="workloads with one of these texts")
    options = parser.parse_args()
    name = machine.gpu_name()
    if name is None:
        parser.error("JAX sees no GPU here")
    chosen = chosen_workloads(parser, options.only, quick=False, device="gpu")
    found = {workload.name: profile(workload) for workload in chosen}
    for workload, figures in found.items():
        print(
            f"{workload}: {figures['ms']:.3f} ms, of which {figures['computing_ms']:.3f} in "
            f"{figures['kernels']:.0f} kernels"
        )
        rows = ([k, str(v["kernels"]), str(v["us"])] for k, v in figures["by_kind"].items())
        print("\n".join(script.markdown(("kind", "kernels", "µs"), rows)))
    device = {"kind": "gpu", "name": name}
    script.write_record(options.out, "benchmarks.kernels", device=device, programs=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
