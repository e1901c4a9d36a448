"""How long training takes to an accuracy on held-out tasks, and what it then scores on test tasks.

Claim: 5-way 1-shot Omniglot by the recipe's settings, with a schedule of `--updates`; after every
thousand updates 600 validation tasks are scored, and training ends where they reach `--accuracy`.
The seconds are those of training, without compiling and scoring. Test tasks are scored once.
Repeat: `python -m benchmarks.to_accuracy --data-dir FOLDER`; on a GPU this takes seconds.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

import maml_jax as mj
from benchmarks import machine, script
from maml_jax.data import DataSet
from maml_jax.training.build import build
from maml_jax.training.config import Config
from maml_jax.training.recipes import recipe
from maml_jax.training.schedule import outer_optimizer
from maml_jax.types import MetaLearner

EVERY = 1000
VALIDATION_TASKS, TEST_TASKS = 600, 1000


def reach(config: Config, accuracy: float) -> dict[str, Any]:
    """Train until so many of the validation tasks' queries are right, or to the end.

    Args:
      config: of classification, of at least `2 * EVERY` updates.
      accuracy: a fraction.
    """
    problem = build(config)
    curve: list[dict[str, float]] = []
    durations: list[float] = []
    start = time.perf_counter()

    def watch(update: int, _: dict[str, float], meta: Any) -> bool:
        nonlocal start
        jax.block_until_ready(meta)
        durations.append(time.perf_counter() - start)
        found = score(config, problem.data, problem.learner, meta, "val", VALIDATION_TASKS)
        curve.append({"update": update, "validation": found["accuracy"]})
        print(f"{update:6} updates: {100 * found['accuracy']:.2f} %", file=sys.stderr, flush=True)
        start = time.perf_counter()
        return len(curve) > 1 and found["accuracy"] >= accuracy

    meta, _ = mj.train(
        problem.learner,
        problem.params,
        problem.data.tasks("train", ways=config.ways, shots=config.shots, queries=config.queries),
        updates=config.updates,
        optimizer=outer_optimizer(config),
        tasks_per_update=config.tasks,
        seed=config.seed,
        callback=watch,
        updates_per_dispatch=EVERY,
    )
    test = score(config, problem.data, problem.learner, meta, "test", TEST_TASKS)
    compiling = durations[0] - durations[1]
    return {
        "curve": curve,
        "updates": curve[-1]["update"],
        "training_s": sum(durations) - compiling,  # the first dispatch takes as long as the second
        "compile_s": compiling,
        "test": test,
    }


def score(
    config: Config, data: DataSet, learner: MetaLearner, meta: Any, split: str, tasks: int
) -> dict[str, float]:
    """The accuracy by the paper's protocol, as many queries a class as shots, all together."""
    source = data.tasks(split, ways=config.ways, shots=config.shots, queries=config.shots)
    found = mj.evaluate(
        learner, meta, source, count=tasks, steps=config.evaluation_steps, per_step=False
    )
    return {"accuracy": found.accuracy or 0.0, "interval": found.accuracy_ci95 or 0.0}


def main() -> int:
    """Train, print what was reached, write it down."""
    parser = script.measuring_parser("benchmarks.to_accuracy", __doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="the folder of Omniglot")
    parser.add_argument("--accuracy", type=_percent, default=0.985, help="in percent, say 98.5")
    parser.add_argument("--updates", type=int, default=10_000, help="of the schedule")
    parser.add_argument("--recipe", default="omniglot-5w1s")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    mj.use_all_cores()
    config = replace(
        recipe(options.recipe),
        updates=options.updates,
        seed=options.seed,
        data_dir=options.data_dir,
    ).check()
    found = reach(config, options.accuracy)
    test = found["test"]
    print(
        f"{found['updates']} updates in {found['training_s']:.1f} s: "
        f"{100 * test['accuracy']:.2f} ± {100 * test['interval']:.2f} % of {TEST_TASKS} test tasks"
    )
    device = jax.devices()[0]
    script.write_record(
        options.out,
        "benchmarks.to_accuracy",
        device={"kind": device.platform, "name": device.device_kind},
        load_average=machine.load_average(),
        goal=options.accuracy,
        **found,
    )
    return 0


def _percent(text: str) -> float:
    value = float(text) / 100
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"was {text!r}; it must be in percent, like 98.5")
    return value


if __name__ == "__main__":
    sys.exit(main())
