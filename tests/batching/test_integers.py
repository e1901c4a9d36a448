"""Inputs that are integers stay integers."""

import jax
import jax.numpy as jnp
import numpy as np

import maml_jax as mj

FIRST = 1_700_000_001  # a time in epoch seconds: float32 has only every 128th integer there


def test_integer_inputs_above_2_to_the_24_give_the_right_loss():
    """The network sees the last digit of its input, which float32 would not keep."""
    rng = np.random.default_rng(0)
    x = (FIRST + rng.integers(0, 10**6, (4, 2, 6))).astype(np.int32)
    y = x % 10 / 10.0
    params = {"slope": jnp.asarray(0.5), "offset": jnp.asarray(0.1)}

    def apply(params, x):
        return params["slope"] * (x % 10) + params["offset"]

    episodes = mj.Episode(*(mj.Batch(x[:, i], y[:, i]) for i in range(2)))
    learner = mj.maml(apply, 0.01, loss=mj.losses.mean_squared_error)
    (loss, _), _ = jax.jit(mj.over_tasks(learner))(params, jax.tree.map(jnp.asarray, episodes))

    losses = []
    for (x_support, x_query), (y_support, y_query) in zip(x % 10, y, strict=True):
        error = 0.5 * x_support + 0.1 - y_support  # the loss is the mean of its square
        slope = 0.5 - 0.01 * 2 * np.mean(error * x_support)
        offset = 0.1 - 0.01 * 2 * np.mean(error)
        losses.append(np.mean((slope * x_query + offset - y_query) ** 2))
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-6)
