"""Meta-gradients in other fields than few-shot classification, one short file and command each.

Each trains with three seeds, within ten minutes on two idle cores, and is tested against the
strongest baselines that do not meta-learn; `docs/fields.md` has the table, whichever wins.
"""

import itertools
import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.stats import t as student_t

import maml_jax as mj
from benchmarks import machine, script

SEEDS = (0, 1, 2)


def train(
    learner: mj.MetaLearner,
    meta: Any,
    sample: Callable[[jax.Array], mj.Episode],
    *,
    updates: int,
    tasks: int,
    rate: float,
    seed: int,
    at_once: int = 50,
) -> Any:
    """Meta-parameters after so many updates on tasks that `sample(key)` draws.

    By Adam, whose rate falls along a cosine to 0.
    """
    falling = optax.cosine_decay_schedule(rate, updates)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(falling))
    step = mj.over_tasks(learner, tasks)

    def update(carry: Any, key: jax.Array) -> Any:
        meta, state = carry
        for_tasks, for_objectives = jax.random.split(key)
        episodes = jax.vmap(sample)(jax.random.split(for_tasks, tasks))
        (value, _), grads = step(meta, episodes, key=for_objectives)
        changes, state = optimizer.update(grads, state, meta)
        return (optax.apply_updates(meta, changes), state), value

    some = jax.jit(lambda carry, keys: jax.lax.scan(update, carry, keys))
    carry = meta, optimizer.init(meta)
    keys = jax.random.split(jax.random.key(seed), updates // at_once * at_once)
    for first in range(0, len(keys), at_once):
        carry, values = some(carry, keys[first : first + at_once])
        if not jnp.isfinite(values).all():
            raise SystemExit(f"fields: the loss was not finite after {first} updates, seed {seed}")
    return carry[0]


def of_a_context(objective: Any, steps: int, context: jax.Array) -> mj.MetaLearner:
    """The learner whose weights `context` alone adapt, each at a learned rate from 1, not `net`.

    As in CAVIA (Zintgraf et al., ICML 2019).
    """
    return mj.bilevel(
        objective,
        objective,
        lambda hyper: {"net": 0.0, "context": hyper["rates"]},
        steps,
        hyper={"rates": jnp.ones_like(context)},
        adapts=lambda path: path == "context",
    )


def summary(values: Iterable[float]) -> dict[str, Any]:
    """The mean over seeds, half its 95 % interval by Student's t, and each value."""
    found = [float(value) for value in values]
    half = math.nan
    if len(found) > 1:
        quantile = float(student_t.ppf(0.975, len(found) - 1))
        half = quantile * statistics.stdev(found) / len(found) ** 0.5
    return {"mean": statistics.fmean(found), "ci95": half, "seeds": found}


def report(
    module: str,
    doc: str | None,
    measure: Callable[[int], dict[str, float]],
    unit: str,
    **settings: Any,
) -> int:
    """Measure with each seed, print a row for each method, and write them where `--out` says."""
    parser = script.measuring_parser(module, doc)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many (default: 3)")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds was {options.seeds}; an interval needs 2 or more")
    results = []
    # Seeds are independent, and one of these small programs does not fill all cores.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(options.seeds, machine.cores()), context) as pool:
        for seed, result in enumerate(pool.map(measure, range(options.seeds))):
            results.append(result)
            print(f"seed {seed}: {result}", file=sys.stderr, flush=True)
    rows = {name: summary(result[name] for result in results) for name in results[0]}
    for name, row in rows.items():
        print(f"{name:60} {row['mean']:10.4g} ± {row['ci95']:.2g} {unit}")
    script.write_record(options.out, module, unit=unit, rows=rows, settings=settings)
    return 0


def dense(rng: np.random.Generator, sizes: tuple[int, ...], scale: float = 1.0) -> dict[str, Any]:
    """Weights of a network of dense layers, normal with variance `scale²/inputs`."""
    return {
        f"layer{i}": {
            "kernel": jnp.asarray(rng.normal(size=(n, m)) * scale / n**0.5, jnp.float32),
            "bias": jnp.zeros(m, jnp.float32),
        }
        for i, (n, m) in enumerate(itertools.pairwise(sizes))
    }


def network(weights: Any, x: jax.Array) -> jax.Array:
    """Dense layers, as `dense` makes them, with tanh between."""
    for i in range(len(weights) - 1):
        x = jnp.tanh(x @ weights[f"layer{i}"]["kernel"] + weights[f"layer{i}"]["bias"])
    last = weights[f"layer{len(weights) - 1}"]
    return x @ last["kernel"] + last["bias"]
