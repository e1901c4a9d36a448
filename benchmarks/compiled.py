r"""What XLA makes of the workloads for a TPU that is not there: bytes, memory, time to compile.

Claim: XLA compiles for a TPU on a machine that has none. The text of the compiled program says how
many bytes it moves to and from the chip's large memory and how many within the chip
(`traffic.py`), and XLA how much temporary memory it takes. Two times follow from that, by a model,
not a measurement: the *roofline*, the longest of the workload's operations (`floor.py`) at the
chip's published peak (bfloat16, in which JAX's default precision multiplies float32 there) and of
both kinds of bytes at the bandwidth of theirs; and the *least*, the longer of the operations and
of the bytes that every program must move. The model has no time for starting an instruction.
Repeat: `pip install libtpu`, then `python -m benchmarks.compiled --for tpu-v5e:2x2`.
"""

import argparse
import sys
import time
from contextlib import nullcontext
from itertools import product
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

import maml_jax as mj
from benchmarks import script
from benchmarks.absent import Chip, devices_of
from benchmarks.floor import bytes_moved, multiply_adds
from benchmarks.options import chosen_workloads
from benchmarks.peers.maml_jax import episodes_of, learner_of
from benchmarks.traffic import traffic
from benchmarks.workloads import Workload, make_inputs
from maml_jax.batching import default_chunk
from maml_jax.kernels.convolution import in_forms
from maml_jax.kernels.forms import FORMS

DEFAULT = "default"
"""What the library takes on that device."""
ALL = "all"
ON_CHIP_FASTER = 22
"""The bandwidth of the memory on the chip, as a multiple of the large memory's: about so much, by
https://jax-ml.github.io/scaling-book/tpus."""


def compile_for(
    chip: Chip, device: Any, workload: Workload, form: str, precision: str, together: str
) -> dict[str, Any]:
    """The program's figures.

    Args:
      chip: the kind of the device.
      device: one that is not there.
      workload: one that is not whole training.
      form: of the convolution, or `DEFAULT`.
      precision: of the network, as in `mj.in_precision`.
      together: how many tasks, or `ALL`, or `DEFAULT`.
    """
    learner, inputs = learner_of(workload, precision), make_inputs(workload, seed=0)
    meta, episodes = learner.init(inputs.weights), episodes_of(inputs)
    default = default_chunk(meta, episodes, platform="tpu")
    chunk = {ALL: workload.tasks, DEFAULT: default}.get(together) or int(together)
    there = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=SingleDeviceSharding(device)
        ),
        (meta, episodes),
    )
    with in_forms(form) if form != DEFAULT else nullcontext():
        lowered = jax.jit(mj.over_tasks(learner, chunk)).lower(*there)
    start, start_processor = time.perf_counter(), time.process_time()
    compiled = lowered.compile()
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    memory: Any = compiled.memory_analysis()
    moved = traffic(compiled.as_text() or "")
    operations, least_bytes = 2 * multiply_adds(workload), bytes_moved(workload)
    computing = operations / chip.flops
    return {
        "workload": workload.name,
        "form": form,
        "precision": precision,
        "together": chunk,
        "operations": operations,
        "bytes_in_memory": moved.memory,
        "bytes_on_chip": moved.chip,
        "instructions": moved.instructions,
        "temporary_bytes": memory.temp_size_in_bytes,
        "roofline_s": max(
            computing,
            moved.memory / chip.bytes_per_s,
            moved.chip / (ON_CHIP_FASTER * chip.bytes_per_s),
        ),
        "least_s": max(computing, least_bytes / chip.bytes_per_s),
        "compile_s": seconds,
        "compile_processor_s": processor,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """In Markdown."""
    titles = ["for", "workload", "form", "precision", "together", "in memory, GB", "on chip, GB"]
    titles += ["temporary, MB", "instructions", "roofline, ms", "least, ms", "compile, s"]
    lines = [
        [
            *(row[name] for name in ("for", "workload", "form", "precision")),
            str(row["together"]),
            f"{row['bytes_in_memory'] / 1e9:.3f}",
            f"{row['bytes_on_chip'] / 1e9:.2f}",
            f"{row['temporary_bytes'] / 1e6:.0f}",
            f"{row['instructions']:,}",
            f"{1e3 * row['roofline_s']:.2f}",
            f"{1e3 * row['least_s']:.2f}",
            f"{row['compile_s']:.0f}",
        ]
        for row in rows
    ]
    return script.markdown(titles, lines, words=4)


def main() -> int:
    """Compile each workload in each form for each chip, and print the table."""
    parser = script.measuring_parser("benchmarks.compiled", __doc__)
    parser.add_argument("--for", dest="targets", nargs="+", default=["tpu-v5e:2x2"], metavar="CHIP")
    parser.add_argument("--only", metavar="A,B", help="workloads with one of these texts")
    parser.add_argument("--forms", default=DEFAULT, help=f"of {DEFAULT}, {', '.join(FORMS)}")
    parser.add_argument("--precisions", default="default", help="as in mj.in_precision")
    parser.add_argument("--together", default=DEFAULT, help=f"tasks: {DEFAULT}, {ALL} or numbers")
    options = parser.parse_args()
    forms = _words(parser, "--forms", options.forms, [DEFAULT, *FORMS])
    together = _words(parser, "--together", options.together, [DEFAULT, ALL], or_counts=True)
    choices = list(product(forms, options.precisions.split(","), together))
    chosen = chosen_workloads(parser, options.only, quick=False, device="gpu")
    workloads = [w for w in chosen if not w.updates]
    rows: list[dict[str, Any]] = []
    for target in options.targets:
        chip, devices = devices_of(parser, target)
        for workload, choice in product(workloads, choices):
            rows.append({"for": target, **compile_for(chip, devices[0], workload, *choice)})
            print(table(rows[-1:])[-1], file=sys.stderr, flush=True)
            script.write_record(options.out, "benchmarks.compiled", rows=rows)
    print("\n".join(table(rows)))
    return 0


def _words(
    parser: argparse.ArgumentParser,
    option: str,
    text: str,
    choices: list[str],
    *,
    or_counts: bool = False,
) -> list[str]:
    words = text.split(",")
    for word in words:
        if word not in choices and not (or_counts and word.isdecimal() and int(word) > 0):
            others = " and numbers above 0" * or_counts
            parser.error(f"{option} had {word!r}; it may have {', '.join(choices)}{others}")
    return words


if __name__ == "__main__":
    sys.exit(main())
