"""Small problems that many tests share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import maml_jax as mj


def all_but_slow(values, *quick):
    """The values as parameters of a test; all but the `quick` ones are slow.

    Where a test compiles for seconds a value, those that differ most are enough for every change.
    """

    def slow(value):
        several = value if isinstance(value, tuple) else (value,)
        return pytest.param(*several, marks=pytest.mark.slow)

    return [value if value in quick else slow(value) for value in values]


def classification(tasks=None, ways=3, shots=2, queries=2, size=(6,), seed=0):
    """Random episodes; with `tasks`, a batch of them. Their precision is the one in force."""
    rng = np.random.default_rng(seed)
    lead = () if tasks is None else (tasks,)

    def batch(per_class):
        x = rng.random((*lead, ways * per_class, *size))
        y = np.broadcast_to(np.repeat(np.arange(ways), per_class), (*lead, ways * per_class))
        return mj.Batch(jnp.asarray(x), jnp.asarray(y, jnp.int32))

    return mj.Episode(batch(shots), batch(queries))


def perceptron(features=6, outputs=3, seed=0):
    """A small smooth network, `(params, apply)`: tanh has every derivative."""
    rng = np.random.default_rng(seed)
    params = {
        "body": {
            "kernel": jnp.asarray(rng.normal(size=(features, 5)) / features**0.5),
            "bias": jnp.asarray(rng.normal(size=5) / 10),
        },
        "norm": {
            "scale": jnp.asarray(1 + rng.normal(size=5) / 10),
            "bias": jnp.asarray(rng.normal(size=5) / 10),
        },
        "head": {
            "kernel": jnp.asarray(rng.normal(size=(5, outputs))),
            "bias": jnp.zeros(outputs),
        },
    }

    def apply(params, x):
        hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"])
        hidden = hidden * params["norm"]["scale"] + params["norm"]["bias"]
        return hidden @ params["head"]["kernel"] + params["head"]["bias"]

    return params, apply


def conv4(downsample="stride", filters=8, ways=3, seed=0):
    return mj.from_flax(mj.models.Conv4(ways, 1, filters, downsample, 28, rngs=nnx.Rngs(seed)))


def distance(a, b):
    """‖a−b‖/‖b‖ of two pytrees as vectors."""
    a, b = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(t)]) for t in (a, b))
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


class Compilations:
    """Counts what XLA compiles while it is on."""

    def __enter__(self):
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._note)
        return self

    def __exit__(self, *_):
        jax.monitoring.unregister_event_duration_listener(self._note)

    def _note(self, event, *_, **__):
        self.count += event == "/jax/core/compile/backend_compile_duration"
