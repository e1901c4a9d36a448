"""Memory against inner steps, by XLA's own account of the compiled program.

Claim: with `differentiate="mixed"` a further inner step costs the memory of one more copy of the
weights, and nothing else; reverse mode keeps the activations of every step as well.
Repeat: `python -m benchmarks.inner_steps`, about two minutes on two cores.
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
from maml_jax.metagrad import Differentiate

MODES: tuple[Differentiate, ...] = ("mixed", "reverse")
STEPS = (1, 5, 20)


@dataclass(frozen=True)
class Row:
    """One compiled meta-gradient."""

    differentiate: Differentiate
    steps: int
    temporary_bytes: int
    weights_bytes: int
    compile_s: float


def temporary_memory(differentiate: Differentiate, steps: int) -> Row:
    """Temporary bytes, and seconds to compile, of one task's meta-gradient.

    The task is 5-way with one support and one query image per class, 28×28, on conv4 with 64
    filters and 2×2 maximum pooling, in float32.
    """
    params, apply = mj.from_flax(mj.models.Conv4(5, downsample="maxpool", rngs=nnx.Rngs(0)))
    learner = mj.maml(apply, 0.4, steps, differentiate=differentiate)
    batch = mj.Batch(jnp.zeros((5, 28, 28, 1)), jnp.arange(5))
    lowered = jax.jit(learner.value_and_grad).lower(params, mj.Episode(batch, batch))
    start = time.perf_counter()
    analysis = lowered.compile().memory_analysis()
    if analysis is None:
        raise SystemExit("inner_steps: this backend's compiler gives no account of its memory")
    return Row(
        differentiate,
        steps,
        analysis.temp_size_in_bytes,
        sum(leaf.nbytes for leaf in jax.tree.leaves(params)),
        time.perf_counter() - start,
    )


def main() -> int:
    """Print the table, and write it where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inner_steps", description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    rows = [temporary_memory(mode, steps) for mode in MODES for steps in STEPS]
    print("mode      steps   temporary MB   over 1 step, in weights   compile s")
    for row in rows:
        first = next(other for other in rows if other.differentiate == row.differentiate)
        growth = (row.temporary_bytes - first.temporary_bytes) / row.weights_bytes
        print(
            f"{row.differentiate:8} {row.steps:6} {row.temporary_bytes / 1e6:14.1f} "
            f"{growth:25.1f} {row.compile_s:11.1f}"
        )
    if options.out is not None:
        record = {
            "command": "python -m benchmarks.inner_steps",
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
