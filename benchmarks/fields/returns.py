"""The MAML paper's figure of 2-D navigation: the return after each number of gradient steps.

Repeat: `python -m benchmarks.fields.returns NAVIGATION.json OUT.png`, of what
`python -m benchmarks.fields.navigation --out NAVIGATION.json` wrote.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import script

CURVES = {
    "meta-learned, {} steps": ("meta-learned", "#27ae60"),
    "trained on all goals, {} steps, best rate": ("trained on all goals, best rate", "#c0392b"),
}
STEPS = range(4)


def draw(rows: dict[str, dict[str, Any]], file: Path) -> None:
    """Write the figure as `file`, whose suffix says the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, (label, color) in CURVES.items():
        found = [rows[name.format(steps)] for steps in STEPS]
        means, halves = ([row[key] for row in found] for key in ("mean", "ci95"))
        axes.errorbar(STEPS, means, halves, label=label, color=color, marker="o", capsize=3)
    axes.set_xticks(STEPS)
    axes.set_yscale("symlog", linthresh=0.3)  # the first step gains far more than all others
    axes.set_yticks([-10, -5, -2, -1, -0.5], ["-10", "-5", "-2", "-1", "-0.5"])
    axes.minorticks_off()
    axes.set_ylim(-12, -0.25)
    axes.set_xlabel("gradient steps, each from 20 trajectories")
    axes.set_ylabel("return, mean of 40 new goals")
    axes.set_title("2-D navigation (95 % intervals over 3 seeds)", fontsize=10)
    axes.legend(loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


def main() -> int:
    """Draw the figure."""
    parser = script.parser("benchmarks.fields.returns", __doc__)
    parser.add_argument("file", type=Path, metavar="NAVIGATION.json")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    draw(json.loads(options.file.read_text(encoding="utf-8"))["rows"], options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
