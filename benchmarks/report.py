"""The results as tables: aligned for a screen, or in Markdown for the README.

Claim: every number of a table is read from the results file, none is computed anew.
Repeat: `python -m benchmarks.report benchmarks/results/FILE.json`.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    "ratio: the peer's time by maml_jax's, of medians and (as median of the pairs taken in turn); "
    "above 1 is slower. peak: of memory while timed; growth: over what imports and inputs took, so "
    "with what a compiler keeps. floor / time: the part of the time that operations or memory need "
    "at the least. gradient error: relative to maml_jax's; of training, of the weights' change. "
    "Times of training are per update."
)


def markdown_table(results: dict[str, Any]) -> str:
    """The results of `python -m benchmarks --json` as a Markdown table, and their origin."""
    lines = [
        f"| {' | '.join(HEADER)} |",
        "|---|---|" + "---:|" * (len(HEADER) - 2),
        *(f"| {' | '.join(row)} |" for row in _rows(results)),
        "",
        f"{origin(results)} {NOTE[0].upper()}{NOTE[1:]}",
        "",
        *_floors(results),
        *_rates(results),
    ]
    return "\n".join(lines)


def screen_table(results: dict[str, Any]) -> str:
    """The same, aligned in columns; peers without a time follow with the reason."""
    rows = [HEADER, *_rows(results)]
    # A reason is a sentence: it runs on over the empty columns, and makes none of them wider.
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
    return "\n".join([*lines, "", *after, "", origin(results), NOTE])


def _floors(results: dict[str, Any]) -> Iterable[str]:
    """A line for each workload; none for results of before floors were measured."""
    if "peaks" not in results:
        return
    flops, speed = (results["peaks"][name] / 1e9 for name in ("flops", "bytes_per_s"))
    yield (
        f"Floors at {flops:.0f} GFLOP/s (matrix product) and {speed:.0f} GB/s (memory), "
        "of which the larger counts:"
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
    errors = " / ".join(f"{record[kind]['gradient_error']:.0e}" for kind in ("float64", "float32"))
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
    machine, versions, git = results["machine"], results["versions"], results["git"]
    device = results["device"]["name"] or f"{machine['cores']} cores of {machine['processor']}"
    commit = "no commit" if git["commit"] is None else f"commit {git['commit'][:10]}"
    state = " with changes" if git["dirty"] else ""
    packages = ", ".join(f"{name} {versions[name]}" for name in ("jax", "torch") if versions[name])
    return (
        f"{results['date'][:10]}, {device}, {machine['os']}, {packages}, {commit}{state}; "
        f"{results['method']['repeats']} repeats: `{results['command']}`."
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the Markdown table of one results file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description="Print a results file as a Markdown table."
    )
    parser.add_argument("file", help="what `python -m benchmarks` wrote", metavar="FILE")
    file = parser.parse_args(arguments).file
    try:
        table = markdown_table(json.loads(Path(file).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        print(f"FILE was {file!r}; it must be a results file ({why})", file=sys.stderr)
        return 2
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
