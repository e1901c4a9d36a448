"""Writes the tables of times of README.md (small) and docs/speed.md (full) from results files.

Claim: nothing in the tables is typed by hand; a test makes them again from the files that they name
and compares.
Repeat: `python -m benchmarks.readme benchmarks/results/FILE.json …`.
"""

import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from benchmarks import script
from benchmarks.peers import REFERENCE
from benchmarks.process import ROOT
from benchmarks.results_table import origin
from benchmarks.workloads import MLP, ResNet12, Workload, from_json, of_images

BEGIN = "<!-- made by `python -m benchmarks.readme {files}` -->"
END = "<!-- end of what was made -->"
TITLES = {
    REFERENCE: "maml-jax",
    "maml_jax_before": "before",
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
LOOP = "torch_loop"
PYTORCH = (LOOP, "torch_func", "torch_compile", "higher", "torchopt")
"""PyTorch's peers in float32, of which the small table has the fastest."""

Results: TypeAlias = dict[str, Any]
"""What `python -m benchmarks` wrote."""


class Row(NamedTuple):
    """One workload as one results file has it."""

    workload: Workload
    records: dict[str, dict[str, Any]]
    """What was measured, by peer."""
    floor_s: float | None

    def show(self, seconds: float) -> str:
        """Milliseconds, or of training the updates a second."""
        return _rate(seconds) if self.workload.updates else _milliseconds(seconds)


def small_table(files: dict[str, Results]) -> list[str]:
    """The lines of the table with this project, PyTorch's loop and the fastest of PyTorch."""
    titles = ["milliseconds, median", TITLES[REFERENCE], TITLES[LOOP]]
    titles += ["fastest of PyTorch", "its time / ours"]
    lines = []
    for row in _rows(files):
        peers = [peer for peer in PYTORCH if peer in row.records]
        if not peers:
            continue
        fastest = min(peers, key=lambda peer: row.records[peer]["median_s"])
        shown = {peer: row.show(record["median_s"]) for peer, record in row.records.items()}
        cells = (describe(row.workload), shown[REFERENCE], shown.get(LOOP, ""))
        ratio = _ratio(row.records[fastest]["ratio_of_medians"])
        lines.append((*cells, f"{shown[fastest]}, {TITLES[fastest]}", ratio))
    return script.markdown(titles, lines)


def full_table(files: dict[str, Results]) -> list[str]:
    """The lines of the table with all peers and the floor; the fastest of a row is bold."""
    rows = _rows(files)
    peers = [peer for peer in TITLES if any(peer in row.records for row in rows)]
    titles = ["milliseconds, median", *(TITLES[peer] for peer in peers), "floor"]
    floors = ["" if row.floor_s is None else row.show(row.floor_s) for row in rows]
    lines = [
        (describe(row.workload), *_cells(row, peers), floor)
        for row, floor in zip(rows, floors, strict=True)
    ]
    return script.markdown(titles, lines)


Table: TypeAlias = Callable[[dict[str, Results]], list[str]]
DOCUMENTS: dict[str, Table] = {"README.md": small_table, "docs/speed.md": full_table}
"""Which table stands in which document."""


def block(files: dict[str, Results], table: Table, folder: str = ".") -> str:
    """The table, links to the files, and the two marks around them.

    Beside the full table stands the origin of each file: date, machine, versions, command.

    Args:
      files: results by the names of their files, seen from the root of the project. A workload that
        several have is the last one's.
      table: `small_table` or `full_table`.
      folder: where the document is, seen from the root.
    """
    links = {
        f"[{Path(name).stem}]({Path(os.path.relpath(name, folder)).as_posix()})": results
        for name, results in files.items()
    }
    texts = [f"{link}: {origin(results)}" for link, results in links.items()]
    if table is small_table:
        texts = [f"From {', '.join(links)}."]
    lines = [BEGIN.format(files=" ".join(files)), *table(files)]
    for text in texts:
        lines += ["", textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)]
    return "\n".join([*lines, END])


def describe(workload: Workload) -> str:
    """The workload in words."""
    network = workload.network
    if isinstance(network, MLP):
        model, sizes = "sinusoid MLP", f"{workload.queries} queries"
    else:
        network = of_images(network)
        size = f"{network.image_size}×{network.image_size}"
        if isinstance(network, ResNet12):
            model = f"ResNet-12, {size}"
        else:
            form = {"stride": "strides", "maxpool": "2×2 max pooling"}[network.downsample]
            model = f"conv4-{network.filters}, {form}, {size}"
        model += f", {network.ways}-way {workload.shots}-shot"
        sizes = f"{network.ways * workload.queries} queries"
    steps = f"{workload.inner_steps} step{'s' * (workload.inner_steps != 1)}"
    training = "training, updates a second: " if workload.updates else ""
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


def _rows(files: dict[str, Results]) -> list[Row]:
    """The workloads whose reference was measured."""
    rows: dict[str, Row] = {}
    for results in files.values():
        for fields in results["workloads"]:
            name = fields["name"]
            measured = (r for r in results["results"] if r["status"] == "measured")
            records = {r["peer"]: r for r in measured if r["workload"] == name}
            if REFERENCE in records:
                floor = results.get("floors", {}).get(name, {})
                rows[name] = Row(from_json(fields), records, floor.get("floor_s"))
    return list(rows.values())


def _cells(row: Row, peers: list[str]) -> list[str]:
    fastest = min(row.records, key=lambda peer: row.records[peer]["median_s"])
    cells = []
    for peer in peers:
        if peer not in row.records:
            cells.append("")
            continue
        record = row.records[peer]
        cell = row.show(record["median_s"])
        cell = f"**{cell}**" if peer == fastest else cell
        if peer != REFERENCE:
            cell += f" ({_ratio(record['ratio_of_medians'])})"
        cells.append(cell)
    return cells


def _ratio(value: float) -> str:
    return f"{value:.{0 if value >= 9.95 else 1 if value >= 1.05 else 2}f}×"


def _rate(seconds: float) -> str:
    value = 1 / seconds
    return f"{value:,.0f}/s" if value >= 9.95 else f"{value:.2g}/s"


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2g}"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Rewrite the tables of all documents, or none of them."""
    parser = script.parser("benchmarks.readme", __doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="what `python -m benchmarks` wrote; a workload that several have is the last one's",
    )
    given = parser.parse_args(arguments).files
    for file in given:
        if not Path(file).resolve().is_relative_to(root.resolve()):
            parser.error(f"FILE was {file!r}; it must lie in the project, whose documents name it")
    files = {
        Path(os.path.relpath(file, root)).as_posix(): script.read_results(parser, file)
        for file in given
    }
    texts = {}
    for name, table in DOCUMENTS.items():
        document = root / name
        try:
            made = block(files, table, str(Path(name).parent))
            texts[document] = replaced(document.read_text(encoding="utf-8"), made)
        except (OSError, ValueError) as error:
            parser.error(f"{name} was not rewritten: {error}")
    for document, text in texts.items():
        script.write_text(document, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
