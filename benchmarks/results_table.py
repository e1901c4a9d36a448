"""All results of a run as a table: aligned for a screen, or in Markdown.

Claim: every number of a table is read from the results file, none is computed anew.
Repeat: `python -m benchmarks.results_table benchmarks/results/FILE.json`.
"""

import sys
from collections.abc import Iterable
from typing import Any

from benchmarks import script
from benchmarks.peers import BEFORE, REFERENCE

BUSY = 0.5
"""The load average above which other processes slow what is timed, and the table says so."""
HEADER = (
    "workload",
    "peer",
    "ms: median (min-max)",
    "ratio (paired)",
    "peak MB (growth)",
    "compile s",
    "floor / time",
    "gradient error f64 / f32",
)
NOTE = (
    f"ratio: the peer's median time divided by {REFERENCE}'s, and in brackets the median of the "
    "ratios of two times that followed each other; above 1 is slower. peak: memory while timed; "
    "growth: over what imports and inputs took, and includes what a compiler keeps. floor / time: "
    "the floor is the least time that the workload's operations and bytes allow on this machine. "
    f"gradient error: relative to {REFERENCE}'s; of training, of the weights' change. Times of "
    "training are per update."
)


def markdown_table(results: dict[str, Any]) -> str:
    """The results of `python -m benchmarks --json` as a Markdown table, and their origin."""
    lines = [
        *script.markdown(HEADER, _rows(results), words=2),
        "",
        *(f"**{line}**\n" for line in _busy(results)),
        f"{origin(results)} {NOTE[0].upper()}{NOTE[1:]}",
        "",
        *_floors(results),
        *_rates(results),
    ]
    return "\n".join(lines)


def screen_table(results: dict[str, Any]) -> str:
    """The same, aligned in columns."""
    rows = [HEADER, *_rows(results)]
    # A reason is a sentence: it runs over the empty columns, and makes none of them wider.
    full = [row for row in rows if row[-1]]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    widths[:2] = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = []
    for row in rows:
        names = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        numbers = [
            cell.rjust(width) if row[-1] else cell
            for cell, width in zip(row[2:], widths[2:], strict=True)
        ]
        lines.append("  ".join([*names, *numbers]).rstrip())
    after = [*_floors(results), *_rates(results)]
    busy = _busy(results)
    return "\n".join([*busy, *lines, "", *after, "", *busy, origin(results), NOTE])


def _busy(results: dict[str, Any]) -> list[str]:
    """A line where other processes had the machine too."""
    load = results["method"].get("load_average_before")
    if load is None or load <= BUSY:
        return []
    return [
        f"Measured on a busy machine (load average {load:.1f} before it began): times are too "
        "long, PyTorch's most, whose threads wait by spinning."
    ]


def _floors(results: dict[str, Any]) -> Iterable[str]:
    """A line for each workload; none for results from before floors were measured."""
    if "peaks" not in results:
        return
    flops, speed = (results["peaks"][name] / 1e9 for name in ("flops", "bytes_per_s"))
    yield (
        f"Floors, the larger of operations at {flops:.0f} GFLOP/s (matrix product) and bytes at "
        f"{speed:.0f} GB/s (memory):"
    )
    for name, floor in results["floors"].items():
        yield (
            f"- {name}: {_number(floor['operations'])}FLOP {_milliseconds(floor['compute_s'])} ms, "
            f"{_number(floor['bytes'])}B {_milliseconds(floor['memory_s'])} ms"
        )


def _rates(results: dict[str, Any]) -> Iterable[str]:
    """A line for each peer on each workload of whole training."""
    for record in results["results"]:
        if "updates_per_s" in record:
            rate = f"{record['updates_per_s']:.3g} meta-updates a second"
            yield f"- {record['workload']}, {record['peer']}: {rate}"


def _number(value: float) -> str:
    """Three digits and a prefix: `1.23 G`."""
    for prefix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= unit:
            return f"{value / unit:.3g} {prefix}"
    return f"{value:.3g} "


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _rows(results: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    for record in results["results"]:
        name = (record["workload"], record["peer"])
        if record["status"] == "measured":
            yield (*name, *_numbers(record))
        else:
            blank = [""] * (len(HEADER) - 3)
            yield (*name, f"{record['status']}: {record['reason']}", *blank)


def _numbers(record: dict[str, Any]) -> tuple[str, ...]:
    median, low, high = (1e3 * record[field] for field in ("median_s", "min_s", "max_s"))
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    peak, growth = (_megabytes(record["memory"][f"{kind}_bytes"]) for kind in ("peak", "growth"))
    errors = " / ".join(  # an earlier version's training is not compared in float32
        f"{record[kind]['gradient_error']:.0e}" if kind in record else "–"
        for kind in ("float64", "float32")
    )
    return (
        f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})",
        f"{_ratio(record['ratio_of_medians'])} ({_ratio(record['median_ratio'])})",
        f"{peak} ({growth})",
        f"{record['compile_s']:.1f}",
        _percent(record.get("floor_fraction")),
        errors,
    )


def _ratio(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.2g} %"


def _megabytes(value: int | None) -> str:
    return "?" if value is None else f"{value / 1e6:.0f}"


def origin(results: dict[str, Any]) -> str:
    """Date, machine, versions, commit and command, in a sentence."""
    machine, versions = results["machine"], results["versions"]
    device = results["device"]["name"] or f"{machine['cores']} cores of {machine['processor']}"
    commit = _commit(results["git"])
    if BEFORE in results:
        commit += f", before: {_commit(results[BEFORE])}"
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch") if versions[name])
    return (
        f"{results['date'][:10]}, {device}, {machine['os']}, {packages}, {commit}; "
        f"{results['method']['repeats']} repeats: `{results['command']}`."
    )


def _commit(git: dict[str, Any]) -> str:
    commit = "no commit" if git["commit"] is None else f"commit {git['commit'][:10]}"
    return f"{commit} with changes" if git["dirty"] else commit


def main(arguments: list[str] | None = None) -> int:
    """Print the Markdown table of one results file."""
    parser = script.parser("benchmarks.results_table", __doc__)
    parser.add_argument("file", help="what `python -m benchmarks` wrote", metavar="FILE")
    print(markdown_table(script.read_results(parser, parser.parse_args(arguments).file)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
