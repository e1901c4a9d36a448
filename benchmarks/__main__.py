"""The command line: `python -m benchmarks`."""

import datetime
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import chart, floor, machine, options, own, peaks, results_table, runner, script
from benchmarks.peers import BEFORE, REFERENCE
from benchmarks.process import ROOT
from benchmarks.workloads import Workload, to_json


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks; returns the exit status."""
    parser = options.make_parser()
    given = parser.parse_args(arguments)
    repeats = given.repeats or (options.QUICK_REPEATS if given.quick else options.REPEATS)
    minutes = given.minutes or (options.QUICK_MINUTES if given.quick else None)
    file = options.checked_out(parser, given.out)
    before = options.checked_checkout(parser, given.before)
    device, name = options.chosen_device(parser, given.device)
    if given.workload is None:
        if given.peer:
            parser.error("argument --peer: it needs --workload; --peers names the built-in ones")
        peers = options.chosen_peers(parser, given.peers, given.quick, device)
        workloads = options.chosen_workloads(parser, given.only, given.quick, device)
    else:
        if given.only or given.peers or given.before:
            parser.error("argument --workload: --only, --peers and --before are for the built-in")
        _import_from_here()
        workloads, peers = own.chosen(parser, given.workload, given.peer)

    load = machine.load_average()
    if load is not None and load > results_table.BUSY:
        print(f"{parser.prog}: the load average is {load:.1f}; times will be off", file=sys.stderr)
    progress = _progress(sys.stderr)
    start = time.monotonic()
    progress("measuring the machine")
    speeds = peaks.measure(device)
    left = float("inf") if minutes is None else 60 * minutes - (time.monotonic() - start)
    records = runner.run(
        workloads,
        peers,
        before=before,
        device=device,
        repeats=repeats,
        patience=given.patience or options.PATIENCE,
        seconds=left,
        progress=progress,
    )
    progress("")
    now = datetime.datetime.now(datetime.UTC)
    results: dict[str, Any] = {
        "command": options.as_command(given, device),
        "date": now.isoformat(timespec="seconds"),
        **machine.environment(),
        "device": {"kind": device, "name": name},
        "method": {
            "repeats": repeats,
            "seed": runner.SEED,
            "load_average_before": load,
            "tolerance": runner.TOLERANCE,
            "float64_tasks": runner.EXACT_TASKS,
            "compiled_side_by_side": runner.at_once(len(peers) + (before is not None), device),
        },
        "peaks": speeds,
        "floors": {workload.name: floor.floor(workload, speeds) for workload in workloads},
        "workloads": [to_json(workload) for workload in workloads],
        "results": records,
    }
    if before is not None:
        results[BEFORE] = machine.git_state(before)
    _add_rates(results, workloads)
    print(json.dumps(results, indent=1) if given.json else results_table.screen_table(results))
    ours = [record["status"] for record in records if record["peer"] == REFERENCE]
    interrupted = any(record.get("reason") == runner.INTERRUPTED for record in records)
    if "measured" not in ours or not set(ours) <= {"measured", "skipped"}:
        print(f"{parser.prog}: {REFERENCE} gave no times; nothing written", file=sys.stderr)
        return 130 if interrupted else 1
    if file is None:
        partial = given.quick or given.only or given.peers or given.repeats or given.workload
        partial = partial or any(record["status"] == "skipped" for record in records)
        file = _default_file(now.date().isoformat(), name or device, bool(partial))
        file.parent.mkdir(exist_ok=True)
    script.write_text(file, json.dumps(results, indent=1) + "\n")
    print(f"written to {os.path.relpath(file)}", file=sys.stderr)
    _draw(results, file.with_suffix(".png"))
    if interrupted:
        return 130
    return int(any(record["status"] in ("refused", "failed") for record in records))


def _import_from_here() -> None:
    """Have modules beside the user found, here and by the workers."""
    here = os.getcwd()
    sys.path.insert(0, here)
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, known]))


def _add_rates(results: dict[str, Any], workloads: list[Workload]) -> None:
    """The part of the time that the floor is, and of training the updates a second."""
    training = {workload.name for workload in workloads if workload.updates}
    for record in results["results"]:
        if record["status"] == "measured":
            least = results["floors"][record["workload"]]["floor_s"]
            record["floor_fraction"] = least / record["median_s"]
            if record["workload"] in training:
                record["updates_per_s"] = 1 / record["median_s"]


def _draw(results: dict[str, Any], picture: Path) -> None:
    """The chart beside the results, where matplotlib is there and no other picture is."""
    if not chart.bars(results):
        print(f"no chart: nothing was timed beside {REFERENCE}", file=sys.stderr)
    elif importlib.util.find_spec("matplotlib") is None:
        print("no chart: matplotlib is not installed", file=sys.stderr)
    elif picture.exists():
        print(f"no chart: {os.path.relpath(picture)} exists", file=sys.stderr)
    else:
        chart.draw(results, picture)
        print(f"chart in {os.path.relpath(picture)}", file=sys.stderr)


def _default_file(date: str, device: str, partial: bool) -> Path:
    """A file that does not exist yet: a second run on one day does not replace the first."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    stem = f"{date}-{slug}{'-part' if partial else ''}"
    file, count = ROOT / "benchmarks" / "results" / f"{stem}.json", 1
    while file.exists():
        count += 1
        file = file.with_name(f"{stem}-{count}.json")
    return file


def _progress(stream: Any) -> Callable[[str], None]:
    """On a terminal one line that the next replaces; in a log a line a minute at most."""
    if stream.isatty():
        return lambda text: print(f"\r\033[K{text}", end="", file=stream, flush=True)
    start, last_minute = time.monotonic(), -1

    def show(text: str) -> None:
        nonlocal last_minute
        minute = int(time.monotonic() - start) // 60
        if text and minute > last_minute:
            last_minute = minute
            print(f"{minute} min: {text}", file=stream, flush=True)

    return show


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
