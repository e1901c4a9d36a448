"""Memory and compile time against inner steps, by XLA's own account of the compiled program.

Claim: with `differentiate="mixed"` a further inner step costs the memory of one more copy of the
weights, and nothing else; reverse mode keeps the activations of every step as well. The steps are a
loop in the program, so that tracing and compiling take as long for 20 as for 1.
Repeat: `python -m benchmarks.inner_steps`, about two minutes on two cores; `--algorithms all` does
every algorithm that unrolls its steps, in mixed mode, in about six.
"""

import argparse
import datetime
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

import maml_jax as mj
from benchmarks import machine
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
    differentiate: Differentiate, steps: int, algorithm: str = "maml", shots: int = 1
) -> Row:
    """Temporary bytes, and seconds to trace and to compile, of one task's meta-gradient.

    The task is 5-way with `shots` support and as many query images per class, 28×28, on conv4 with
    64 filters and 2×2 maximum pooling, in float32.
    """
    params, apply = mj.from_flax(mj.models.Conv4(5, downsample="maxpool", rngs=nnx.Rngs(0)))
    options = {} if algorithm == "fomaml" else {"differentiate": differentiate}
    learner = getattr(mj, algorithm)(apply, 0.4, steps, **options)
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


def main() -> int:
    """Print the table, and write it where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inner_steps", description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    parser.add_argument(
        "--algorithms", choices=("maml", "all"), default="maml", help="which (default: maml)"
    )
    parser.add_argument(
        "--shots", type=int, default=1, help="support images per class, and query (default: 1)"
    )
    options = parser.parse_args()
    if options.shots < 1:
        parser.error(f"--shots was {options.shots}; it must be at least 1")
    programs = [("maml", mode) for mode in MODES]
    if options.algorithms == "all":
        programs = [(name, MODES[0]) for name in UNROLLED]
    print(
        "algorithm       mode      steps   temporary MB   growth / step, weights"
        "   trace s   compile s"
    )
    rows = []
    for algorithm, mode in programs:
        for steps in STEPS:
            row = temporary_memory(mode, steps, algorithm, options.shots)
            rows.append(row)
            first = next(r for r in rows if (r.algorithm, r.differentiate) == (algorithm, mode))
            growth = (row.temporary_bytes - first.temporary_bytes) / row.weights_bytes
            print(
                f"{algorithm:15} {mode:8} {steps:6} {row.temporary_bytes / 1e6:14.1f} "
                f"{growth / max(steps - 1, 1):24.2f} {row.trace_s:9.1f} {row.compile_s:11.1f}",
                flush=True,
            )
    if options.out is not None:
        record = {
            "command": f"python -m benchmarks.inner_steps --algorithms {options.algorithms} "
            f"--shots {options.shots}",
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "git": machine.git_state(),
            "versions": machine.versions(),
            "machine": machine.machine(),
            "rows": [asdict(row) for row in rows],
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
