"""Gradient steps at rates that are learned too: for each element, or for each layer and step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, ParamFilter, State, StepNumber
from maml_jax.core.trees import by_path, path_name
from maml_jax.types import Batch, Meta, Params, Scalar


def learned_rates(inner_lr: float, adapts: Adapts | None = None) -> InnerRule:
    r"""$\varphi \leftarrow \varphi - a\circ\nabla L_S(\varphi)$, $a$ learned for each element.

    The meta-parameters are `{"params": weights, "rates": {path: rates}}`; every rate starts at
    `inner_lr` and may become anything, also negative.
    """
    selected = ParamFilter(adapts)

    def init(params: Params) -> Meta:
        fast, _ = selected.split(selected.check(params))
        rates = {path: jnp.full_like(leaf, inner_lr) for path, leaf in by_path(fast).items()}
        return {"params": params, "rates": rates}

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        del support, progress
        return *selected.split(meta["params"]), ()

    def weights(fast: Fast, frozen: Frozen, step: StepNumber) -> Params:
        del step
        return selected.join(fast, frozen)

    def update(
        meta: Meta, gradient: Fast, state: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        del step
        return _step(fast, gradient, meta["rates"]), state

    return InnerRule(init, start, weights, update, ("params", "rates"))


def per_step(
    inner_lr: float,
    inner_steps: int,
    *,
    rates: bool,
    norms: bool,
    second_order_from: float,
    adapts: Adapts | None = None,
) -> InnerRule:
    r"""$\varphi_{k+1} = \varphi_k - \alpha_{l,k}\nabla_l L_S(\varphi_k)$: the rule of MAML++.

    The meta-parameters are `{"params": weights}` with, where switched on, `"rates"`: `{path: [K]}`,
    a rate for each array of weights and each step; and `"norms"`: `{path: [K, …]}`, batch norm's
    scales and biases for each step, which do not adapt. Those of step k serve the support set in
    step k and the query set after it. Steps beyond K use the last of them.

    Args:
      inner_lr: the rate, or where every rate starts.
      inner_steps: K, at least 1.
      rates: whether rates are learned.
      norms: whether weights whose path says "norm" are learned for each step.
      second_order_from: before this progress through training, gradients are constants.
      adapts: which of the other weights move; None: all.
    """

    def adapting(path: str) -> bool:
        return (adapts is None or adapts(path)) and not (norms and is_norm(path))

    selected = ParamFilter(adapting if norms or adapts else None)

    def init(params: Params) -> Meta:
        selected.check(params)
        meta = {"params": params}
        if rates:
            fast, _ = selected.split(params)
            meta["rates"] = {
                path: jnp.full(inner_steps, inner_lr, leaf.dtype)
                for path, leaf in by_path(fast).items()
            }
        if norms:
            meta["norms"] = {
                path: jnp.broadcast_to(leaf, (inner_steps, *leaf.shape))
                for path, leaf in by_path(params).items()
                if is_norm(path)
            }
        return meta

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        del support
        fast, rest = selected.split(meta["params"])
        return fast, (rest, meta.get("norms", {})), progress

    def weights(fast: Fast, frozen: Frozen, step: StepNumber) -> Params:
        rest, of_steps = frozen
        step = jnp.minimum(step, inner_steps - 1)

        def now(path: Any, leaf: Array) -> Array:
            name = path_name(path)
            return jnp.asarray(of_steps[name])[step] if name in of_steps else leaf

        return jax.tree.map_with_path(now, selected.join(fast, rest))

    def update(
        meta: Meta, gradient: Fast, progress: State, fast: Fast, step: StepNumber
    ) -> tuple[Fast, State]:
        exact = progress >= second_order_from
        constant = lax.stop_gradient(gradient)
        gradient = jax.tree.map(lambda g, c: jnp.where(exact, g, c), gradient, constant)
        if not rates:
            return jax.tree.map(lambda w, g: w - inner_lr * g, fast, gradient), progress
        step = jnp.minimum(step, inner_steps - 1)
        now = {path: jnp.asarray(of_steps)[step] for path, of_steps in meta["rates"].items()}
        return _step(fast, gradient, now), progress

    return InnerRule(init, start, weights, update)


def is_norm(path: str) -> bool:
    """Whether a weight belongs to a layer that is called a norm, like `blocks/0/norm/scale`."""
    return any("norm" in name.lower() for name in path.split("/")[:-1])


def _step(fast: Any, gradient: Any, rates: dict[str, jax.Array]) -> Any:
    return jax.tree.map_with_path(
        lambda path, weight, slope: weight - rates[path_name(path)] * slope, fast, gradient
    )
