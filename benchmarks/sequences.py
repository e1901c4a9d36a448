"""MAML with a recurrent network against training it from scratch on each task's few examples.

Claim: both start from the same architecture and are tested on the same tasks of held-out classes.
From scratch has more to choose from: every rate and optimiser below, and its best number of steps
up to `--steps`, picked on the test tasks themselves, which flatters it.
Repeat: `python -m benchmarks.sequences`. A run that is done is not done again.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from benchmarks import machine
from benchmarks.algorithms import described, trained
from maml_jax.training import runs
from maml_jax.training.config import Config
from maml_jax.training.recipes import recipe

SHOWN = (1, 10, 50, 100)
RATES = {"sgd": (0.04, 0.4, 2.0), "adam": (0.001, 0.01)}
COLUMNS = [f"{steps} step{'s' * (steps > 1)}" for steps in SHOWN]


def measured(config: Config, run: Path, steps: int, tasks: int) -> dict[str, Any]:
    """Train, and judge after every step."""
    trained(config, run)
    result = runs.evaluate(run, tasks=tasks, steps=steps)
    names = ("accuracy_per_step", "accuracy_per_step_ci95", "nearest_neighbour")
    return {name: result[name] for name in names} | {"config": described(config)}


def main() -> int:
    """Train, evaluate, print the table, and write it where `--out` says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sequences",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--updates", type=int, default=2000, help="updates of MAML")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks")
    parser.add_argument("--steps", type=int, default=max(SHOWN), help="steps from scratch")
    parser.add_argument("--runs", type=Path, default=Path("runs/sequences-all"), help="a folder")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", machine.cores())
    maml = replace(recipe("sequences"), updates=options.updates, validate_every=0)
    rows = {"MAML": measured(maml, options.runs / "maml", maml.evaluation_steps, options.tasks)}
    scratch = replace(recipe("sequences", "scratch"), updates=1, validate_every=0)
    for optimizer, rates in RATES.items():
        for rate in rates:
            config = replace(scratch, inner_optimizer=optimizer, inner_lr=rate)
            name = f"from scratch, {optimizer} at {rate}"
            run = options.runs / f"scratch-{optimizer}-{rate}"
            rows[name] = measured(config, run, options.steps, options.tasks)
    print(table(rows))
    if options.out is not None:
        counts = {"test_tasks": options.tasks, "queries_per_class": 15}
        machine.write_record(options.out, "benchmarks.sequences", **counts, rows=rows)
    return 0


def table(rows: dict[str, Any]) -> str:
    """Accuracies in per cent after some numbers of steps, and after the best, in Markdown."""
    lines = [f"| | {' | '.join(COLUMNS)} | best |", "|---" * (len(SHOWN) + 2) + "|"]
    for name, row in rows.items():
        means = row["accuracy_per_step"]
        scores = [
            f"{100 * mean:.1f} ± {100 * interval:.1f}"
            for mean, interval in zip(means, row["accuracy_per_step_ci95"], strict=True)
        ]
        best = max(range(len(means)), key=means.__getitem__)
        shown = [scores[steps] if steps < len(scores) else "" for steps in SHOWN]
        lines.append(f"| {name} | {' | '.join(shown)} | {scores[best]} after {best} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
