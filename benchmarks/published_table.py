"""The tables of README.md and docs/results.md, from the rows that `benchmarks.published` wrote.

Claim: nothing in them is typed by hand; a test makes them again from the file that they name.
Repeat: `python -m benchmarks.published_table FILE.json`, which prints the three of them.
"""

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any, TypeAlias

from benchmarks import script

Row: TypeAlias = dict[str, Any]
"""What `benchmarks.published` wrote of one run."""
PAPER = "paper"
STRICT = "strict"
SQUARED = "mean squared error"
DIVERGED = 10.0
"""A mean squared error of sine curves above it: weights of 0 have 4.2."""


def classification(rows: list[Row]) -> str:
    """All runs on images."""
    titles = ["Omniglot", "algorithm", "seed", "updates"]
    titles += ["paper's protocol, %", "strict protocol, %", "published, %"]
    lines = [
        [
            task(row),
            learner(row),
            str(row["seed"]),
            f"{row['updates']:,}",
            percent(row[PAPER]),
            percent(row[STRICT]),
            row["published"],
        ]
        for row in rows
        if PAPER in row
    ]
    return "\n".join(script.markdown(titles, lines, words=2))


def regression(rows: list[Row]) -> str:
    """All runs on sine curves, after 0, 1 and 10 inner steps."""
    lines = [
        [
            str(row["config"]["shots"]),
            str(row["seed"]),
            *(loss(row[SQUARED], step) for step in (0, 1, 10)),
        ]
        for row in rows
        if SQUARED in row
    ]
    return "\n".join(script.markdown(["points", "seed", "0 steps", "1 step", "10 steps"], lines))


def summary(rows: list[Row]) -> str:
    """MAML beside its paper, and the best other algorithm, by the paper's protocol."""
    lines = []
    classified = [row for row in rows if PAPER in row]
    for name in dict.fromkeys(map(task, classified)):
        of_task = [row for row in classified if task(row) == name]
        maml = [row for row in of_task if learner(row) == "maml"]
        if not maml:
            continue
        others = [row for row in of_task if row["algorithm"] != "maml"]
        best = max(others, key=lambda row: row[PAPER]["accuracy"], default=None)
        lines.append(
            [
                name,
                over_seeds(maml),
                f"{percent(best[PAPER])}, {best['algorithm']}" if best else "",
                maml[0]["published"],
            ]
        )
    titles = ["Omniglot, %", "MAML here", "best other here", "MAML paper"]
    return "\n".join(script.markdown(titles, lines))


def over_seeds(rows: list[Row]) -> str:
    """One run's accuracy with its interval, or the mean of several runs and their range."""
    if len(rows) == 1:
        return percent(rows[0][PAPER])
    accuracies = [100 * row[PAPER]["accuracy"] for row in rows]
    extremes = f"{min(accuracies):.2f} to {max(accuracies):.2f}"
    return f"{mean(accuracies):.2f} ({len(rows)} seeds: {extremes})"


def task(row: Row) -> str:
    """The kind of task in words."""
    return f"{row['config']['ways']}-way {row['config']['shots']}-shot"


def learner(row: Row) -> str:
    """The algorithm, and the network where it is not conv4."""
    config = row["config"]
    if config["model"] == "conv4":
        return row["algorithm"]
    return f"{row['algorithm']}, {config['model']} {'-'.join(map(str, config['hidden']))}"


def percent(of: dict[str, Any]) -> str:
    """An accuracy and its interval."""
    return f"{100 * of['accuracy']:.2f} ± {100 * of['accuracy_ci95']:.2f}"


def loss(of: dict[str, Any], step: int) -> str:
    """The loss after so many inner steps and its interval."""
    value = of["loss_per_step"][step]
    if value is None or not value <= DIVERGED:  # None: JSON has no NaN
        return "diverges"
    return f"{of['loss_per_step'][step]:.3f} ± {of['loss_per_step_ci95'][step]:.3f}"


def tables(rows: list[Row]) -> list[str]:
    """Those that have a row."""
    made = []
    if any(PAPER in row for row in rows):
        made.append(classification(rows))
    if any(SQUARED in row for row in rows):
        made.append(regression(rows))
    return made


def main() -> int:
    """Print the tables of a file."""
    parser = script.parser("benchmarks.published_table", __doc__)
    parser.add_argument("file", type=Path, help="what `python -m benchmarks.published --out` wrote")
    rows = json.loads(parser.parse_args().file.read_text(encoding="utf-8"))["rows"]
    print("\n\n".join([summary(rows), *tables(rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
