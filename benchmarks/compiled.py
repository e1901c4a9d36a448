r"""What XLA makes of the workloads for a TPU that is not there: bytes, operations, memory, time.

Claim: XLA compiles for a TPU on a machine that has none, and says of each program how many
operations it has, how many bytes it moves to and from the chip's memory, and how much temporary
memory it takes. The *bound* is the larger of operations at the chip's published peak (bfloat16,
which is what JAX's default precision multiplies float32 in there) and bytes at its bandwidth: a
model, not a measurement.
Repeat: `pip install libtpu`, then `python -m benchmarks.compiled --for tpu-v5e:2x2`.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

import maml_jax as mj
from benchmarks import script
from benchmarks.absent import Chip, devices_of
from benchmarks.peers.maml_jax import episodes_of, learner_of
from benchmarks.workloads import WORKLOADS, Workload, make_inputs
from maml_jax.kernels.convolution import in_forms
from maml_jax.kernels.forms import FORMS

DEFAULT = "default"
"""What the library takes on that device."""


def compile_for(
    chip: Chip, device: Any, workload: Workload, form: str, precision: str
) -> dict[str, Any]:
    """The program's figures, as XLA gives them.

    Args:
      chip: the kind of the device.
      device: one that is not there.
      workload: one that is not whole training.
      form: of the convolution, or `DEFAULT`.
      precision: of the network, as in `mj.in_precision`.
    """
    learner, inputs = learner_of(workload, precision), make_inputs(workload, seed=0)
    meta, episodes = learner.init(inputs.weights), episodes_of(inputs)
    there = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(device)
        ),
        (meta, episodes),
    )
    with in_forms(form) if form != DEFAULT else nullcontext():
        lowered = jax.jit(mj.over_tasks(learner, workload.tasks)).lower(*there)
    start = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - start
    cost: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return {
        "workload": workload.name,
        "form": form,
        "precision": precision,
        "operations": cost["flops"],
        "bytes": cost["bytes accessed"],
        "temporary_bytes": memory.temp_size_in_bytes,
        "compile_s": seconds,
        "bound_s": max(cost["flops"] / chip.flops, cost["bytes accessed"] / chip.bytes_per_s),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """In Markdown."""
    titles = ["for", "workload", "form", "precision"]
    titles += ["operations, G", "moved, GB", "temporary, MB", "bound, ms", "compile, s"]
    lines = [
        [
            *(row[name] for name in ("for", "workload", "form", "precision")),
            f"{row['operations'] / 1e9:.1f}",
            f"{row['bytes'] / 1e9:.2f}",
            f"{row['temporary_bytes'] / 1e6:.0f}",
            f"{1e3 * row['bound_s']:.2f}",
            f"{row['compile_s']:.0f}",
        ]
        for row in rows
    ]
    return script.markdown(titles, lines, words=4)


def main() -> int:
    """Compile each workload in each form for each chip, and print the table."""
    parser = script.measuring_parser("benchmarks.compiled", __doc__)
    parser.add_argument("--for", dest="targets", nargs="+", default=["tpu-v5e:2x2"], metavar="CHIP")
    parser.add_argument("--only", default="", help="workloads with this text in their name")
    parser.add_argument("--forms", default=DEFAULT, help=f"of {DEFAULT}, {', '.join(FORMS)}")
    parser.add_argument("--precisions", default="default", help="as in mj.in_precision")
    options = parser.parse_args()
    forms = _words(parser, "--forms", options.forms, [DEFAULT, *FORMS])
    workloads = [w for w in WORKLOADS if options.only in w.name and not w.updates]
    rows: list[dict[str, Any]] = []
    for target in options.targets:
        chip, devices = devices_of(parser, target)
        for workload in workloads:
            for form in forms:
                for precision in options.precisions.split(","):
                    figures = compile_for(chip, devices[0], workload, form, precision)
                    rows.append({"for": target, **figures})
                    print(table(rows[-1:])[-1], file=sys.stderr, flush=True)
    print("\n".join(table(rows)))
    script.write_record(options.out, "benchmarks.compiled", rows=rows)
    return 0


def _words(
    parser: argparse.ArgumentParser, option: str, text: str, choices: list[str]
) -> list[str]:
    words = text.split(",")
    for word in words:
        if word not in choices:
            parser.error(f"{option} had {word!r}; it may have {', '.join(choices)}")
    return words


if __name__ == "__main__":
    sys.exit(main())
