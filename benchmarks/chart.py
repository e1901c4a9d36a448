"""The results as bars: each peer's time divided by this project's, for every workload.

Claim: every length is read from the results file. The axis is logarithmic, so that twice as fast
and twice as slow are equally far from 1; a peer without a time is named with its status.
Repeat: `python -m benchmarks.chart benchmarks/results/FILE.json OUT.png`.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks import script
from benchmarks.peers import REFERENCE

COLORS = {
    "maml_jax_before": "#2c3e50",
    "torch_loop": "#c0392b",
    "torch_func": "#e67e22",
    "torch_compile": "#f1c40f",
    "higher": "#8e44ad",
    "torchopt": "#2980b9",
    "obvious_jax": "#7f8c8d",
    "maml_jax_tuned": "#27ae60",
    "maml_jax_tf32": "#16a085",
    "maml_jax_bf16": "#1abc9c",
    "torch_func_tf32": "#d35400",
}
"""A peer has the same colour in every chart."""


def bars(results: dict[str, Any]) -> dict[str, dict[str, float | str]]:
    """By workload and peer, the ratio to the reference's time, or the status of one without."""
    found: dict[str, dict[str, float | str]] = {}
    for record in results["results"]:
        if record["peer"] != REFERENCE:
            ratio = record.get("ratio_of_medians") if record["status"] == "measured" else None
            value = record["status"] if ratio is None else ratio
            found.setdefault(record["workload"], {})[record["peer"]] = value
    return found


def draw(results: dict[str, Any], file: Path) -> None:
    """Write the chart as `file`, whose suffix says the format."""
    from matplotlib.figure import Figure

    groups = bars(results)
    count = sum(map(len, groups.values())) + len(groups)
    figure = Figure(figsize=(9, 1.2 + 0.2 * max(count, 4)), layout="constrained")
    axes = figure.add_subplot()
    row, ticks, named = 0, [], set()
    for workload, peers in groups.items():
        ticks.append((row + (len(peers) - 1) / 2, workload))
        for peer, value in peers.items():
            if isinstance(value, str):
                axes.text(1.02, row, f"{peer}: {value}", va="center", fontsize=6, color="#888888")
            else:
                label = None if peer in named else peer
                named.add(peer)
                axes.barh(row, value - 1, left=1, color=COLORS.get(peer, "#34495e"), label=label)
                axes.text(max(value, 1) * 1.03, row, f"{value:.2f}", va="center", fontsize=6)
            row += 1
        row += 1
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(*zip(*ticks, strict=True), fontsize=7)
    axes.set_ylim(row - 0.5, -1)  # the first workload on top, whether or not it has bars
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.set_xlabel(
        f"time divided by that of {REFERENCE} (logarithmic; right of 1 is slower)", fontsize=8
    )
    if named:
        figure.legend(fontsize=7, loc="outside lower center", ncols=4)
    device = results["device"]["name"] or f"{results['machine']['cores']} cores"
    axes.set_title(f"{device}, {results['date'][:10]}", fontsize=9)
    figure.savefig(file, dpi=150)


def main(arguments: list[str] | None = None) -> int:
    """Draw one results file."""
    parser = script.parser("benchmarks.chart", __doc__)
    parser.add_argument("file", help="what `python -m benchmarks` wrote", metavar="FILE")
    parser.add_argument("out", help="the picture to write: .png, .svg or .pdf", metavar="OUT")
    options = parser.parse_args(arguments)
    draw(script.read_results(parser, options.file), Path(options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
