"""Every algorithm on one problem: accuracy with its interval, time per update, peak memory.

Claim: all algorithms get the same number of updates and of tasks, from the same seed, and are
tested on the same tasks of held-out classes, with transductive batch norm and without; on sinusoids
by the mean squared error. Times and memory are measured apart from training, in turns, of one
meta-gradient over an update's tasks on one device. Memory is XLA's account of what the program
holds besides its arguments and results.
Repeat: `python -m benchmarks.algorithms --data-dir FOLDER`. It takes hours on two cores, and may be
stopped and started again: what is done is not done again. `--only` names some algorithms,
`--repeats 0` leaves out the times, `--no-training` everything else, and `--known FILES` reads what
such runs wrote and does what is missing.
"""

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import script
from maml_jax import over_tasks, registry, use_all_cores
from maml_jax.training import runs
from maml_jax.training.build import build
from maml_jax.training.config import Config
from maml_jax.training.recipes import recipe
from maml_jax.training.recorder import train_run

KINDS = {"transductive": True, "each query alone": False}
"""How accuracy on images is measured: whether the queries of a task are predicted together."""
REGRESSION = {"mean squared error": True}
QUERIES = {"transductive": 15, "each query alone": 15, "mean squared error": 100}
CLASSIFIERS = ("proto-maml", "protonet")
"""Algorithms that refuse regression."""


def configure(name: str, options: argparse.Namespace) -> Config:
    """The recipe for that algorithm, with the common number of updates and tasks."""
    config = recipe(options.recipe, name)
    return replace(
        config,
        data_dir=options.data_dir,
        updates=1 if name == "scratch" else options.updates,  # it has nothing to learn
        tasks=options.tasks_per_update,
        seed=options.seed,
        validate_every=0,
    ).check()


def config_as_json(config: Config) -> dict[str, Any]:
    """The config as JSON, without the folder of the data."""
    return {name: value for name, value in config.to_json().items() if name != "data_dir"}


def train_or_resume(config: Config, run: Path) -> None:
    """Train the run to its end, from where it stopped if it was begun."""
    if not run.exists():
        runs.create(config, run)
    with runs.locked(run):
        config, problem, state = runs.resume(run)
        if state.update < config.updates:
            state, _ = train_run(config, run, problem, state)
    if state.update < config.updates:
        raise SystemExit(f"stopped; the same command goes on with {run}")


def evaluate_once(run: Path, kind: str, tasks: int, steps: int) -> dict[str, Any]:
    """The score after so many steps; it is kept in the run's folder and read from there."""
    path = run / f"{kind.replace(' ', '-')}-{tasks}-{steps}.json"
    if not path.exists():
        result = runs.evaluate(
            run,
            tasks=tasks,
            steps=steps,
            queries=QUERIES[kind],
            transductive=(KINDS | REGRESSION)[kind],
            per_step=False,
        )
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def scores(config: Config, run: Path, tasks: int) -> dict[str, Any]:
    """Train and evaluate: the accuracy of each kind, or the loss of regression."""
    train_or_resume(config, run)
    kinds, name = (REGRESSION, "loss") if config.data == "sinusoid" else (KINDS, "accuracy")
    found = {}
    for kind in kinds:
        result = evaluate_once(run, kind, tasks, config.evaluation_steps)
        found[kind] = {key: result[key] for key in (name, f"{name}_ci95")}
    return found


def read_known(files: list[Path], configs: dict[str, Config]) -> tuple[dict[str, Any], list[Any]]:
    """The rows of results files, merged by algorithm, and the origin of each file.

    A row whose config is not today's is left out, and standard error says so.
    """
    rows: dict[str, Any] = {}
    origins = []
    for file in files:
        record = json.loads(file.read_text(encoding="utf-8"))
        used = []
        for row in record.pop("rows"):
            name = row["algorithm"]
            if name not in configs:
                continue
            now = json.loads(json.dumps(config_as_json(configs[name])))
            changed = [field for field, value in row["config"].items() if now.get(field) != value]
            if changed:
                print(f"{file}: {name} had another {', '.join(changed)}", file=sys.stderr)
                continue
            rows.setdefault(name, {}).update(row)
            used.append(name)
        origins.append({"file": file.name, "rows": used, **record})
    return rows, origins


