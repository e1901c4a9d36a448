"""Heat capacities of gases from three temperatures: 889 gases of the JANAF tables.

The tables (NIST-JANAF, 4th edition, 1998) are in the PyPI package `chemicals` (MIT licence), which
this file needs: `pip install chemicals`. A gas is measured at three random temperatures of 300 to
3000 K; the score is the error at the others, as root mean square in J/(mol K), mean over 189 gases
that were held out. The inner problem is a ridge regression on meta-learned features, solved exactly
by a Newton step and differentiated implicitly; ridge and its centre are meta-learned too.
Claim: its error against (a) Shomate's equation in three of its terms, through the three points; (b)
all five terms by ridge towards the mean coefficients of the training gases, at the best strength,
chosen on the test gases; (c) the nearest training gas of 700; (d) the Gaussian whose mean and
covariance over temperatures are those of the training gases, given the three points.
Repeat: `python -m benchmarks.fields.gases`.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import maml_jax as mj
from benchmarks.fields import dense, network, report, train

TEMPERATURES = np.arange(300.0, 3001.0, 100.0)
POINTS, FEATURES, TEST_GASES = 3, 16, 189
UPDATES, TASKS, RATE = 40_000, 16, 3e-3
STRENGTHS = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)
TINY = 1e-10
"""Keeps the root's derivative finite."""
UNIT = 100.0
"""What heat capacities are divided by, in J/(mol K), so that they are of the order of 1."""


def tables() -> np.ndarray:
    """`[gases, temperatures]`, of those that have every temperature."""
    package = find_spec("chemicals")  # without importing it, which needs more packages
    if package is None or package.origin is None:
        raise SystemExit("gases: the package `chemicals` is not installed; pip install chemicals")
    path = Path(package.origin).parent / "Heat Capacity" / "JANAF_1998_gas_Cp.json"
    text, rows = path.read_text(encoding="utf-8"), []
    for _, (at, values) in sorted(json.loads(text).items()):
        by_temperature = dict(zip(at, values, strict=True))
        if all(t in by_temperature for t in TEMPERATURES):
            rows.append([by_temperature[t] for t in TEMPERATURES])
    return np.asarray(rows, np.float32) / UNIT


def features(weights: Any, t: jax.Array) -> jax.Array:
    """What the heat capacity is linear in, `[points, FEATURES]`."""
    return network(weights["net"], jnp.stack([t / 1000 - 1.5, 300 / t, jnp.log(t / 1000)], -1))


