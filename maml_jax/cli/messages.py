"""What the program says; the library names its arguments in backticks, here they are options."""

import dataclasses
import difflib
import re
import sys
from typing import Any

POSITIONAL = ("run", "file", "name")
"""Arguments that have no flag; help shows them in capitals."""


def say(line: str) -> None:
    """Print to standard error, which leaves standard output to results."""
    print(line, file=sys.stderr)


def options(command: Any) -> list[str]:
    """The fields of a command and of its groups, as flags."""
    flags = []
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if dataclasses.is_dataclass(value):
            flags += options(value)
        elif field.name not in POSITIONAL:
            flags.append("--" + field.name.replace("_", "-"))
    return flags


def suggestion(word: str, known: list[str]) -> str:
    """` (did you mean --updates?)`, or nothing where nothing that is known is near."""
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def as_options(error: Exception | str, command: Any | None) -> str:
    """The message with the names that this command has as one writes them there."""
    known = ["--command", "--recipe", "--algorithm"] if command is None else options(command)

    def shown(match: re.Match[str]) -> str:
        name, flag = match[1], "--" + match[1].replace("_", "-")
        if name == "run" and "--resume" in known:
            return "--resume"
        if name in POSITIONAL:
            return name.upper()
        return flag if flag in known else name

    return re.sub(r"`([a-z]\w*)`", shown, str(error))
