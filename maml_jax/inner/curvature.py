"""Gradients multiplied along each axis by learned matrices."""

import math

import jax
import jax.numpy as jnp
import optax

from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, ParamFilter, State, StepNumber
from maml_jax.core.trees import by_path, path_name
from maml_jax.inner.descent import descent
from maml_jax.types import Batch, Meta, Params, Scalar


def curvature(optimizer: optax.GradientTransformation, adapts: Adapts | None = None) -> InnerRule:
    r"""`descent` along $\mathcal G \times_1 M_o \times_2 M_i \times_3 M_f$ for each gradient G.

    A convolution's gradient `[…, in, out]` is taken as `[positions, in, out]`, and each axis has
    its square matrix, the identity at first; a dense layer has the last two, a bias the last. The
    meta-parameters are `{"params": weights, "curvature": {path: {axis: matrix}}}`.
    """
    selected = ParamFilter(adapts)
    base = descent(optimizer, adapts)

    def init(params: Params) -> Meta:
        fast, _ = selected.split(selected.check(params))
        matrices = {
            path: {axis: jnp.eye(n, dtype=leaf.dtype) for axis, n in _axes(leaf.shape).items()}
            for path, leaf in by_path(fast).items()
        }
        return {"params": params, "curvature": matrices}

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        return base.start(meta["params"], support, progress)

    def update(
        meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        preconditioned = jax.tree.map_with_path(
            lambda path, g: _multiply(g, meta["curvature"][path_name(path)]), gradient
        )
        return base.update(meta["params"], preconditioned, state, fast, step)

    return InnerRule(init, start, base.weights, update, ("params", "curvature"))


def _axes(shape: tuple[int, ...]) -> dict[str, int]:
    *positions, inputs, outputs = (1, 1, *shape) if len(shape) < 2 else (1, *shape)
    outputs = outputs if shape else 1
    sizes = {"positions": math.prod(positions), "inputs": inputs, "outputs": outputs}
    kept = {0: 1, 1: 1, 2: 2}.get(len(shape), 3)
    return dict(list(sizes.items())[-kept:])


def _multiply(gradient: jax.Array, matrices: dict[str, jax.Array]) -> jax.Array:
    sizes = _axes(gradient.shape)
    product = gradient.reshape(tuple(sizes.values()))
    for i, axis in enumerate(sizes):
        product = jnp.moveaxis(jnp.tensordot(matrices[axis], product, axes=(1, i)), 0, i)
    return product.reshape(gradient.shape)
