"""Optimisers whose updates have a derivative where a gradient is zero."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

_log = logging.getLogger("maml_jax")


def safe_at_zero(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer`, with a finite derivative of its update where a norm is taken of zeros.

    The norm of a gradient has no derivative at zero, so that clipping by it makes a NaN of the
    meta-gradient, though the update is then the gradient itself. There the derivative is taken a
    little beside zero; the update itself is what it was.
    """
    return made_safe(optimizer) if can_be_made_safe(optimizer) else optimizer


def can_be_made_safe(optimizer: optax.GradientTransformation) -> bool:
    """Whether the update has no derivative where the whole gradient is zero, and there alone.

    Where NaN comes of a single element that is zero, as of Adam without `eps_root`, the log says
    so: no value would be right.
    """
    of_an_element, of_all = (_nan_at(optimizer, jnp.asarray(g)) for g in ((1.0, 0.0), (0.0, 0.0)))
    if of_an_element:
        _log.warning(
            "`inner_optimizer` has no derivative where an element of a gradient is 0, and the "
            "meta-gradient is NaN there; give Adam an `eps_root` above 0, such as 1e-8"
        )
    return of_all and not of_an_element


def made_safe(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` whose update at zero has the derivative of a point beside it."""

    def update(
        gradient: PyTree[Array], state: Any, params: PyTree[Array] = None, **more: Any
    ) -> tuple[PyTree[Array], Any]:
        moved = jax.tree.map(
            lambda leaf: leaf + jnp.where(leaf == 0, _little(leaf), 0).astype(leaf.dtype), gradient
        )
        beside = optimizer.update(moved, state, params, **more)
        exact = optimizer.update(*lax.stop_gradient((gradient, state, params)), **more)
        return jax.tree.map(
            lambda value, slope: (
                _with_slope(value, slope)
                if jnp.issubdtype(jnp.result_type(slope), jnp.inexact)
                else slope
            ),
            exact,
            beside,
        )

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def _with_slope(value: Array, slope: Array) -> Array:
    """`value` with the derivative of `slope`, an array like it."""
    difference = slope - lax.stop_gradient(slope)
    return value + jnp.where(jnp.isfinite(difference), difference, 0)


def _little(leaf: Array) -> float:
    """So little that it is no gradient, and enough that its square is above zero."""
    return 2 * float(jnp.finfo(leaf.dtype).tiny) ** 0.5


def _nan_at(optimizer: optax.GradientTransformation, gradient: Array) -> bool:
    """Whether the update's derivative is not finite at this gradient of two weights."""
    params = {"weights": jnp.ones_like(gradient)}

    def updates(gradient: Array) -> Array:
        changes, _ = optimizer.update({"weights": gradient}, optimizer.init(params), params)
        return changes["weights"]

    try:
        with jax.ensure_compile_time_eval():  # the caller may be traced
            return not bool(jnp.isfinite(jax.jacrev(updates)(gradient)).all())
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # It is made for other weights than these, such as by their paths: nothing is known.
        return False
