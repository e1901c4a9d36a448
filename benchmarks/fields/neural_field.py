"""A neural field: colours of 64x64 photographs by a SIREN, from three gradient steps.

In two ways: all weights adapt, each at a learned rate (Meta-SGD, Li et al. 2017), or a context
vector of 128 alone, which shifts the hidden layers by learned linear maps, as CAVIA and functa
(Dupont et al., ICML 2022) have it, at learned rates too. Pictures are patches of the two
photographs in scikit-learn: the network learns on one, and is tested on the other.
Claim: the PSNR of both after 3 steps against the same network trained on each test picture alone,
or first on all training pictures together, by Adam at the best of several rates, chosen on the test
pictures.
Repeat: `python -m benchmarks.fields.neural_field`.
"""

import itertools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_sample_image

import maml_jax as mj
from benchmarks.fields import of_a_context, report, train

SIDE, WIDTH, HIDDEN, CONTEXT, FREQUENCY = 64, 64, 3, 128, 30.0
INNER_STEPS, PIXELS = 3, 256
UPDATES, TASKS, RATE, TEST_PICTURES = 1200, 4, 1e-3, 8
RATES, STEPS = (3e-4, 1e-3, 3e-3), 60
GRID = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1.0, 1, SIDE)] * 2), axis=-1).reshape(-1, 2)


def photograph(name: str) -> jax.Array:
    """At half its resolution, in 0 to 1, `[height, width, 3]`."""
    picture = load_sample_image(name).astype(np.float32) / 255
    height, width = (n // 2 * 2 for n in picture.shape[:2])
    return jnp.asarray(
        picture[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    )


def patch(picture: jax.Array, key: jax.Array) -> jax.Array:
    """The colours of a random square patch, `[SIDE², 3]`."""
    corner = [
        jax.random.randint(k, (), 0, n - SIDE + 1)
        for k, n in zip(jax.random.split(key), picture.shape[:2], strict=True)
    ]
    return jax.lax.dynamic_slice(picture, (*corner, 0), (SIDE, SIDE, 3)).reshape(-1, 3)


def initial(seed: int) -> dict[str, Any]:
    """SIREN's weights (Sitzmann et al., NeurIPS 2020), maps of the context, and the context."""
    rng = np.random.default_rng(seed)

    def uniform(bound: float, *shape: int) -> jax.Array:
        return jnp.asarray(rng.uniform(-bound, bound, shape), jnp.float32)

    sizes = (2, *[WIDTH] * HIDDEN, 3)
    layers = []
    for i, (n, m) in enumerate(itertools.pairwise(sizes)):
        bound = 1 / n if i == 0 else (6 / n) ** 0.5 / FREQUENCY
        layers.append({"kernel": uniform(bound, n, m), "bias": uniform(n**-0.5, m)})
    maps = [uniform(CONTEXT**-0.5 / FREQUENCY, CONTEXT, WIDTH) for _ in range(HIDDEN)]
    return {"net": {"layers": layers, "maps": maps}, "context": jnp.zeros(CONTEXT)}


def field(weights: Any, x: jax.Array) -> jax.Array:
    """The colours at the coordinates `x`, `[points, 3]`."""
    *hidden, last = weights["net"]["layers"]
    for layer, shift in zip(hidden, weights["net"]["maps"], strict=True):
        x = x @ layer["kernel"] + layer["bias"] + weights["context"] @ shift
        x = jnp.sin(FREQUENCY * x)
    return x @ last["kernel"] + last["bias"] + 0.5


def error(weights: Any, meta: Any, batch: Any, key: Any) -> Any:
    """The mean squared error; with a key, that at random points."""
    x, y = batch.x, batch.y
    if key is not None:
        chosen = jax.random.randint(key, (PIXELS,), 0, len(x))
        x, y = x[chosen], y[chosen]
    return jnp.mean((field(weights, x) - y) ** 2)


def psnr(weights: Any, colours: jax.Array) -> jax.Array:
    """In decibels."""
    return -10 * jnp.log10(jnp.mean((field(weights, GRID) - colours) ** 2))


def fitted(params: Any, colours: jax.Array, rate: jax.Array) -> jax.Array:
    """The PSNR after 0 … STEPS steps of Adam on all weights and all pixels."""
    optimizer, batch = optax.adam(rate), mj.Batch(GRID, colours)

    def step(carry: Any, _: Any) -> Any:
        weights, state = carry
        value, slopes = jax.value_and_grad(error)(weights, None, batch, None)
        changes, state = optimizer.update(slopes, state)
        return (optax.apply_updates(weights, changes), state), -10 * jnp.log10(value)

    return jax.lax.scan(step, (params, optimizer.init(params)), length=STEPS + 1)[1]


def measure(seed: int) -> dict[str, float]:
    """The mean PSNR of each method on the test pictures."""
    learned, unseen = photograph("china.jpg"), photograph("flower.jpg")

    def sample(key: jax.Array) -> mj.Episode:
        batch = mj.Batch(GRID, patch(learned, key))
        return mj.Episode(batch, batch)

    params = initial(seed)
    learners = {
        "meta-learned weights and rates, 3 steps": mj.bilevel(
            error,
            error,
            lambda hyper: hyper,
            INNER_STEPS,
            hyper=jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01), params),
        ),
        "meta-learned context and rates, 3 steps": of_a_context(
            error, INNER_STEPS, params["context"]
        ),
    }
    how: Any = {"updates": UPDATES, "tasks": TASKS, "rate": RATE, "seed": seed}
    together = mj.bilevel(error, error, 0.0, 0)
    joint = train(together, together.init(params), sample, **how)
    keys = jax.random.split(jax.random.key(1000 + seed), TEST_PICTURES)
    tests = jnp.stack([patch(unseen, key) for key in keys])

    def mean(function: Any) -> float:
        return float(jax.jit(lambda tests: jax.lax.map(function, tests))(tests).mean())

    @jax.jit
    def by_rate_and_step(params: Any) -> jax.Array:
        def one(rate: jax.Array) -> jax.Array:
            return jax.lax.map(lambda colours: fitted(params, colours, rate), tests).mean(0)

        return jax.lax.map(one, jnp.asarray(RATES))

    found = {}
    for name, learner in learners.items():
        meta = train(learner, learner.init(params), sample, **how)

        def adapted(colours: jax.Array, learner: Any = learner, meta: Any = meta) -> jax.Array:
            return psnr(learner.adapt(meta, mj.Batch(GRID, colours)), colours)

        found[name] = mean(adapted)
    for name, start in {"from scratch": params, "trained on all together": joint["params"]}.items():
        values = by_rate_and_step(start)
        for steps in (INNER_STEPS, STEPS):
            found[f"{name}, {steps} steps, best rate"] = float(jnp.nanmax(values[:, steps]))
    variance = mean(lambda c: -10 * jnp.log10(jnp.mean((c - c.mean(0)) ** 2)))
    return {**found, "the mean colour": variance}


if __name__ == "__main__":
    sys.exit(
        report(
            "benchmarks.fields.neural_field",
            __doc__,
            measure,
            "dB PSNR",
            updates=UPDATES,
            tasks=TASKS,
            outer_rate=RATE,
            inner_steps=INNER_STEPS,
            test_pictures=TEST_PICTURES,
            rates=RATES,
            steps_of_baselines=STEPS,
        )
    )
