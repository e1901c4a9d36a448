"""The command line: `python -m benchmarks`."""

import argparse
import datetime
import difflib
import importlib.util
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import chart, floor, machine, peaks, report, runner
from benchmarks.peers import FEWER_BITS, PEERS, REFERENCE, SLOW
from benchmarks.process import ROOT
from benchmarks.workloads import QUICK, WORKLOADS, Workload, to_json

REPEATS, QUICK_REPEATS = 7, 3
QUICK_MINUTES = 3.0
PATIENCE = 900.0
BUSY = 0.5
"""The load average that brings a warning: PyTorch's spinning threads suffer from company."""

DESCRIPTION = """\
Times one whole meta-update's gradient of MAML (mean loss and meta-gradient over a batch of
tasks; sampling excluded) in this project and in its peers, in float32, from the same episodes
and the same initial weights; and whole training, sampling and Adam included. A peer that computes
something else is refused and gets no time.
"""
EPILOG = """\
workloads:
  {workloads}
  (* in --quick too; + on a CPU only when --only has its whole name)
peers:
  {peers}
  {reference} always runs, for the others are checked and divided by it;
  --quick leaves out {slow}, unless named;
  so do it and a CPU with {fewer_bits}

how it is measured:
  Each peer has a process of its own. They take turns (A B C A B C ...), one step each, or
  as many as fill 0.2 s, after 0.3 s of untimed ones, so that a machine which slows down slows
  all. `compile s` is what the first call cost beyond the second. Memory on a CPU is the resident
  set's peak during the timed steps, and its growth over what imports and inputs took; on a GPU
  it is the allocator's peak.
  The gradients are checked in float64 on few tasks, to 1e-6, and in float32 on all, to 0.1;
  of training the change of the weights over two updates on given tasks.
  The floor of a workload is the least time that its operations and bytes allow on this machine,
  at the speed of a large matrix product and of memory, both measured first (`benchmarks.floor`).
  Both frameworks use all cores, and PyTorch's threads wait for each other by spinning: on a
  machine that does something else meanwhile its times are worthless.

examples:
  python -m benchmarks --quick                      {minutes:g} minutes at most
  python -m benchmarks --device gpu --minutes 9 --patience 60       all workloads, in 10 minutes
  python -m benchmarks --only sinusoid --peers torch_func --repeats 21
  python -m benchmarks --json --device gpu > results.json
  python -m benchmarks.report benchmarks/results/FILE.json      the table in Markdown
  python -m benchmarks.chart benchmarks/results/FILE.json OUT.png      the bars
  python -m benchmarks.readme benchmarks/results/FILE.json      the README's table

exit status: 0; 1 if a peer was refused or failed; 2 for bad arguments; 130 after Ctrl-C, which
  keeps the workloads that are finished.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_only(parser, options.only)
    named = _named_peers(parser, options.peers)
    repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    minutes = options.minutes or (QUICK_MINUTES if options.quick else None)
    file = _checked_out(parser, options.out)
    device, name = _chosen_device(parser, options.device)
    peers = named or _usual_peers(options.quick, device)
    workloads = _chosen_workloads(options.only, options.quick, device)

    load = machine.load_average()
    if load is not None and load > BUSY:
        print(f"{parser.prog}: the load average is {load:.1f}; times will be off", file=sys.stderr)
    progress = _progress(sys.stderr)
    start = time.monotonic()
    progress("measuring the machine")
    speeds = peaks.measure(device)
    left = float("inf") if minutes is None else 60 * minutes - (time.monotonic() - start)
    records = runner.run(
        workloads,
        peers,
        device=device,
        repeats=repeats,
        patience=options.patience or PATIENCE,
        seconds=left,
        progress=progress,
    )
    progress("")
    now = datetime.datetime.now(datetime.UTC)
    results: dict[str, Any] = {
        "command": _command(options, device),
        "date": now.isoformat(timespec="seconds"),
        "git": machine.git_state(),
        "versions": machine.versions(),
        "machine": machine.machine(),
        "device": {"kind": device, "name": name},
        "method": {
            "repeats": repeats,
            "seed": runner.SEED,
            "load_average_before": load,
            "tolerance": runner.TOLERANCE,
            "float64_tasks": runner.EXACT_TASKS,
            "compiled_side_by_side": runner.at_once(peers),
        },
        "peaks": speeds,
        "floors": {workload.name: floor.floor(workload, speeds) for workload in workloads},
        "workloads": [to_json(workload) for workload in workloads],
        "results": records,
    }
    for record in records:
        if record["status"] == "measured":
            least = results["floors"][record["workload"]]["floor_s"]
            record["floor_fraction"] = least / record["median_s"]
    training = {workload.name for workload in workloads if workload.updates}
    for record in records:
        if record["status"] == "measured" and record["workload"] in training:
            record["updates_per_s"] = 1 / record["median_s"]
    print(json.dumps(results, indent=1) if options.json else report.screen_table(results))
    ours = [record["status"] for record in records if record["peer"] == REFERENCE]
    interrupted = any(record.get("reason") == runner.INTERRUPTED for record in records)
    if "measured" not in ours or not set(ours) <= {"measured", "skipped"}:
        print(f"{parser.prog}: {REFERENCE} gave no times; nothing written", file=sys.stderr)
        return 130 if interrupted else 1
    if file is None:
        partial = options.quick or options.only or options.peers or options.repeats
        partial = partial or any(record["status"] == "skipped" for record in records)
        file = _default_file(now.date().isoformat(), name or device, bool(partial))
        file.parent.mkdir(exist_ok=True)
    _write(file, json.dumps(results, indent=1) + "\n")
    print(f"written to {os.path.relpath(file)}", file=sys.stderr)
    _draw(results, file.with_suffix(".png"))
    if interrupted:
        return 130
    return int(any(record["status"] in ("refused", "failed") for record in records))


def _draw(results: dict[str, Any], picture: Path) -> None:
    """The chart beside the results, where matplotlib is there and no other picture is."""
    if importlib.util.find_spec("matplotlib") is None:
        print("no chart: matplotlib is not installed", file=sys.stderr)
    elif picture.exists():
        print(f"no chart: {os.path.relpath(picture)} exists", file=sys.stderr)
    else:
        chart.draw(results, picture)
        print(f"chart in {os.path.relpath(picture)}", file=sys.stderr)


def _parser() -> Parser:
    epilog = EPILOG.format(
        workloads="\n  ".join(
            f"{'*' if workload.name in QUICK else '+' if workload.gpu_only else ' '} "
            f"{workload.name}"
            for workload in WORKLOADS
        ),
        peers=", ".join(PEERS),
        reference=REFERENCE,
        slow=", ".join(SLOW),
        fewer_bits=", ".join(FEWER_BITS),
        minutes=QUICK_MINUTES,
    )
    parser = Parser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help=f"the workloads with a *, {QUICK_REPEATS} repeats instead of {REPEATS}, "
        f"{QUICK_MINUTES:g} minutes",
    )
    add("--device", choices=("cpu", "gpu"), help="default: gpu if JAX sees one, else cpu")
    add("--only", metavar="A,B", help="the workloads with one of these texts in their name")
    add("--peers", metavar="A,B", help="these peers, beside " + REFERENCE)
    add("--repeats", metavar="N", type=_at_least_one, help="how many times to time each")
    add("--minutes", metavar="M", type=_positive, help="begin no workload after so long")
    add(
        "--patience",
        metavar="S",
        type=_positive,
        help=f"seconds for a peer to answer, compiling included (default: {PATIENCE:g})",
    )
    add("--json", action="store_true", help="print the results file instead of the table")
    add(
        "--out",
        metavar="FILE",
        help="where to write the results, a file that does not exist; "
        "default: benchmarks/results/DATE-DEVICE.json, with -part if not all was run",
    )
    return parser


def _at_least_one(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"was {text!r}; it must be an integer of at least 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"was {text!r}; it must be a number above 0")
    return value


def _check_only(parser: Parser, text: str | None) -> None:
    for part in text.split(",") if text is not None else ():
        if not part or not any(part in workload.name for workload in WORKLOADS):
            names = ", ".join(workload.name for workload in WORKLOADS)
            parser.error(f"argument --only: was {part!r}; it must be part of one of {names}")


def _chosen_workloads(text: str | None, quick: bool, device: str) -> list[Workload]:
    parts = [""] if text is None else text.split(",")
    chosen = [w for w in WORKLOADS if any(part in w.name for part in parts)]
    if quick and text is None:
        chosen = sorted((w for w in chosen if w.name in QUICK), key=lambda w: QUICK.index(w.name))
    return [w for w in chosen if device == "gpu" or not w.gpu_only or w.name in parts]


def _usual_peers(quick: bool, device: str) -> dict[str, str]:
    left_out = (SLOW if quick else ()) + (FEWER_BITS if quick or device == "cpu" else ())
    return {name: module for name, module in PEERS.items() if name not in left_out}


def _named_peers(parser: Parser, text: str | None) -> dict[str, str]:
    """Those after `--peers`, if any."""
    if text is None:
        return {}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PEERS:
            nearest = difflib.get_close_matches(name, PEERS, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            choice = ", ".join(PEERS)
            parser.error(f"argument --peers: was {name!r}; {hint}it may be any of {choice}")
    return {name: PEERS[name] for name in dict.fromkeys([REFERENCE, *names])}


def _chosen_device(parser: Parser, wanted: str | None) -> tuple[str, str | None]:
    """The device and, of a GPU, its name."""
    if wanted == "cpu":
        return "cpu", None
    name = machine.gpu_name("cuda" if wanted == "gpu" else None)
    if wanted == "gpu" and name is None:
        parser.error("argument --device: was 'gpu'; JAX sees none here, so it may be 'cpu'")
    return ("cpu", None) if name is None else ("gpu", name)


def _checked_out(parser: Parser, text: str | None) -> Path | None:
    """The file to write, refused before the work rather than after it."""
    if text is None:
        return None
    file = Path(text)
    if file.exists():
        parser.error(f"argument --out: was {text!r}, which exists; it must be a new file")
    if not file.parent.is_dir():
        parser.error(f"argument --out: was {text!r}; its folder must exist")
    return file


def _default_file(date: str, device: str, partial: bool) -> Path:
    """A file that does not exist yet: a second run on one day does not replace the first."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    stem = f"{date}-{slug}{'-part' if partial else ''}"
    file, count = ROOT / "benchmarks" / "results" / f"{stem}.json", 1
    while file.exists():
        count += 1
        file = file.with_name(f"{stem}-{count}.json")
    return file


def _command(options: argparse.Namespace, device: str) -> str:
    """What repeats the run elsewhere: the device is named, the output file is not."""
    words = ["python", "-m", "benchmarks", "--device", device]
    words += ["--quick"] * options.quick
    for option in ("only", "peers", "repeats", "minutes", "patience"):
        value = getattr(options, option)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [] if value is None else [f"--{option}", text]
    return shlex.join(words)


def _write(file: Path, text: str) -> None:
    """All of the file or nothing."""
    unfinished = file.with_name(file.name + ".part")
    unfinished.write_text(text)
    unfinished.replace(file)


def _progress(stream: Any) -> Callable[[str], None]:
    """Shows one line that the next replaces, where a person is looking; else a line each minute."""
    if stream.isatty():
        return lambda text: print(f"\r\033[K{text}", end="", file=stream, flush=True)
    start, said = time.monotonic(), -1

    def show(text: str) -> None:
        nonlocal said
        minute = int(time.monotonic() - start) // 60
        if text and minute > said:
            said = minute
            print(f"{minute} min: {text}", file=stream, flush=True)

    return show


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
