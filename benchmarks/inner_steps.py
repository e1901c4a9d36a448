"""Memory and compile time by the number of inner steps, as XLA accounts for the compiled program.

Claim: with `differentiate="mixed"` a further inner step costs the memory of one more copy of the
weights, and nothing else; reverse mode keeps the activations of every step as well. The steps are a
loop in the program, so that tracing and compiling take as long for 20 as for 1.
Repeat: `python -m benchmarks.inner_steps`, about two minutes on two cores; `--algorithms all` does
every algorithm that unrolls its steps, in mixed mode, in about six. `--before DIR` adds the memory
of the same programs in another checkout of this project, compiled by its own `inner_steps`.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import maml_jax as mj
from benchmarks import machine, options, runner, script
from benchmarks.peers import BEFORE
from maml_jax.core.metagrad import Differentiate

MODES: tuple[Differentiate, ...] = ("mixed", "reverse")
STEPS = (1, 5, 20)
UNROLLED = (
    "maml",
    "fomaml",
    "anil",
    "boil",
    "meta_sgd",
    "proto_maml",
    "maml_plus_plus",
    "cavia",
    "meta_curvature",
)


@dataclass(frozen=True)
class Row:
    """One compiled meta-gradient."""

    algorithm: str
    differentiate: Differentiate
    steps: int
    temporary_bytes: int
    weights_bytes: int
    trace_s: float
    compile_s: float


def temporary_memory(
    differentiate: Differentiate,
    steps: int,
    algorithm: str = "maml",
    shots: int = 1,
    filters: int = 64,
) -> Row:
    """Temporary bytes, and seconds to trace and to compile, of one task's meta-gradient.

    The task is 5-way with `shots` support and as many query images per class, 28×28, on conv4 with
    2×2 max pooling, in float32.
    """
    model = mj.models.Conv4(5, filters=filters, downsample="maxpool", rngs=nnx.Rngs(0))
    params, apply = mj.from_flax(model)
    chosen = {} if algorithm == "fomaml" else {"differentiate": differentiate}
    learner = getattr(mj, algorithm)(apply, 0.4, steps, **chosen)
    batch = mj.Batch(jnp.zeros((5 * shots, 28, 28, 1)), jnp.arange(5 * shots) % 5)
    meta = learner.init(params)
    start = time.perf_counter()
    lowered = jax.jit(learner.value_and_grad).lower(meta, mj.Episode(batch, batch))
    traced = time.perf_counter()
    analysis = lowered.compile().memory_analysis()
    compiled = time.perf_counter()
    if analysis is None:
        raise SystemExit("inner_steps: this backend's compiler gives no account of its memory")
    return Row(
        algorithm,
        differentiate,
        steps,
        analysis.temp_size_in_bytes,
        sum(leaf.nbytes for leaf in jax.tree.leaves(meta)),
        traced - start,
        compiled - traced,
    )


def rows_of(checkout: Path, algorithms: str, shots: int) -> list[dict[str, Any]]:
    """The rows that another checkout's own `inner_steps` writes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows.json")
        command = [sys.executable, "-m", "benchmarks.inner_steps", "--algorithms", algorithms]
        command += ["--shots", str(shots), "--out", str(out)]
        peer = runner.Peer("", checkout, Path(folder, "cache"))
        variables = runner.environment("cpu", "float32", peer)
        subprocess.run(  # noqa: S603
            command, cwd=checkout, env=variables, stdout=subprocess.DEVNULL, check=True
        )
        return json.loads(out.read_text(encoding="utf-8"))["rows"]


def main() -> int:
    """Print the table, and write it where `--out` says."""
    parser = script.measuring_parser("benchmarks.inner_steps", __doc__)
    parser.add_argument(
        "--algorithms", choices=("maml", "all"), default="maml", help="which (default: maml)"
    )
    parser.add_argument(
        "--shots", type=int, default=1, help="support images per class, and query (default: 1)"
    )
    options.add_before(parser)
    given = parser.parse_args()
    if given.shots < 1:
        parser.error(f"argument --shots: was {given.shots}; it must be at least 1")
    before = options.checked_checkout(parser, given.before)
    programs = [("maml", mode) for mode in MODES]
    if given.algorithms == "all":
        programs = [(name, MODES[0]) for name in UNROLLED]
    earlier: dict[tuple[str, str, int], float] = {}
    figures: dict[str, Any] = {}
    if before is not None:
        figures = {BEFORE: machine.git_state(before)}
        figures["rows_before"] = rows_of(before, given.algorithms, given.shots)
        for row in figures["rows_before"]:
            name = row["algorithm"], row["differentiate"], row["steps"]
            earlier[name] = row["temporary_bytes"]
    print(
        "algorithm       mode      steps   temporary MB   growth / step, weights"
        "   trace s   compile s" + "   before MB" * bool(earlier)
    )
    rows: list[Row] = []
    for algorithm, mode in programs:
        for steps in STEPS:
            row = temporary_memory(mode, steps, algorithm, given.shots)
            rows.append(row)
            first = next(r for r in rows if (r.algorithm, r.differentiate) == (algorithm, mode))
            growth = (row.temporary_bytes - first.temporary_bytes) / row.weights_bytes
            bytes_before = earlier.get((algorithm, mode, steps))
            print(
                f"{algorithm:15} {mode:8} {steps:6} {row.temporary_bytes / 1e6:14.1f} "
                f"{growth / max(steps - 1, 1):24.2f} {row.trace_s:9.1f} {row.compile_s:11.1f}"
                + ("" if bytes_before is None else f" {bytes_before / 1e6:11.1f}"),
                flush=True,
            )
    figures["rows"] = [asdict(row) for row in rows]
    script.write_record(given.out, "benchmarks.inner_steps", **figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
