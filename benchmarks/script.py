"""What the commands of this folder share: their parser, and results read and written."""

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import machine
from maml_jax.files import write_file

_STARTED = time.monotonic()


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parser(module: str, doc: str | None, epilog: str | None = None) -> Parser:
    """The parser of `python -m benchmarks.MODULE`, described by the module's docstring."""
    form = argparse.RawDescriptionHelpFormatter
    return Parser(f"python -m {module}", description=doc, formatter_class=form, epilog=epilog)


def measuring_parser(module: str, doc: str | None) -> Parser:
    """The same for a command that measures; `write_record` writes what it found to `--out`."""
    made = parser(module, doc)
    made.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return made


def write_record(path: Path | None, module: str, **figures: Any) -> None:
    """Write figures as JSON, with the command that made them, how long it took and on what.

    `processor_seconds`, of all cores and with those of started programs that have ended, are the
    same beside other work, where `seconds` are more. Of paths in the command only the last part
    is written. Nothing is written if `path` is None.

    Raises:
      ValueError: a figure has the name of one of these.
    """
    if path is None:
        return
    arguments = (argument.rsplit(os.sep, 1)[-1] for argument in sys.argv[1:])
    about = {
        "command": " ".join(["python -m", module, *arguments]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - _STARTED, 1),
        "processor_seconds": round(sum(os.times()[:4]), 1),
        **machine.environment(),
    }
    if both := about.keys() & figures.keys():
        raise ValueError(f"figures may not be called {', '.join(sorted(both))}")
    write_text(path, json.dumps(about | figures, indent=1) + "\n")


def read_results(parser: argparse.ArgumentParser, file: str) -> dict[str, Any]:
    """The results that `python -m benchmarks` wrote; an error of the parser if it did not."""
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"FILE was {file!r}, which cannot be read ({error})")
    missing = {"workloads", "results", "method"} - set(results)
    if missing:
        parser.error(
            f"FILE was {file!r}; it must be what `python -m benchmarks` wrote, "
            f"and has no {', '.join(sorted(missing))}"
        )
    return results


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """The lines of a table in Markdown; all but the first `words` columns are aligned right."""
    rule = "|---" * words + "|---:" * (len(titles) - words) + "|"
    lines = [f"| {' | '.join(row)} |" for row in (titles, *rows)]
    return [lines[0], rule, *lines[1:]]


def write_text(file: Path, text: str) -> None:
    """Write all of the file or nothing."""
    write_file(file, text, argument="out")
