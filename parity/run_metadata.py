"""The command, date, versions and machine of a run, for its results file."""

import datetime
import importlib
from typing import Any


def run_metadata(command: str) -> dict[str, Any]:
    """The command, the date and, where `benchmarks/` is there, git, versions and machine."""
    metadata: dict[str, Any] = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        machine = importlib.import_module("benchmarks.machine")
    except ModuleNotFoundError:
        return metadata
    return metadata | {
        "git": machine.git_state(),
        "versions": machine.versions(),
        "machine": machine.machine(),
    }
