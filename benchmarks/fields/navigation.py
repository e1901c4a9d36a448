"""Reinforcement learning: a point goes to an unknown goal, by policy-gradient steps inside.

The task of the MAML paper (Finn et al. 2017, §5.3): the goal is drawn from the unit square around
the start, the observation is the position alone, an action moves by at most 0.1 an axis, the
reward is minus the squared distance. The inner step sees 20 trajectories of the policy it starts
from. Both objectives are DiCE's (Foerster et al., ICML 2018), whose derivatives of every order are
the policy gradient's; the `key` of `mj.bilevel` draws new trajectories in each step, on the device.
Episodes have 50 steps of time instead of 100 and the outer update is Adam instead of TRPO, so
returns do not compare with the paper's.
Claim: the return after 0 to 3 steps of the meta-learned policy and of one trained on all goals
together, at the best of several inner rates, chosen on the test goals, both from 20 trajectories.
Repeat: `python -m benchmarks.fields.navigation`.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import maml_jax as mj
from benchmarks.fields import dense, network, report, train

TIME, TRAJECTORIES, NOISE, DISCOUNT = 50, 20, 0.05, 0.99
UPDATES, TASKS, RATE, TEST_GOALS = 200, 8, 2e-3, 40
RATES = (0.03, 0.1, 0.3, 1.0)
LARGEST_MOVE = 0.1


def rollout(weights: Any, goal: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`(log π of each action, reward)`, each `[time, trajectories]`."""

    def step(position: jax.Array, key: jax.Array) -> Any:
        mean = LARGEST_MOVE * jnp.tanh(network(weights, position))
        noise = jax.random.normal(key, position.shape)
        # What the policy draws is data: the gradient goes through its probability alone.
        action = jax.lax.stop_gradient(mean + NOISE * noise)
        log_probability = -0.5 * (((action - mean) / NOISE) ** 2).sum(-1)
        position = position + jnp.clip(action, -LARGEST_MOVE, LARGEST_MOVE)
        return position, (log_probability, -((position - goal) ** 2).sum(-1))

    start = jnp.zeros((TRAJECTORIES, 2))
    return jax.lax.scan(step, start, jax.random.split(key, TIME))[1]


def magic_box(x: jax.Array) -> jax.Array:
    """1, whose derivative is that of `x`."""
    return jnp.exp(x - jax.lax.stop_gradient(x))


def objective(weights: Any, meta: Any, goal: jax.Array, key: jax.Array) -> Any:
    """Minus the discounted return by DiCE, with the mean reward at each time as the baseline."""
    log_probability, reward = rollout(weights, goal, key)
    discount = DISCOUNT ** jnp.arange(TIME)[:, None]
    past = jnp.cumsum(log_probability, axis=0)  # of the actions that a reward depends on
    gained = (discount * (reward - reward.mean(1, keepdims=True)) * magic_box(past)).sum(0).mean()
    value = (discount * reward).sum(0).mean()
    # The baseline changes no expectation of the gradient, and here no value either.
    return -(gained - jax.lax.stop_gradient(gained) + jax.lax.stop_gradient(value))


def returns(weights: Any, goal: jax.Array, key: jax.Array) -> jax.Array:
    """The mean undiscounted return of 20 other trajectories."""
    return rollout(weights, goal, key)[1].sum(0).mean()


def sample(key: jax.Array) -> mj.Episode:
    """A goal."""
    goal = jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5)
    return mj.Episode(goal, goal)


def measure(seed: int) -> dict[str, float]:
    """The mean return of each method on the test goals."""
    params = dense(np.random.default_rng(seed), (2, 64, 64, 2), 0.5)
    learner = mj.bilevel(
        objective, objective, lambda hyper: hyper["rate"], 1, hyper={"rate": jnp.asarray(0.1)}
    )
    together = mj.bilevel(objective, objective, 0.0, 0)
    meta = train(
        learner, learner.init(params), sample, updates=UPDATES, tasks=TASKS, rate=RATE, seed=seed
    )
    joint = train(
        together, together.init(params), sample, updates=UPDATES, tasks=TASKS, rate=RATE, seed=seed
    )
    keys = jax.random.split(jax.random.key(1000 + seed), 2 * TEST_GOALS)
    goals = jax.vmap(lambda key: sample(key).support)(keys[:TEST_GOALS])

    def after(meta: Any, steps: int, rate: float) -> float:
        changed = {**meta, "hyper": {"rate": jnp.asarray(rate)}}

        def one(goal: jax.Array, key: jax.Array) -> jax.Array:
            inside, outside = jax.random.split(key)
            return returns(learner.adapt(changed, goal, steps, key=inside), goal, outside)

        return float(jax.jit(jax.vmap(one))(goals, keys[TEST_GOALS:]).mean())

    learned = float(meta["hyper"]["rate"])
    found = {f"meta-learned, {n} steps": after(meta, n, learned) for n in range(4)}
    for steps in range(4):
        found[f"trained on all goals, {steps} steps, best rate"] = max(
            after(joint, steps, rate) for rate in RATES
        )
    start = {"params": params}
    found["from scratch, 3 steps, best rate"] = max(after(start, 3, rate) for rate in RATES)
    return found


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.navigation",
            __doc__,
            measure,
            "return",
            updates=UPDATES,
            tasks=TASKS,
            outer_rate=RATE,
            test_goals=TEST_GOALS,
            rates=RATES,
            time=TIME,
        )
    )