def error(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> Any:
    """The mean squared error."""
    return jnp.mean((features(weights, batch.x) @ weights["head"] - batch.y) ** 2)


def score(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> Any:
    """The root mean squared error, which is what the gases' mean is taken of."""
    return jnp.sqrt(error(weights, meta, batch, key) + TINY)


def ridge(weights: Any, meta: Any, batch: mj.Batch, key: Any) -> Any:
    """The error, and the distance of the head to where it started."""
    gap = weights["head"] - meta["params"]["head"]
    return error(weights, meta, batch, key) + jnp.sum(jnp.exp(meta["hyper"]["ridge"]) * gap**2)


def newton(objective: Any, start: Any) -> Any:
    """The minimum of a quadratic, by one step."""
    flat, unravel = ravel_pytree(start)

    def of(vector: jax.Array) -> jax.Array:
        return objective(unravel(vector))

    return unravel(flat - jnp.linalg.solve(jax.hessian(of)(flat), jax.grad(of)(flat)))


def shomate(t: np.ndarray) -> np.ndarray:
    """The terms of Shomate's equation, `[points, 5]`."""
    t = t / 1000
    return np.stack([np.ones_like(t), t, t**-2.0, t**2, t**3], axis=-1)


def by_baselines(known: np.ndarray, tests: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
    """Heat capacities of the test gases, `[gases, temperatures]`, by each method."""
    terms, count = shomate(TEMPERATURES), len(tests)
    mean_coefficients = np.linalg.lstsq(terms, known.mean(0), rcond=None)[0]
    mean, covariance = known.mean(0), np.cov(known.T) + 1e-6 * np.eye(len(TEMPERATURES))
    found: dict[str, list[np.ndarray]] = {}
    for row, points in zip(tests, at, strict=True):
        a, y = terms[points], row[points]
        exact = terms[:, :3] @ np.linalg.solve(a[:, :3], y)
        found.setdefault("Shomate's first three terms, through the points", []).append(exact)
        for strength in STRENGTHS:
            moved = np.linalg.solve(
                a.T @ a + strength * np.eye(5), a.T @ (y - a @ mean_coefficients)
            )
            name = f"Shomate, ridge {strength}"
            found.setdefault(name, []).append(terms @ (mean_coefficients + moved))
        nearest = known[((known[:, points] - y) ** 2).sum(1).argmin()]
        found.setdefault("the nearest training gas", []).append(nearest)
        gain = covariance[:, points] @ np.linalg.inv(covariance[np.ix_(points, points)])
        gaussian = mean + gain @ (y - mean[points])
        found.setdefault("the training gases' Gaussian, given the points", []).append(gaussian)
    return {name: np.stack(rows).reshape(count, -1) for name, rows in found.items()}


def measure(seed: int) -> dict[str, float]:
    """The mean error of each method on the gases held out."""
    rng = np.random.default_rng(seed)
    gases = rng.permutation(tables())
    tests, known = gases[:TEST_GASES], gases[TEST_GASES:]
    on_device, at_all = jnp.asarray(known), jnp.asarray(TEMPERATURES, jnp.float32)

    def sample(key: jax.Array) -> mj.Episode:
        of_gas, of_points = jax.random.split(key)
        values = on_device[jax.random.randint(of_gas, (), 0, len(on_device))]
        points = jax.random.permutation(of_points, len(at_all))[:POINTS]
        return mj.Episode(mj.Batch(at_all[points], values[points]), mj.Batch(at_all, values))

    learner = mj.bilevel(
        ridge,
        score,
        minimizer=newton,
        adapts=lambda path: path == "head",
        hyper={"ridge": jnp.full(FEATURES, -4.0)},
        differentiate="implicit",
        solver_steps=FEATURES,
    )
    params = {"net": dense(rng, (3, 32, FEATURES)), "head": jnp.full(FEATURES, 0.1)}
    meta = train(
        learner, learner.init(params), sample, updates=UPDATES, tasks=TASKS, rate=RATE, seed=seed
    )
    at = np.stack([rng.permutation(len(TEMPERATURES))[:POINTS] for _ in tests])

    @jax.jit
    @jax.vmap
    def adapted(values: jax.Array, points: jax.Array) -> jax.Array:
        weights = learner.adapt(meta, mj.Batch(at_all[points], values[points]))
        return features(weights, at_all) @ weights["head"]

    found = {"meta-learned features, ridge and centre": np.asarray(adapted(tests, at))}
    found |= by_baselines(known, tests, at)

    def mean_error(values: np.ndarray) -> float:
        unseen = np.ones(tests.shape, bool)
        np.put_along_axis(unseen, at, False, axis=1)
        squares = ((values - tests) ** 2 * unseen).sum(1) / unseen.sum(1)
        return float(UNIT * np.sqrt(squares).mean())

    scores = {name: mean_error(values) for name, values in found.items()}
    of_ridge = [scores.pop(f"Shomate, ridge {strength}") for strength in STRENGTHS]
    return scores | {"Shomate's five terms, ridge, best of 6 strengths": min(of_ridge)}


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.gases",
            __doc__,
            measure,
            "J/(mol K)",
            updates=UPDATES,
            tasks=TASKS,
            test_gases=TEST_GASES,
            strengths=STRENGTHS,
        )
    )
