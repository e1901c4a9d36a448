"""MAML with a recurrent network against training it from scratch on each task's few examples.

Claim: both have the same architecture and are tested on the same tasks of held-out classes.
Training from scratch has the advantage of a choice: of every rate and optimiser below, and of its
best number of steps up to `--steps`, made on the test tasks themselves.
Repeat: `python -m benchmarks.sequences`. A run that is done is not done again.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import script
from benchmarks.algorithms import config_as_json, train_or_resume
from maml_jax import use_all_cores
from maml_jax.training import runs
from maml_jax.training.config import Config
from maml_jax.training.recipes import recipe

SHOWN_STEPS = (1, 10, 50, 100)
RATES = {"sgd": (0.04, 0.4, 2.0), "adam": (0.001, 0.01)}
COLUMNS = [f"{steps} step{'s' * (steps > 1)}" for steps in SHOWN_STEPS]


def measure(config: Config, run: Path, steps: int, tasks: int) -> dict[str, Any]:
    """Train, then measure the accuracy after every step."""
    train_or_resume(config, run)
    result = runs.evaluate(run, tasks=tasks, steps=steps)
    names = ("accuracy_per_step", "accuracy_per_step_ci95", "nearest_neighbour")
    return {name: result[name] for name in names} | {"config": config_as_json(config)}


def main() -> int:
    """Train, evaluate, print the table, and write it where `--out` says."""
    parser = script.measuring_parser("benchmarks.sequences", __doc__)
    parser.add_argument("--updates", type=int, default=2000, help="updates of MAML")
    parser.add_argument("--tasks", type=int, default=1000, help="test tasks")
    parser.add_argument("--steps", type=int, default=max(SHOWN_STEPS), help="steps from scratch")
    parser.add_argument("--runs", type=Path, default=Path("runs/sequences-all"), help="a folder")
    options = parser.parse_args()
    use_all_cores()
    maml = replace(recipe("sequences"), updates=options.updates, validate_every=0)
    rows = {"MAML": measure(maml, options.runs / "maml", maml.evaluation_steps, options.tasks)}
    scratch = replace(recipe("sequences", "scratch"), updates=1, validate_every=0)
    for optimizer, rates in RATES.items():
        for rate in rates:
            config = replace(scratch, inner_optimizer=optimizer, inner_lr=rate)
            name = f"from scratch, {optimizer} at {rate}"
            run = options.runs / f"scratch-{optimizer}-{rate}"
            rows[name] = measure(config, run, options.steps, options.tasks)
    print(table(rows))
    counts = {"test_tasks": options.tasks, "queries_per_class": 15}
    script.write_record(options.out, "benchmarks.sequences", **counts, rows=rows)
    return 0


def table(rows: dict[str, Any]) -> str:
    """Accuracies in per cent after some numbers of steps, and after the best, in Markdown."""
    lines = []
    for name, row in rows.items():
        means = row["accuracy_per_step"]
        scores = [
            f"{100 * mean:.1f} ± {100 * interval:.1f}"
            for mean, interval in zip(means, row["accuracy_per_step_ci95"], strict=True)
        ]
        best = max(range(len(means)), key=means.__getitem__)
        shown = [scores[steps] if steps < len(scores) else "" for steps in SHOWN_STEPS]
        lines.append((name, *shown, f"{scores[best]} after {best}"))
    return "\n".join(script.markdown(("", *COLUMNS, "best"), lines))


if __name__ == "__main__":
    sys.exit(main())
