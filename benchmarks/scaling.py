r"""Weak and strong scaling on paper: the all-reduce of a meta-update against its operations.

Claim: a model, not a measurement. One meta-update makes one all-reduce of the meta-gradient, $G$
bytes, over $n$ chips. Within a slice, a torus,
$$t = 2\,\tfrac{n-1}{n}\,\tfrac{G}{B} + 2\,\alpha\sum_a \tfrac{n_a}{2},$$
with $B$ half of the published bandwidth, which counts both directions, $n_a$ the length of the
torus' axes, and $\alpha$ = 1 µs a hop, which is assumed. Between slices each chip sends its part
by the data-centre network, $2\,\tfrac{k-1}{k}\,\tfrac{G}{m D}$ for $k$ slices of $m$ chips. A chip
computes at its published peak in bfloat16, which no program reaches, and overlaps nothing: so the
part of the time that is computing is a lower bound.
Bandwidths and peaks: https://cloud.google.com/tpu/docs/v5e and https://cloud.google.com/tpu/docs/v5p,
November 2026.
Repeat: `python -m benchmarks.scaling`.
"""

import math
import sys
from typing import Any, NamedTuple

from benchmarks import floor, script
from benchmarks.workloads import WORKLOADS, flatten, make_inputs

HOP_S = 1e-6


class Slice(NamedTuple):
    """What is published of a chip and its network."""

    flops: float
    ici: float
    """Bytes a second between chips of a slice, both directions."""
    dcn: float
    """Bytes a second of a chip between slices."""
    shapes: dict[int, tuple[int, ...]]
    """The torus of so many chips; of more, several of the largest."""


SLICES = {
    "v5e": Slice(197e12, 400e9, 6.4e12 / 8 / 256, {1: (1,), 8: (2, 4), 64: (8, 8), 256: (16, 16)}),
    "v5p": Slice(
        459e12,
        1200e9,
        50e9 / 8,
        {1: (1,), 8: (2, 2, 2), 64: (4, 4, 4), 256: (4, 8, 8), 1024: (8, 8, 16)},
    ),
}
CHIPS = (8, 64, 256, 1024)
STRONG_TASKS = 4096
"""Tasks in all, where their number does not grow with the chips."""


class Job(NamedTuple):
    """What a chip computes for one task, and what all of them add up."""

    name: str
    operations: float
    """Of one task."""
    gradient_bytes: float
    tasks: int
    """Of a chip, where their number grows with the chips."""


def jobs() -> list[Job]:
    """conv4-64 on Omniglot, and a transformer of a billion parameters with 4 inner steps."""
    (conv4,) = (w for w in WORKLOADS if w.name == "conv4-stride-32tasks-1step-5queries")
    weights = make_inputs(conv4, seed=0).weights
    operations = 2 * floor.multiply_adds(conv4) / conv4.tasks
    # The formula of `floor`, a multiply-add a parameter and token, 2,048 tokens in each set.
    parameters, tokens, steps = 1e9, 2048, 4
    large = 2 * parameters * tokens * (9 * steps + 3)
    return [
        Job("conv4-64, 1 step", operations, flatten(weights).nbytes, 32),
        Job("transformer of 10⁹, 4 steps", large, 4 * parameters, 1),
    ]


def all_reduce_s(of: Slice, size: float, chips: int) -> float:
    """Seconds of one all-reduce of so many bytes."""
    most = max(of.shapes)
    within = min(chips, most)
    hops = sum(length / 2 for length in of.shapes[within] if length > 1)
    seconds = 2 * (within - 1) / within * size / (of.ici / 2) + 2 * hops * HOP_S
    slices = chips // most
    if slices > 1:
        seconds += 2 * (slices - 1) / slices * size / most / of.dcn
    return seconds


def rows() -> list[dict[str, Any]]:
    """The part of a meta-update that is computing, for each chip, job and number of chips."""
    found = []
    for chip, of in SLICES.items():
        for job in jobs():
            for chips in CHIPS:
                wait = all_reduce_s(of, job.gradient_bytes, chips)
                weak = job.tasks * job.operations / of.flops
                strong = math.ceil(STRONG_TASKS / chips) * job.operations / of.flops
                found.append(
                    {
                        "chip": chip,
                        "job": job.name,
                        "chips": chips,
                        "all_reduce_s": wait,
                        "weak": weak / (weak + wait),
                        "strong": strong / (strong + wait),
                    }
                )
    return found


def table(found: list[dict[str, Any]]) -> list[str]:
    """In Markdown."""
    titles = ["chip", "job", "chips", "all-reduce, µs", "computing: weak", "strong"]
    lines = [
        [
            row["chip"],
            row["job"],
            f"{row['chips']:,}",
            f"{1e6 * row['all_reduce_s']:,.0f}",
            f"{100 * row['weak']:.0f} %",
            f"{100 * row['strong']:.0f} %",
        ]
        for row in found
    ]
    return script.markdown(titles, lines, words=2)


def main() -> int:
    """Print the table, and write its figures where `--out` says."""
    parser = script.measuring_parser("benchmarks.scaling", __doc__)
    options = parser.parse_args()
    found = rows()
    print("\n".join(table(found)))
    script.write_record(options.out, "benchmarks.scaling", rows=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