def measure_costs(configs: dict[str, Config], repeats: int) -> dict[str, dict[str, Any]]:
    """Milliseconds (median) of one meta-gradient over an update's tasks, and temporary bytes."""
    programs = {}
    for name, config in configs.items():
        problem = build(config)
        source = runs.training_tasks(config, problem.data)
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
    kinds = {kind: None for row in rows for kind in (*KINDS, *REGRESSION) if kind in row}
    titles = ["algorithm", "steps, training / test"]
    titles += [f"{kind}, %" if kind in KINDS else kind for kind in kinds]
    if any("milliseconds" in row for row in rows):
        titles += ["ms", "MB", "meta-parameters"]
    lines = []
    for row in sorted(rows, key=_rank):
        steps = f"{row['inner_steps']} / {row['evaluation_steps']}"
        cells = [row["algorithm"], steps, *(_score(row.get(kind)) for kind in kinds)]
        if "milliseconds" in row:
            temporary = row["temporary_bytes"]  # None where a backend's compiler does not say
            cells += [
                f"{row['milliseconds']:.0f}",
                "?" if temporary is None else f"{temporary / 1e6:.1f}",
                f"{row['meta_parameters']:,}",
            ]
        lines.append(cells)
    return "\n".join(script.markdown(titles, lines))


def _rank(row: dict[str, Any]) -> float:
    """The sort key: less is better, and rows without a score come last."""
    if "transductive" in row:
        return -row["transductive"]["accuracy"]
    return row.get("mean squared error", {"loss": math.inf})["loss"]


def _score(of: dict[str, float] | None) -> str:
    if of is None:
        return ""
    if "accuracy" in of:
        return f"{100 * of['accuracy']:.2f} ± {100 * of['accuracy_ci95']:.2f}"
    return f"{of['loss']:.3f} ± {of['loss_ci95']:.3f}"


def main() -> int:
    """Train, evaluate and time; print the table, and write it where `--out` says."""
    parser = script.measuring_parser("benchmarks.algorithms", __doc__)
    parser.add_argument("--recipe", default="omniglot-5w1s", help="the problem")
    parser.add_argument("--data-dir", type=Path, help="the folder of the data's files")
    parser.add_argument("--updates", type=int, default=3000, help="updates of each")
    parser.add_argument("--tasks-per-update", type=int, default=16, help="tasks of an update")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of an evaluation")
    parser.add_argument("--seed", type=int, default=0, help="of weights and training tasks")
    parser.add_argument("--only", help="names, separated by commas (default: all that apply)")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats; 0: no timing")
    parser.add_argument("--no-training", action="store_true", help="times and memory alone")
    parser.add_argument(
        "--known", type=Path, nargs="*", default=[], help="results files of this command"
    )
    parser.add_argument("--runs", type=Path, help="where the runs go (default: runs/RECIPE-all)")
    options = parser.parse_args()
    use_all_cores()
    regression = recipe(options.recipe).data == "sinusoid"
    names = [
        name for name in registry.names("algorithms") if not (regression and name in CLASSIFIERS)
    ]
    if options.only:
        names = options.only.split(",")
    configs = {name: configure(name, options) for name in names}
    rows, origins = read_known(options.known, configs)
    for name, config in configs.items():
        steps = {key: getattr(config, key) for key in ("inner_steps", "evaluation_steps")}
        rows[name] = {
            "algorithm": name,
            **steps,
            **rows.get(name, {}),
            "config": config_as_json(config),
        }
    if options.repeats:
        untimed = {name: configs[name] for name in names if "milliseconds" not in rows[name]}
        for name, figures in measure_costs(untimed, options.repeats).items():
            rows[name] |= figures
    folder = options.runs or Path("runs", f"{options.recipe}-all")
    for name, config in configs.items():
        if not options.no_training and not rows[name].keys() & (KINDS | REGRESSION):
            rows[name] |= scores(config, folder / name, options.tasks)
            print(table([rows[name]]).splitlines()[-1], file=sys.stderr)
    print(table(list(rows.values())))
    queries = QUERIES["mean squared error"] if regression else QUERIES["transductive"]
    figures = {"test_tasks": options.tasks, "queries": queries, "known": origins}
    figures["rows"] = list(rows.values())
    script.write_record(options.out, "benchmarks.algorithms", **figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
