"""Writes the README's table of times from a results file.

Claim: nothing in the table is typed by hand; a test makes it again from the files that it names and
compares. Repeat: `python -m benchmarks.readme benchmarks/results/FILE.json …`.
"""

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import REFERENCE
from benchmarks.process import ROOT
from benchmarks.report import origin
from benchmarks.workloads import MLP, ResNet12, Workload, from_json

BEGIN = "<!-- made by `python -m benchmarks.readme {files}` -->"
END = "<!-- end of what was made -->"
TITLES = {
    REFERENCE: "maml-jax",
    "torch_loop": "PyTorch loop",
    "torch_func": "`torch.func`",
    "torch_compile": "`torch.compile`",
    "higher": "`higher`",
    "torchopt": "TorchOpt",
    "obvious_jax": "`vmap` of `lax.conv`",
    "maml_jax_tuned": "tuned",
    "maml_jax_tf32": "maml-jax in TF32",
    "maml_jax_bf16": "maml-jax in bfloat16",
    "torch_func_tf32": "`torch.func` in TF32",
}

_WRAPPING: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def block(files: dict[str, dict[str, Any]]) -> str:
    """The table, its origin, and the two marks around them.

    Args:
      files: what `python -m benchmarks` wrote, by the names of the files, from the README. A
        workload that several have is the last one's.
    """
    rows: dict[str, tuple[Workload, dict[str, dict[str, Any]], dict[str, Any]]] = {}
    for results in files.values():
        for fields in results["workloads"]:
            name = fields["name"]
            measured = (r for r in results["results"] if r["status"] == "measured")
            records = {r["peer"]: r for r in measured if r["workload"] == name}
            if REFERENCE in records:
                rows[name] = from_json(fields), records, results.get("floors", {}).get(name, {})
    peers = [peer for peer in TITLES if any(peer in records for _, records, _ in rows.values())]
    titles = ["milliseconds, median", *(TITLES[peer] for peer in peers), "floor"]
    lines = [
        BEGIN.format(files=" ".join(files)),
        f"| {' | '.join(titles)} |",
        "|---|" + "---:|" * (len(titles) - 1),
    ]
    for workload, records, floor in rows.values():
        show = _rate if workload.updates else _milliseconds
        cells = [*_cells(records, peers, show), show(floor["floor_s"]) if floor else ""]
        lines.append(f"| {describe(workload)} | {' | '.join(cells)} |")
    for name, results in files.items():
        said = f"[{'The file' if len(files) == 1 else Path(name).stem}]({name}): {origin(results)}"
        lines += ["", textwrap.fill(said, 100, **_WRAPPING)]
    return "\n".join([*lines, END])


def describe(workload: Workload) -> str:
    """The workload in words."""
    network = workload.network
    if isinstance(network, MLP):
        model, sizes = "sinusoid MLP", f"{workload.queries} queries"
    else:
        size = f"{network.image_size}×{network.image_size}"
        if isinstance(network, ResNet12):
            model = f"ResNet-12, {size}"
        else:
            form = {"stride": "Finn's strided", "maxpool": "2×2 maximum"}[network.downsample]
            model = f"conv4-{network.filters}, {form}, {size}"
        model += f", {network.ways}-way {workload.shots}-shot"
        sizes = f"{network.ways * workload.queries} queries"
    steps = f"{workload.inner_steps} step{'s' * (workload.inner_steps != 1)}"
    training = "updates a second of training, sampling included: " if workload.updates else ""
    return f"{training}{model}, {workload.tasks} tasks, {steps}, {sizes}"


def replaced(text: str, made: str) -> str:
    """The text with what is between its two marks made anew.

    Raises:
      ValueError: the text has not one pair of marks.
    """
    begin = BEGIN.partition("{")[0]
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(END)
    if text.count(begin) != 1 or text.count(END) != 1 or END not in rest:
        raise ValueError(f"there must be one line {begin}…` --> and after it one line {END}")
    return f"{head}{made}{tail}"


def _cells(
    records: dict[str, dict[str, Any]], peers: list[str], show: Callable[[float], str]
) -> list[str]:
    fastest = min(records, key=lambda peer: records[peer]["median_s"])
    cells = []
    for peer in peers:
        if peer not in records:
            cells.append("")
            continue
        record = records[peer]
        cell = show(record["median_s"])
        cell = f"**{cell}**" if peer == fastest else cell
        ratio = record["ratio_of_medians"]
        if peer != REFERENCE:
            cell += f" ({ratio:.{0 if ratio >= 9.95 else 1 if ratio >= 1.05 else 2}f}×)"
        cells.append(cell)
    return cells


def _rate(seconds: float) -> str:
    value = 1 / seconds
    return f"{value:,.0f}/s" if value >= 9.95 else f"{value:.2g}/s"


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2g}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the README's table; 2 if the file or the README is not as it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readme", description="Write the README's table of times."
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="what `python -m benchmarks` wrote; a workload that several have is the last one's",
    )
    parser.add_argument("--readme", default=str(ROOT / "README.md"), metavar="README")
    options = parser.parse_args(arguments)
    readme = Path(options.readme)
    try:
        files = {
            Path(os.path.relpath(file, readme.parent)).as_posix(): json.loads(
                Path(file).read_text()
            )
            for file in options.files
        }
        text = replaced(readme.read_text(), block(files))
    except (OSError, ValueError, KeyError, TypeError) as error:
        named = " ".join(options.files)
        why = f"{type(error).__name__}: {error}"
        print(f"FILE was {named!r}, the README {readme.name!r}: {why}", file=sys.stderr)
        return 2
    unfinished = readme.with_name(readme.name + ".part")
    unfinished.write_text(text)
    unfinished.replace(readme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
