"""The tables of `docs/fields.md`, from what the fields' commands wrote.

Repeat: `python -m benchmarks.fields FILE.json [FILE.json ...]`.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from benchmarks import script


def table(record: dict[str, Any]) -> str:
    """A row for each method: the mean over seeds with its 95 % interval."""
    rows = [
        (name, _with_interval(row["mean"], row["ci95"])) for name, row in record["rows"].items()
    ]
    return "\n".join(script.markdown(["", record["unit"]], rows))


def _with_interval(mean: float, half: float) -> str:
    """Both to the place of the second digit of half the interval."""
    if not half > 0:
        return f"{mean:.4g} ± {half:.2g}"
    places = 1 - math.floor(math.log10(half))
    if 0 < places < 7:
        return f"{mean:.{places}f} ± {half:.{places}f}"
    return f"{mean:.3g} ± {half:.2g}"


def main() -> int:
    """Print the table of each file."""
    parser = script.parser("benchmarks.fields", __doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for file in parser.parse_args().files:
        print(table(json.loads(file.read_text(encoding="utf-8"))), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
