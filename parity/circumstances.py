"""What was run, when, and where."""

import datetime
import importlib
from typing import Any


def circumstances(command: str) -> dict[str, Any]:
    """What was run, when, and where; only the date where this is installed without benchmarks/."""
    facts: dict[str, Any] = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    try:
        machine = importlib.import_module("benchmarks.machine")
    except ModuleNotFoundError:
        return facts
    return facts | {
        "git": machine.git_state(),
        "versions": machine.versions(),
        "machine": machine.machine(),
    }
