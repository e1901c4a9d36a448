r"""How the inner gradient is differentiated: the second of the three choices.

An inner step uses $g(\varphi, c) = \nabla_\varphi L(\varphi, c)$, with fast weights $\varphi$ and a
context $c$ (the support set, and weights that do not adapt). The meta-gradient needs the
derivative of $g$, and there are three ways to have it:

- `"reverse"`: reverse mode over reverse mode. Exact; stores the activations of every inner step.
- `"mixed"`: forward mode over reverse mode. Exact; stores only $\varphi$ and $c$.
- `"first_order"`: the derivative is taken to be zero (Finn et al. 2017, §5.2; Nichol et al. 2018).
"""

from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from maml_jax.core.trees import combine
from maml_jax.errors import check_choice
from maml_jax.kernels.jax_internals import SymbolicZero, hoist
from maml_jax.types import Scalar

Differentiate: TypeAlias = Literal["mixed", "reverse", "first_order"]


@runtime_checkable
class ContextLoss(Protocol):
    """The loss of an inner step."""

    def __call__(self, fast: PyTree[Array], context: PyTree[Array], /) -> Scalar:
        """The loss at the fast weights, given whatever else it depends on."""


@runtime_checkable
class InnerGradient(Protocol):
    """The gradient of a `ContextLoss`."""

    def __call__(self, fast: PyTree[Array], context: PyTree[Array], /) -> PyTree[Array]:
        """The gradient in `fast`, a pytree like it."""


def inner_gradient(loss: ContextLoss, differentiate: Differentiate) -> InnerGradient:
    """The gradient of `loss(fast, context)` in `fast`, to be differentiated once more as named."""
    gradient = jax.grad(loss)
    match differentiate:
        case "reverse":
            return gradient
        case "first_order":
            return lambda fast, context: lax.stop_gradient(gradient(fast, context))
        case "mixed":
            return _mixed(loss)
    return check_choice("differentiate", differentiate, get_args(Differentiate))


def _mixed(loss: ContextLoss) -> InnerGradient:
    r"""The gradient with its vector-Jacobian product computed forward over reverse.

    By the symmetry of second derivatives, for a cotangent $u$ of $g$,

    $$u^\top\!\left(\tfrac{\partial g}{\partial\varphi}, \tfrac{\partial g}{\partial c}\right)
      = \left.\tfrac{d}{d\epsilon}\right|_0 \nabla_{(\varphi, c)} L(\varphi + \epsilon u, c),$$

    one forward-mode derivative of one gradient, which yields the Hessian product and every cross
    term at once. Nothing but $(\varphi, c)$ outlives the forward pass (MixFlow-MG, Kemaev et
    al. 2025).
    """

    def gradient(fast: Any, context: Any) -> Any:
        # What the model or the loss closes over may be traced, and differentiated, by the caller.
        hoisted, values = hoist(loss, fast, context)
        whole = _without_closure(lambda fast, context: hoisted(context[1], fast, context[0]))
        return whole(fast, (context, values))

    return gradient


def _without_closure(loss: ContextLoss) -> InnerGradient:
    """`_mixed` of a loss that closes over nothing traced."""

    @jax.custom_vjp
    def gradient(fast: Any, context: Any) -> Any:
        return jax.grad(loss)(fast, context)

    def forward(fast: Any, context: Any) -> Any:
        # Only here is it known which inputs are differentiated at all. The others (images, labels)
        # stay out of the gradient in `backward`; the residuals' structure says which they are.
        perturbed = jax.tree.map(lambda leaf: leaf.perturbed, context)
        fast, context = jax.tree.map(lambda leaf: leaf.value, (fast, context))
        active = jax.tree.map(lambda leaf, yes: leaf if yes else None, context, perturbed)
        constant = jax.tree.map(lambda leaf, yes: None if yes else leaf, context, perturbed)
        return jax.grad(loss)(fast, context), (fast, active, constant)

    def backward(residuals: Any, cotangent: Any) -> Any:
        fast, active, constant = residuals
        gradients = jax.grad(lambda fast, active: loss(fast, combine(active, constant)), (0, 1))
        _, products = jax.jvp(lambda fast: gradients(fast, active), (fast,), (_dense(cotangent),))
        return products

    gradient.defvjp(forward, backward, symbolic_zeros=True)
    return gradient


def _dense(cotangent: Any) -> Any:
    """The cotangent with arrays of zeros in place of symbolic ones."""
    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, SymbolicZero) else leaf,
        cotangent,
    )
