"""Meta-gradients through up to 10,000 inner steps: memory, time, equality, truncation, explosion.

Claim: with `stored_steps=100` 10,000 steps take at most twice the memory of 100, as XLA accounts
for the compiled program, and at most log₂(10,000)/2 = 6.6 times the time of storing every step; the
meta-gradient is that of storing every step to 1e-10 in float64. The meta-gradient through the last
steps alone is biased by so much, and the norms by step show where a meta-gradient explodes.
Repeat: `python -m benchmarks.long_loops`, about three minutes on two cores.
"""

import itertools
import statistics
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import maml_jax as mj
from benchmarks import script

STEPS = (100, 1000, 10_000)
STORED = 100
REPEATS = 3
LAST = (1, 10, 30, 100, 300)
RATES = {"small": 0.02, "large": 0.1}


def problem() -> tuple[Any, Any, mj.Episode]:
    """`(params, objective, episode)`: a sine by a network of two hidden layers, in float64.

    The inner objective has a learned decay, so that the meta-gradient has a part which long loops
    do not forget.
    """
    rng = np.random.default_rng(0)
    sizes = (1, 40, 40, 1)
    params = {
        f"layer{i}": {
            "kernel": jnp.asarray(rng.normal(size=(n, m)) / n**0.5),
            "bias": jnp.zeros(m),
        }
        for i, (n, m) in enumerate(itertools.pairwise(sizes))
    }

    def model(weights: Any, x: Any) -> Any:
        for layer in list(weights.values())[:-1]:
            x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
        last = weights["layer2"]
        return x @ last["kernel"] + last["bias"]

    def error(weights: Any, meta: Any, batch: Any, key: Any) -> Any:
        return jnp.mean((model(weights, batch.x) - batch.y) ** 2)

    def inner(weights: Any, meta: Any, batch: Any, key: Any) -> Any:
        size = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))
        return error(weights, meta, batch, key) + jnp.exp(meta["hyper"]["decay"]) * size

    def batch(n: int) -> mj.Batch:
        x = rng.uniform(-3, 3, size=(n, 1))
        return mj.Batch(jnp.asarray(x), jnp.asarray(np.sin(x) + 0.1 * rng.normal(size=x.shape)))

    return params, (inner, error), mj.Episode(batch(10), batch(10))


def learner_of(
    objectives: Any,
    steps: int,
    rate: float,
    *,
    stored_steps: int | None = None,
    last_steps: int | None = None,
    gradient_norms: bool = False,
) -> mj.MetaLearner:
    """The learner of the problem at so many steps."""
    hyper = {"decay": jnp.asarray(-6.0)}
    inner, outer = objectives
    return mj.bilevel(
        inner,
        outer,
        rate,
        steps,
        hyper=hyper,
        stored_steps=stored_steps,
        last_steps=last_steps,
        gradient_norms=gradient_norms,
    )


def measured(steps: int, stored: int | None) -> tuple[dict[str, Any], Any]:
    """A row of the table, and the meta-gradient as one vector."""
    params, objectives, episode = problem()
    learner = learner_of(objectives, steps, RATES["small"], stored_steps=stored)
    meta = learner.init(params)
    start = time.perf_counter()
    compiled = jax.jit(learner.value_and_grad).lower(meta, episode).compile()
    compile_s = time.perf_counter() - start
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise SystemExit("long_loops: this backend's compiler gives no account of its memory")
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        _, grads = jax.block_until_ready(compiled(meta, episode))
        times.append(time.perf_counter() - start)
    row = {
        "steps": steps,
        "stored_steps": stored,
        "temporary_bytes": analysis.temp_size_in_bytes,
        "weights_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(meta["params"])),
        "seconds": statistics.median(times),
        "compile_s": compile_s,
    }
    return row, vector(grads)


def vector(tree: Any) -> np.ndarray:
    """All leaves as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def truncated(steps: int) -> list[dict[str, Any]]:
    """The bias of the meta-gradient in the learned decay through the last steps alone."""
    params, objectives, episode = problem()
    found = {}
    for last in (*LAST, None):
        learner = learner_of(objectives, steps, RATES["small"], last_steps=last)
        _, grads = jax.jit(learner.value_and_grad)(learner.init(params), episode)
        found[last] = float(grads["hyper"]["decay"])
    exact = found[None]
    return [
        {
            "last_steps": last,
            "in_decay": value,
            "relative_bias": abs(value - exact) / abs(exact),
        }
        for last, value in found.items()
    ]


def norms(steps: int) -> dict[str, Any]:
    """The norm of the outer objective's derivative in the weights, at each tenth of the steps."""
    params, objectives, episode = problem()
    found = {}
    for name, rate in RATES.items():
        learner = learner_of(objectives, steps, rate, gradient_norms=True)
        (value, metrics), _ = jax.jit(learner.value_and_grad)(learner.init(params), episode)
        by_step = np.asarray(metrics["meta_gradient_norm"])
        shown = [*range(0, steps, steps // 10), steps - 1]
        found[name] = {
            "inner_lr": rate,
            "outer_loss": float(value),
            "steps": shown,
            "norm": [float(by_step[k]) for k in shown],
        }
    return found


def main() -> int:
    """Print the tables, and write them where `--out` says."""
    parser = script.measuring_parser("benchmarks.long_loops", __doc__)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    print(" steps   stored   temporary KB   copies of weights   seconds   compile s   difference")
    for steps in STEPS:
        exact = None
        for stored in (None, STORED):
            row, grads = measured(steps, stored)
            exact = grads if exact is None else exact
            row["difference"] = float(np.linalg.norm(grads - exact) / np.linalg.norm(exact))
            rows.append(row)
            print(
                f"{steps:6} {stored or 'all':>8} {row['temporary_bytes'] / 1e3:14.0f} "
                f"{row['temporary_bytes'] / row['weights_bytes']:19.1f} {row['seconds']:9.3f} "
                f"{row['compile_s']:11.1f} {row['difference']:12.1e}",
                flush=True,
            )
    truncation, by_step = truncated(1000), norms(300)
    print("\nlast steps of 1000   meta-gradient in the decay   relative bias")
    for row in truncation:
        name = row["last_steps"] or "all"
        print(f"{name:>18} {row['in_decay']:28.4e} {row['relative_bias']:15.3f}")
    print("\nnorm of the outer objective's derivative in the weights before a step, of 300")
    for name, row in by_step.items():
        print(f"rate {row['inner_lr']} ({name}), outer loss {row['outer_loss']:.3g}:")
        pairs = zip(row["steps"], row["norm"], strict=True)
        print("  " + "  ".join(f"{step}: {norm:.1e}" for step, norm in pairs))
    script.write_record(
        options.out, "benchmarks.long_loops", rows=rows, truncation=truncation, norms=by_step
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
