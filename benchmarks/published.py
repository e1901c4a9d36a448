"""The published table: full trainings, each tested by the paper's protocol and by a strict one.

Claim: every cell is one `maml-jax train` of a recipe, tested on the same 1000 tasks of held-out
classes. By the paper's protocol a task has as many query images a class as shots, which batch norm
sees together; by the strict one 15, each by itself beside the support set.
Repeat: `python -m benchmarks.published --data-dir FOLDER`. What is missing is trained, which takes
hours for each cell and may be stopped and started again. `--only` names cells, `--from FOLDER` is
where the runs are, and `--no-training` tests those that are finished.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import script
from benchmarks.algorithms import config_as_json, train_or_resume
from benchmarks.published_table import PAPER, SQUARED, STRICT, tables
from maml_jax import use_all_cores
from maml_jax.training import metrics, runs
from maml_jax.training.config import RESUMABLE, Config, read_config
from maml_jax.training.recipes import recipe

TASKS = 1000
SECONDS = "seconds.json"
NO_MATTER = {*RESUMABLE, "validate_every", "validation_tasks"} - {"updates"}
"""What a run and its cell may differ in: it does not decide the weights after an update."""
NOTE = "note.txt"
"""What a person has to say of a run, such as the machines it was trained on."""


@dataclass(frozen=True)
class Cell:
    """One figure of the table."""

    recipe: str
    algorithm: str = "maml"
    seeds: int = 1
    published: str = ""
    """Of the paper, in percent; by its own protocol."""
    options: dict[str, Any] = field(default_factory=dict)
    """What differs from the recipe."""

    def config(self, seed: int, data_dir: Path | None) -> Config:
        config = replace(recipe(self.recipe, self.algorithm), **self.options)
        return replace(config, seed=seed, data_dir=data_dir).check()


SHORT = {"updates": 4000, "tasks": 16}
"""For two CPU cores, where the papers have 60,000 updates and more."""
CELLS = {
    "omniglot-5w1s": Cell("omniglot-5w1s", seeds=3, published="98.7 ± 0.4"),
    "omniglot-5w5s": Cell("omniglot-5w5s", published="99.9 ± 0.1"),
    "omniglot-20w1s": Cell("omniglot-20w1s", published="95.8 ± 0.3"),
    "omniglot-20w5s": Cell("omniglot-20w5s", published="98.9 ± 0.2"),
    "omniglot-5w1s-mlp": Cell(
        "omniglot-5w1s",
        published="89.7 ± 1.1",
        options={"model": "mlp", "hidden": (256, 128, 64, 64), "updates": 10_000},
    ),
    "omniglot-5w1s-fomaml": Cell("omniglot-5w1s", "fomaml", options=SHORT),
    "omniglot-5w1s-reptile": Cell(
        "omniglot-5w1s", "reptile", published="97.68 ± 0.04", options={**SHORT, "updates": 2500}
    ),
    "omniglot-5w1s-proto-maml": Cell("omniglot-5w1s", "proto-maml", options={"updates": 20_000}),
    "omniglot-5w5s-protonet": Cell("omniglot-5w5s", "protonet", options={**SHORT, "updates": 3000}),
    "omniglot-20w1s-proto-maml": Cell(
        "omniglot-20w1s", "proto-maml", options={"updates": 15_000, "queries": 1}
    ),
    "omniglot-20w5s-proto-maml": Cell("omniglot-20w5s", "proto-maml", options={"updates": 4000}),
    "sinusoid-10": Cell("sinusoid", seeds=3),
    "sinusoid-5": Cell("sinusoid", seeds=3, options={"shots": 5, "queries": 5}),
}
"""Finn et al. 2017 and Nichol et al. 2018 (transductive)."""


def protocols(config: Config) -> dict[str, dict[str, Any]]:
    """The arguments of `evaluate` for each protocol."""
    if config.data == "sinusoid":
        return {SQUARED: {"tasks": TASKS, "queries": 100}}
    # Each query brings the whole support set through the network: in 20-way 5-shot, of 100 images,
    # 300 times a task, which is an hour of a core.
    return {
        PAPER: {"tasks": TASKS, "queries": config.shots, "transductive": True},
        STRICT: {"tasks": TASKS, "queries": 15, "transductive": False, "per_step": False},
    }


def score(run: Path, config: Config, seed: int, data_dir: Path | None) -> dict[str, Any]:
    """The scores of a finished run, kept in its folder and read from there.

    The run may have been trained elsewhere: `data_dir` is where the data are here.
    """
    found = {}
    for name, how in protocols(config).items():
        kept = run / f"test-{name.replace(' ', '-')}-{seed}.json"
        result = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        if any(result.get(key) != how[key] for key in ("tasks", "queries")):
            result = runs.evaluate(run, seed=seed, data_dir=data_dir, **how)
            script.write_text(kept, metrics.to_json(result, indent=1) + "\n")
            result = json.loads(kept.read_text(encoding="utf-8"))
        found[name] = {
            key: result[key]
            for key in result
            if key.startswith(("accuracy", "loss_per_step")) or key in ("tasks", "queries", "steps")
        }
    return found


def train(config: Config, run: Path) -> None:
    """Train to the end; the seconds that it takes are added up in the run's folder."""
    start = time.monotonic()
    try:
        train_or_resume(config, run)
    finally:
        if run.exists():
            seconds = (_read_seconds(run) or 0) + time.monotonic() - start
            script.write_text(run / SECONDS, json.dumps(seconds))


