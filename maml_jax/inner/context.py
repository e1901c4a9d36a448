"""Nothing adapts but a context vector that shifts the network's weights."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, ParamFilter, State, StepNumber
from maml_jax.core.trees import by_path, path_name
from maml_jax.errors import InputError
from maml_jax.types import Batch, Meta, Params, Scalar


def context(
    optimizer: optax.GradientTransformation, size: int, adapts: Adapts | None = None, seed: int = 0
) -> InnerRule:
    r"""$w_l = \theta_l + c^\top P_l$: the context $c$, zero at first, adapts; $\theta, P$ do not.

    Shifting the bias of a dense layer is the same as giving $c$ to the layer as further inputs,
    whose kernel is $P$; shifting batch norm's scales and biases is FiLM. The meta-parameters are
    `{"params": weights, "projections": {path: [size, …]}}`.

    Args:
      optimizer: what moves the context.
      size: the length of the context.
      adapts: which weights it shifts, as a predicate on paths; None: all vectors (biases, scales).
      seed: of the projections' start, uniform within ±1/√size like PyTorch's dense layers.
    """
    selected = ParamFilter(adapts)

    def init(params: Params) -> Meta:
        fast = by_path(selected.split(selected.check(params))[0])
        shifted = {p: leaf for p, leaf in fast.items() if adapts is not None or leaf.ndim == 1}
        if not shifted:
            raise InputError("`adapts` was None, and there is no vector among the weights.")
        key, bound = jax.random.key(seed), size**-0.5
        projections = {
            path: jax.random.uniform(
                jax.random.fold_in(key, i), (size, *leaf.shape), leaf.dtype, -bound, bound
            )
            for i, (path, leaf) in enumerate(shifted.items())
        }
        return {"params": params, "projections": projections}

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        del support, progress
        zero = jnp.zeros(size, next(iter(meta["projections"].values())).dtype)
        return zero, (meta["params"], meta["projections"]), optimizer.init(zero)

    def weights(fast: Fast, frozen: Frozen, step: StepNumber) -> Params:
        del step
        params, projections = frozen

        def shift(path: Any, leaf: Array) -> Array:
            name = path_name(path)
            return leaf + jnp.tensordot(fast, projections[name], 1) if name in projections else leaf

        return jax.tree.map_with_path(shift, params)

    def update(
        meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        del meta, step
        updates, state = optimizer.update(gradient, state, fast)
        return optax.apply_updates(fast, updates), state

    return InnerRule(init, start, weights, update, ("params", "projections"))
