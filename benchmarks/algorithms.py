"""Every algorithm on one problem: accuracy with its interval, time per update, peak memory.

Claim: all see the same number of updates and of tasks, from the same seed, and are tested on the
same tasks of held-out classes, with transductive batch norm and without. Times and memory are taken
apart from training, in turns, of one meta-gradient over the update's tasks on one device; memory is
XLA's own account of what the program holds besides its arguments and results.
Repeat: `python -m benchmarks.algorithms --data-dir FOLDER`. What is done is not done again: stop it
and start it as you like. On two cores it takes hours; `--only` does some of them.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import machine
from maml_jax import over_tasks, runs
from maml_jax.build import build
from maml_jax.config import ALGORITHMS, Config
from maml_jax.recipes import recipe
from maml_jax.train import train, training_tasks

KINDS = {"transductive": True, "each query alone": False}


def settings(name: str, options: argparse.Namespace) -> Config:
    """The recipe for that algorithm, at the common number of updates and tasks."""
    config = recipe(options.recipe, name)
    return replace(
        config,
        data_dir=options.data_dir,
        updates=1 if name == "scratch" else options.updates,  # it has nothing to learn
        tasks=options.tasks_per_update,
        seed=options.seed,
        validate_every=0,
    ).check()


def trained(config: Config, run: Path) -> None:
    """Train, or go on with training, until it is done."""
    if not run.exists():
        runs.create(config, run)
    with runs.locked(run):
        config, problem, state = runs.resume(run)
        if state.update < config.updates:
            state, _ = train(config, run, problem, state)
    if state.update < config.updates:
        raise SystemExit(f"stopped; the same command goes on with {run}")


def evaluated(run: Path, kind: str, tasks: int) -> dict[str, Any]:
    """Accuracy after the evaluation's last step, from the run's folder where it is there."""
    path = run / f"{kind.replace(' ', '-')}-{tasks}.json"
    if not path.exists():
        result = runs.evaluate(run, tasks=tasks, transductive=KINDS[kind], per_step=False)
        path.write_text(json.dumps(result, indent=1) + "\n")
    return json.loads(path.read_text())


def cost(configs: dict[str, Config], repeats: int) -> dict[str, dict[str, Any]]:
    """Milliseconds (median) of one meta-gradient over an update's tasks, and temporary bytes."""
    programs = {}
    for name, config in configs.items():
        problem = build(config)
        source = training_tasks(config, problem)
        keys = jax.random.split(jax.random.key(0), config.tasks)
        episodes = jax.jit(jax.vmap(source.sample, (None, 0)))(source.store, source.items(keys))
        meta = jax.tree.map(jnp.asarray, problem.learner.init(problem.params))
        compiled = jax.jit(over_tasks(problem.learner)).lower(meta, episodes).compile()
        jax.block_until_ready(compiled(meta, episodes))
        programs[name] = compiled, meta, episodes
        print(f"compiled {name}", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, (compiled, meta, episodes) in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled(meta, episodes))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {
            "milliseconds": statistics.median(times[name]),
            "milliseconds_all": times[name],
            "temporary_bytes": getattr(compiled.memory_analysis(), "temp_size_in_bytes", None),
            "meta_parameters": sum(leaf.size for leaf in jax.tree.leaves(meta)),
        }
        for name, (compiled, meta, _) in programs.items()
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best first."""
    titles = ["algorithm", "steps", "transductive, %", "each query alone, %"]
    if any("milliseconds" in row for row in rows):
        titles += ["ms", "MB", "meta-parameters"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in sorted(rows, key=lambda row: -row["transductive"]["accuracy"]):
        accuracies = [
            f"{100 * row[kind]['accuracy']:.2f} ± {100 * row[kind]['accuracy_ci95']:.2f}"
            for kind in KINDS
        ]
        steps = f"{row['inner_steps']} / {row['evaluation_steps']}"
        cells = [row["algorithm"], steps, *accuracies]
        if "milliseconds" in row:
            held = row["temporary_bytes"]  # None where a backend's compiler does not say
            cells += [
                f"{row['milliseconds']:.0f}",
                "?" if held is None else f"{held / 1e6:.1f}",
                f"{row['meta_parameters']:,}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Train, evaluate and time; print the table, and write it where `--out` says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.algorithms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="omniglot-5w1s", help="the problem")
    parser.add_argument("--data-dir", type=Path, help="the folder of the data's files")
    parser.add_argument("--updates", type=int, default=3000, help="updates of each")
    parser.add_argument("--tasks-per-update", type=int, default=16, help="tasks of an update")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of an evaluation")
    parser.add_argument("--seed", type=int, default=0, help="of weights and training tasks")
    parser.add_argument("--only", default=",".join(ALGORITHMS), help="names, with commas between")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats; 0: no timing")
    parser.add_argument("--runs", type=Path, help="where the runs go (default: runs/RECIPE-all)")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", machine.cores())
    names = options.only.split(",")
    configs = {name: settings(name, options) for name in names}
    folder = options.runs or Path("runs", f"{options.recipe}-all")
    costs = cost(configs, options.repeats) if options.repeats else {}
    rows = []
    for name, config in configs.items():
        run = folder / name
        trained(config, run)
        row = {
            "algorithm": name,
            "inner_steps": config.inner_steps,
            "evaluation_steps": config.evaluation_steps,
            **costs.get(name, {}),
        }
        for kind in KINDS:
            result = evaluated(run, kind, options.tasks)
            row[kind] = {key: result[key] for key in ("accuracy", "accuracy_ci95")}
        row["config"] = result["config"]
        rows.append(row)
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr)
    print(table(rows))
    if options.out is not None:
        counts = {"test_tasks": options.tasks, "queries_per_class": 15}
        machine.write_record(options.out, "benchmarks.algorithms", **counts, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