def _read_seconds(run: Path) -> float | None:
    kept = run / SECONDS
    return json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None


def why_not(run: Path, config: Config) -> str | None:
    """What is wrong with the run as the cell with that config; None where it is the cell's."""
    log = metrics.read(run) if run.exists() else []
    if max((line["update"] for line in log), default=0) < config.updates:
        return "not trained to its end"
    wanted, given = config.to_json(), read_config(run).to_json()
    differs = [name for name in wanted.keys() - NO_MATTER if wanted[name] != given[name]]
    if differs:
        values = (f"{name} {given[name]} for {wanted[name]}" for name in sorted(differs))
        return f"trained with other settings than the cell's: {', '.join(values)}"
    return None


def row_of(
    name: str, run: Path, config: Config, seed: int, data_dir: Path | None
) -> dict[str, Any]:
    """What the table and the results file say of a run."""
    log = [line for line in metrics.read(run) if "loss" in line]
    note = run / NOTE
    return {
        "cell": name,
        "seed": config.seed,
        "algorithm": config.algorithm,
        "published": CELLS[name].published,
        "updates": log[-1]["update"] if log else 0,
        "training_seconds": _read_seconds(run),
        **({"note": note.read_text(encoding="utf-8").strip()} if note.exists() else {}),
        "config": config_as_json(config),
        **score(run, config, seed, data_dir),
    }


def main() -> int:
    """Train what is missing, test, print the table."""
    parser = script.measuring_parser("benchmarks.published", __doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder of Omniglot")
    parser.add_argument("--from", dest="folder", type=Path, default=Path("runs/published"))
    parser.add_argument("--only", help="cells, separated by commas; one seed as CELL:SEED")
    parser.add_argument("--no-training", action="store_true", help="test finished runs alone")
    parser.add_argument("--test-seed", type=int, default=0, help="decides the tasks of the tests")
    options = parser.parse_args()
    use_all_cores()
    rows = []
    for name, seed in _chosen(parser, options.only):
        config = CELLS[name].config(seed, options.data_dir)
        run = options.folder / f"{name}-{seed}"
        if not options.no_training:
            train(config, run)
        if reason := why_not(run, config):
            print(f"{run}: {reason}", file=sys.stderr)
            continue
        rows.append(row_of(name, run, read_config(run), options.test_seed, options.data_dir))
        print(*tables(rows[-1:]), sep="\n", file=sys.stderr)
    if not rows:
        return 1
    print("\n\n".join(tables(rows)))
    script.write_record(options.out, "benchmarks.published", rows=rows)
    return 0


def _chosen(parser: argparse.ArgumentParser, only: str | None) -> list[tuple[str, int]]:
    """The cells and seeds to be done."""
    every = [(name, seed) for name, cell in CELLS.items() for seed in range(cell.seeds)]
    if only is None:
        return every
    chosen = []
    for word in only.split(","):
        name, _, seed = word.partition(":")
        if name not in CELLS or (seed and not seed.isdigit()):
            parser.error(f"--only had {word!r}; it may have {', '.join(CELLS)}")
        chosen += [(name, int(seed))] if seed else [pair for pair in every if pair[0] == name]
    return chosen


if __name__ == "__main__":
    sys.exit(main())
