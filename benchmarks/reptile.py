"""Reptile by its paper's settings, where the recipe has others, on validation tasks of Omniglot.

Claim: how far Reptile comes in 5-way 1-shot, by the number of updates, with the settings of Nichol
et al. 2018: 5 tasks an update, 5 steps of Adam (b1=0, rate 0.001) on 10 of a task's 50 images, the
weights moved the whole way to the adapted ones at first, linearly less to the end; 50 steps on a
new task. Adam's state is fresh in each task.
Repeat: `python -m benchmarks.reptile --data-dir FOLDER --test`, seven minutes on two cores.
"""

import sys
import time
from pathlib import Path
from typing import Any

import optax
from flax import nnx

import maml_jax as mj
from benchmarks import script

TASKS = 5
STEPS = 5
TEST_STEPS = 50
IMAGES = 10
VALIDATIONS = 5


def main() -> int:
    """Train, validate on the way, print and store the curve."""
    parser = script.measuring_parser("benchmarks.reptile", __doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder of Omniglot")
    parser.add_argument("--updates", type=int, default=6000, help="a multiple of 250")
    parser.add_argument("--test", action="store_true", help="at the end, on 1000 held-out tasks")
    options = parser.parse_args()
    if options.updates < 1 or options.updates % 250:
        parser.error(f"--updates was {options.updates}; it must be a multiple of 250")
    mj.use_all_cores()
    data = mj.data.load("omniglot", data_dir=options.data_dir)
    train = data.tasks("train", ways=5, shots=IMAGES, queries=1)
    params, apply = mj.from_flax(mj.models.Conv4(ways=5, downsample="stride", rngs=nnx.Rngs(0)))
    rule = optax.adam(1e-3, b1=0)
    learner = mj.reptile(apply, inner_steps=STEPS, inner_optimizer=rule, batch_size=IMAGES)
    tester = mj.reptile(apply, inner_steps=TEST_STEPS, inner_optimizer=rule)
    start, curve = time.monotonic(), []

    def score(split: str, meta: Any, count: int) -> dict[str, float]:
        tasks = data.tasks(split, ways=5, shots=1, queries=1)
        found = mj.evaluate(tester, meta, tasks, count=count, per_step=False)
        return {"accuracy": float(found.accuracy or 0), "ci95": float(found.accuracy_ci95 or 0)}

    def validate(update: int, metrics: dict[str, float], meta: Any) -> None:
        if update % (options.updates // VALIDATIONS):
            return
        seconds = round(time.monotonic() - start, 1)
        curve.append({"update": update, "seconds": seconds, **score("val", meta, 300)})
        print(curve[-1], flush=True)

    meta, _ = mj.train(
        learner,
        params,
        train,
        updates=options.updates,
        optimizer=optax.sgd(optax.linear_schedule(1.0, 0.0, options.updates)),
        tasks_per_update=TASKS,
        callback=validate,
    )
    figures: dict[str, Any] = {"validation": curve}
    if options.test:
        figures["test"] = {"tasks": 1000, **score("test", meta, 1000)}
        print(figures["test"])
    script.write_record(options.out, "benchmarks.reptile", **figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
