"""Few-shot sequences: closed curves told apart by one tracing of each, with a recurrent network.

A task is five curves of held-out classes, and one tracing of each. No two tracings of a curve agree
time by time: they begin elsewhere and differ in speed.
Claim: the share of tracings that a GRU names rightly after one gradient step from meta-learned
weights, against the same GRU trained on all training curves at once, in as many updates of as many
tracings, then fine-tuned or asked for the nearest class; from scratch; and against the nearest
tracing. Rate, optimiser and number of steps of all rivals are the best on these tasks.
Repeat: `python -m benchmarks.fields.sequences`.
"""

import sys
from typing import Any

import optax
from flax import nnx

import maml_jax as mj
from benchmarks.fields import report
from maml_jax.inner import without_head

WIDTH, UPDATES, TASKS, RATE = 64, 1000, 16, 2e-3
TEST_TASKS, QUERIES, STEPS = 100, 5, 60
INNER_RATE = 0.4
RIVALS = {"sgd": (0.4, 2.0), "adam": (0.001, 0.01)}


def measure(seed: int) -> dict[str, float]:
    """The accuracy of each method on the test tasks, in per cent."""
    data = mj.data.load("sequences")
    params, apply = mj.from_flax(mj.models.Recurrent(2, WIDTH, 5, rngs=nnx.Rngs(seed)))
    features = without_head(apply, "head")
    tests = data.tasks("test", ways=5, shots=1, queries=QUERIES)

    def trained(learner: mj.MetaLearner, by_class: bool) -> Any:
        tasks = data.tasks("train", ways=5, shots=1, queries=5, by_class=by_class)
        falling = optax.adam(optax.cosine_decay_schedule(RATE, UPDATES))
        meta, _ = mj.train(
            learner,
            params,
            tasks,
            updates=UPDATES,
            optimizer=falling,
            tasks_per_update=TASKS,
            seed=seed,
            progress=False,
        )
        return meta

    def right(learner: mj.MetaLearner, meta: Any, steps: int) -> dict[str, Any]:
        scores = mj.evaluate(learner, meta, tests, count=TEST_TASKS, steps=steps, seed=seed)
        return scores.to_json()

    def best(weights: Any) -> float:
        """Of all optimisers, rates and numbers of steps."""
        optimizers = {"sgd": optax.sgd, "adam": optax.adam}
        found: list[float] = []
        for name, rates in RIVALS.items():
            for rate in rates:
                learner = mj.fomaml(apply, inner_optimizer=optimizers[name](rate))
                found += right(learner, weights, STEPS)["accuracy_per_step"]
        return 100 * max(found)

    maml = mj.maml(apply, inner_lr=INNER_RATE)
    adapted = right(maml, trained(maml, by_class=False), 1)
    joint = mj.pretrained(apply, INNER_RATE, classes=data.labels("train"), features=features)
    network = trained(joint, by_class=True)["params"]
    nearest_class = right(mj.protonet(apply, features=features), network, 0)
    return {
        "MAML, one gradient step": 100 * adapted["accuracy"],
        "trained on all curves, the nearest class by its features": 100 * nearest_class["accuracy"],
        "trained on all curves, fine-tuned, the best of 60 steps": best(network),
        "from scratch, the best of 60 steps": best(params),
        "the nearest tracing": 100 * adapted["nearest_neighbour"]["accuracy"],
    }


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.sequences",
            __doc__,
            measure,
            "% right",
            updates=UPDATES,
            tasks=TASKS,
            outer_rate=RATE,
            inner_rate=INNER_RATE,
            test_tasks=TEST_TASKS,
            queries_per_class=QUERIES,
            rivals=RIVALS,
            steps=STEPS,
        )
    )
