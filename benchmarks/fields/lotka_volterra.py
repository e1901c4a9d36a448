"""Dynamics of a new environment from four trajectories: Lotka-Volterra with unseen coefficients.

Environments differ in the four coefficients of ẋ = αx − βxy, ẏ = δxy − γy. A network learns that
field by gradient through RK4; it sees a context vector beside the state, which alone adapts, as in
CAVIA (Zintgraf et al., ICML 2019). From 4 trajectories of a new environment it adapts in 5 steps;
the score is the relative error of 16 other trajectories, √(Σ(found − true)²/Σ true²).
Claim: whether the meta-learned context beats (a) weights trained on all environments together and
fine-tuned, all of them, at the best of several rates and steps, chosen on the test environments
themselves, and (b) least squares for the four coefficients, which knows the form of the equation.
The setting is after that of CoDA (Kirchmeyer et al., ICML 2022); its coefficients, integrator and
counts are not repeated here, so its numbers do not compare.
Repeat: `python -m benchmarks.fields.lotka_volterra`.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import maml_jax as mj
from benchmarks.fields import dense, network, of_a_context, report, train

STEP, LENGTH = 0.25, 20
SUPPORT, QUERY = 4, 16
INNER_STEPS, CONTEXT = 5, 8
UPDATES, TASKS, RATE = 3000, 4, 5e-3
TEST_ENVIRONMENTS = 16
RATES, STEPS = (0.001, 0.003, 0.01, 0.03), 200


def rk4(field: Any, start: jax.Array) -> jax.Array:
    """`[trajectories, LENGTH, 2]` from `[trajectories, 2]`, the start left out."""

    def step(x: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
        a = field(x)
        b = field(x + STEP / 2 * a)
        c = field(x + STEP / 2 * b)
        d = field(x + STEP * c)
        x = x + STEP / 6 * (a + 2 * b + 2 * c + d)
        return x, x

    return jnp.moveaxis(jax.lax.scan(step, start, length=LENGTH)[1], 0, 1)


def true_field(coefficients: jax.Array) -> Any:
    """The right side with `[α, β, γ, δ]`."""
    a, b, c, d = coefficients

    def field(x: jax.Array) -> jax.Array:
        prey, predator = x[..., 0], x[..., 1]
        return jnp.stack(
            [a * prey - b * prey * predator, d * prey * predator - c * predator], axis=-1
        )

    return field


def sample(key: jax.Array) -> mj.Episode:
    """An environment: `x` where trajectories start, `y` the trajectories."""
    of_environment, of_starts = jax.random.split(key)
    coefficients = jax.random.uniform(of_environment, (4,), minval=0.4, maxval=1.1)
    starts = jax.random.uniform(of_starts, (SUPPORT + QUERY, 2), minval=1.0, maxval=2.5)
    paths = rk4(true_field(coefficients), starts)
    return mj.Episode(
        mj.Batch(starts[:SUPPORT], paths[:SUPPORT]), mj.Batch(starts[SUPPORT:], paths[SUPPORT:])
    )


def predict(weights: Any, x: jax.Array) -> jax.Array:
    """Trajectories of the network's field, which sees the context beside the state."""

    def field(state: jax.Array) -> jax.Array:
        context = jnp.broadcast_to(weights["context"], (*state.shape[:-1], CONTEXT))
        return network(weights["net"], jnp.concatenate([state, context], axis=-1))

    return rk4(field, x)


def loss(weights: Any, meta: Any, batch: Any, key: Any) -> Any:
    """The squared error over that of predicting zero."""
    return jnp.sum((predict(weights, batch.x) - batch.y) ** 2) / jnp.sum(batch.y**2)


def fine_tuned(params: Any, episode: mj.Episode, rate: jax.Array) -> jax.Array:
    """The error on the query set after 0 … STEPS steps of Adam on the support set."""
    optimizer = optax.adam(rate)

    def step(carry: Any, _: Any) -> Any:
        weights, state = carry
        slopes = jax.grad(loss)(weights, None, episode.support, None)
        changes, state = optimizer.update(slopes, state)
        found = jnp.sqrt(loss(weights, None, episode.query, None))
        return (optax.apply_updates(weights, changes), state), found

    return jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS + 1)[1]


def by_least_squares(episode: mj.Episode) -> jax.Array:
    """The error of the four coefficients that Gauss-Newton finds from the support set."""

    def residual(coefficients: jax.Array) -> jax.Array:
        return (rk4(true_field(coefficients), episode.support.x) - episode.support.y).ravel()

    def step(coefficients: jax.Array, _: Any) -> Any:
        jacobian = jax.jacfwd(residual)(coefficients)
        matrix = jacobian.T @ jacobian + 1e-3 * jnp.eye(4)
        return coefficients - jnp.linalg.solve(matrix, jacobian.T @ residual(coefficients)), None

    found, _ = jax.lax.scan(step, jnp.full(4, 0.75), length=30)
    error = jnp.sum((rk4(true_field(found), episode.query.x) - episode.query.y) ** 2)
    return jnp.sqrt(error / jnp.sum(episode.query.y**2))


def measure(seed: int) -> dict[str, float]:
    """The mean error of each method on the test environments."""
    net = dense(np.random.default_rng(seed), (2 + CONTEXT, 32, 32, 2), 0.5)
    params: dict[str, Any] = {"net": net, "context": jnp.zeros(CONTEXT)}
    learner = of_a_context(loss, INNER_STEPS, params["context"])
    meta = train(
        learner, learner.init(params), sample, updates=UPDATES, tasks=TASKS, rate=RATE, seed=seed
    )
    together = mj.bilevel(loss, loss, 0.0, 0)  # no steps: one network for all environments
    joint = train(
        together, together.init(params), sample, updates=UPDATES, tasks=TASKS, rate=RATE, seed=seed
    )
    tests = jax.vmap(sample)(jax.random.split(jax.random.key(1000 + seed), TEST_ENVIRONMENTS))

    @jax.jit
    def adapted(episode: mj.Episode) -> jax.Array:
        fast = learner.adapt(meta, episode.support)
        return jnp.sqrt(loss(fast, None, episode.query, None))

    def mean(function: Any) -> float:
        return float(jax.jit(jax.vmap(function))(tests).mean())

    @jax.jit
    def by_rate_and_step(params: Any) -> jax.Array:
        def one(rate: jax.Array) -> jax.Array:
            return jax.vmap(lambda episode: fine_tuned(params, episode, rate))(tests).mean(0)

        return jax.lax.map(one, jnp.asarray(RATES))

    n = INNER_STEPS
    of_joint, of_scratch = by_rate_and_step(joint["params"]), by_rate_and_step(params)
    return {
        f"meta-learned context, {INNER_STEPS} steps": mean(adapted),
        "one network for all, no steps": float(of_joint[0, 0]),
        f"the same, fine-tuned, {n} steps, best rate": float(of_joint[:, n].min()),
        f"the same, fine-tuned, best rate, best of {STEPS} steps": float(jnp.nanmin(of_joint)),
        f"from scratch, best rate, best of {STEPS} steps": float(jnp.nanmin(of_scratch)),
        "least squares for the coefficients of the known equation": mean(by_least_squares),
    }


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.lotka_volterra",
            __doc__,
            measure,
            "relative error",
            updates=UPDATES,
            tasks=TASKS,
            inner_steps=INNER_STEPS,
            test_environments=TEST_ENVIRONMENTS,
            rates=RATES,
            steps_of_baselines=STEPS,
        )
    )
