"""The article's program in JAX, its steps in a single `lax.scan`, and its accuracy."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import maml_jax as mj
from maml_jax.types import Apply, Params
from parity.article.digits import Digits
from parity.article.settings import BATCH, CLASSES, LEARNING_RATE


def run_jax(
    weights: Params,
    digits: Digits,
    order: np.ndarray,
    after: Sequence[int],
    *,
    double_softmax: bool = True,
) -> Iterator[Params]:
    """`run_torch` with `mj.models.ArticleCNN`; between two of `after` all steps are one `scan`.

    Arguments and results are those of `run_torch`, but `weights` have Flax's layout.
    """
    double = jax.tree.leaves(weights)[0].dtype == np.float64
    images, labels = jnp.asarray(digits.x), jnp.asarray(digits.y)
    done = 0
    for steps in after:
        # Not around the `yield`: the caller has a precision of its own.
        with jax.enable_x64(double):
            indices = jnp.asarray(order[done:steps], jnp.int32)
            updated = _steps(double_softmax)(weights, images, labels, indices)
            weights = jax.tree.map(np.asarray, updated)
        done = steps
        yield weights


@functools.cache
def _apply() -> Apply:
    _, apply = mj.from_flax(mj.models.ArticleCNN(CLASSES, rngs=nnx.Rngs(0)))
    return lambda weights, x: apply(weights, x[..., None])


@functools.cache
def _steps(double_softmax: bool) -> Callable[..., Params]:
    apply = _apply()

    @jax.jit
    def run(weights: Params, images: jax.Array, labels: jax.Array, order: jax.Array) -> Params:
        dtype = jax.tree.leaves(weights)[0].dtype

        def objective(weights: Params, indices: jax.Array) -> jax.Array:
            logits = apply(weights, images[indices].astype(dtype))
            return jax_loss(logits, labels[indices], double_softmax=double_softmax)

        def step(weights: Params, indices: jax.Array) -> tuple[Params, None]:
            gradient = jax.grad(objective)(weights, indices)
            return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, weights, gradient), None

        return jax.lax.scan(step, weights, order)[0]

    return run


def jax_loss(logits: jax.Array, labels: jax.Array, *, double_softmax: bool = True) -> jax.Array:
    r"""The article's loss $-\frac1n\sum_i \log\mathrm{softmax}(\mathrm{softmax}(z_i))_{y_i}$.

    Args:
      logits: `[examples, classes]`.
      labels: `[examples]`, integers.
      double_softmax: False leaves the inner softmax out; the loss is then cross-entropy.
    """
    outputs = jax.nn.softmax(logits) if double_softmax else logits
    return mj.losses.softmax_cross_entropy(outputs, labels)


def accuracy(weights: Params, digits: Digits) -> float:
    """The fraction of `digits` classified correctly by weights in Flax's layout and float32."""
    with jax.enable_x64(False):
        predictions = _predictions()(weights, jnp.asarray(digits.x))
    return float(np.mean(np.asarray(predictions) == digits.y))


@functools.cache
def _predictions() -> Callable[[Params, jax.Array], jax.Array]:
    apply = _apply()

    @jax.jit
    def predict(weights: Params, images: jax.Array) -> jax.Array:
        return jax.lax.map(lambda x: apply(weights, x[None])[0].argmax(), images, batch_size=BATCH)

    return predict
