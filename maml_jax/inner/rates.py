"""Gradient steps at rates that are learned too: for each element, or for each layer and step."""

import logging
import re
from collections.abc import Container
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from maml_jax.core.rule import Adapts, Fast, Frozen, InnerRule, ParamFilter, State, StepNumber
from maml_jax.core.trees import by_path, path_name
from maml_jax.types import Batch, Meta, Params, Scalar

_log = logging.getLogger("maml_jax")


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
      norms: whether the weights of norms (`norm_paths`) are learned for each step.
      second_order_from: before this progress through training, gradients are constants.
      adapts: which of the other weights move; None: all.
    """

    def selected_but(of_norms: Container[str]) -> ParamFilter:
        """The filter of the weights that adapt, where those at these paths are the norms'."""
        if not norms and adapts is None:
            return ParamFilter(None)
        return ParamFilter(lambda path: (adapts is None or adapts(path)) and path not in of_norms)

    def init(params: Params) -> Meta:
        of_norms = norm_paths(params) if norms else frozenset()
        selected = selected_but(of_norms)
        selected.check(params)
        if norms and not of_norms:
            _log.warning(
                "`norm_per_step` is on, and no norm was found among the weights: a layer is one if "
                "its name contains 'norm' or 'bn', or if it holds a scale (or weight) and a bias "
                "that are vectors of one length; the paths are %s",
                ", ".join(by_path(params)),
            )
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
                if path in of_norms
            }
        return meta

    def start(meta: Meta, support: Batch, progress: Scalar) -> tuple[Fast, Frozen, State]:
        del support
        fast, rest = selected_but(meta.get("norms", {})).split(meta["params"])
        return fast, (rest, meta.get("norms", {})), progress

    def weights(fast: Fast, frozen: Frozen, step: StepNumber) -> Params:
        rest, of_steps = frozen
        step = jnp.minimum(step, inner_steps - 1)

        def now(path: Any, leaf: Array) -> Array:
            name = path_name(path)
            return jnp.asarray(of_steps[name])[step] if name in of_steps else leaf

        return jax.tree.map_with_path(now, selected_but(()).join(fast, rest))

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

    learned = {"rates": rates, "norms": norms}
    keys = ("params", *(name for name, on in learned.items() if on))
    return InnerRule(init, start, weights, update, keys)


_SCALES = {"scale", "weight", "gamma"}
_SHIFTS = {"bias", "beta"}


def norm_paths(params: Params) -> frozenset[str]:
    """The paths of the weights of norms, known by the name of a layer around them or by what it is.

    Names that contain "norm" or are "bn", "bn1" and so on are norms'. A layer of any name is one
    that holds nothing but a scale and a bias, or a scale alone, all vectors of one length.
    """
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for path, leaf in by_path(params).items():
        layer, _, name = path.rpartition("/")
        layers.setdefault(layer, {})[name] = jnp.shape(leaf)
    return frozenset(
        path
        for path in by_path(params)
        if _is_called_norm(path) or ("/" in path and _is_norm(layers[path.rpartition("/")[0]]))
    )


def _is_called_norm(path: str) -> bool:
    *layers, _ = path.lower().split("/")
    return any("norm" in layer or re.fullmatch(r"bn_?\d*", layer) for layer in layers)


def _is_norm(shapes: dict[str, tuple[int, ...]]) -> bool:
    names, (first, *others) = set(shapes), shapes.values()
    alike = len(first) == 1 and first[0] > 1 and all(shape == first for shape in others)
    with_both = names & _SCALES and names & _SHIFTS
    return alike and names <= _SCALES | _SHIFTS and bool(with_both or names <= {"scale", "gamma"})


def _step(fast: Any, gradient: Any, rates: dict[str, jax.Array]) -> Any:
    return jax.tree.map_with_path(
        lambda path, weight, slope: weight - rates[path_name(path)] * slope, fast, gradient
    )
