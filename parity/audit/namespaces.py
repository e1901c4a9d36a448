"""The names that the expressions of an operation and of a transformation may use."""

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.audit.head import TEXT
from parity.audit.maml_text import MAML
from parity.audit.operations import Operation
from parity.audit.operations.operation import evaluate
from parity.audit.primitives import Array
from parity.audit.transformations import Transformation

FIRST = "grad(f, every)"


def dot(a: Any, b: Any) -> Any:
    """The sum of products of all elements."""
    return sum((x * y).sum() for x, y in zip(a, b, strict=True))


def torch_names() -> dict[str, Any]:
    """What expressions for PyTorch know."""
    import torch
    import torch.nn.functional as F  # noqa: N812

    func = torch.func
    names = {"torch": torch, "F": F, "np": np, "grad": func.grad, "jvp": func.jvp}
    return _with_maml(names | {"vmap": func.vmap, "dot": dot})


def compiled_names(backend: str = "aot_eager") -> dict[str, Any]:
    """Those of `autograd_names`, with `compiled`, which is put around the first grad."""
    import torch

    def compiled(gradient: Callable[..., Any]) -> Callable[..., Any]:
        torch._dynamo.reset()
        return torch.compile(gradient, backend=backend)

    return autograd_names() | {"compiled": compiled}


def autograd_names() -> dict[str, Any]:
    """The same with `torch.autograd.grad` as `grad`, and neither `jvp` nor `vmap`."""
    return torch_names() | {"grad": _autograd_grad}


def jax_names() -> dict[str, Any]:
    """What expressions for JAX know, and for this library."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen
    from jax import lax

    import maml_jax as mj
    from maml_jax.models import layers

    names = {"jax": jax, "jnp": jnp, "lax": lax, "linen": linen, "optax": optax, "np": np}
    names |= {"mj": mj, "mj_layers": layers, "mixed": _mixed, "own_maml": _own_maml}
    return _with_maml(names | {"grad": jax.grad, "jvp": jax.jvp, "vmap": jax.vmap, "dot": dot})


def _with_maml(names: dict[str, Any]) -> dict[str, Any]:
    exec(MAML, names)  # noqa: S102 - the text of this package, which reproducers print
    return names


def scalar_function(
    operation: Operation,
    stack: str,
    names: dict[str, Any],
    wrap: Callable[[Callable[..., Array]], Callable[..., Array]] | None = None,
) -> Callable[..., Array]:
    """What is differentiated: the operation, or what `wrap` makes of it, then the head."""
    call = operation.function(stack, names)
    call = wrap(call) if wrap else call
    head = evaluate(f"lambda y: {TEXT[stack]}", names)
    return lambda *arguments: head(call(*arguments))


def transformed(
    transformation: Transformation,
    f: Callable[..., Array],
    inputs: int,
    names: dict[str, Any],
) -> Callable[..., Any]:
    """The derivative as a function of `(p, u, v, t)`."""
    expression = transformation.expression
    if "compiled" in names:
        expression = expression.replace(FIRST, f"compiled({FIRST})")
    known = names | {
        "f": f,
        "every": tuple(range(inputs)),
        "axes": (0, *[None] * (inputs - 1)),
    }
    return evaluate(f"lambda p, u, v, t: {expression}", known)


def _autograd_grad(f: Callable[..., Array], every: tuple[int, ...]) -> Callable[..., Any]:
    """`torch.func.grad` by `torch.autograd.grad(…, create_graph=True)`."""
    import torch

    def gradient(*p: Any) -> Any:
        leaves = [a if a.requires_grad else a.detach().requires_grad_() for a in p]
        return torch.autograd.grad(f(*leaves), leaves, create_graph=True)

    return gradient


def _mixed(f: Callable[..., Array]) -> Callable[..., Any]:
    """The gradient in every input, each as the fast weights with the others as the context."""
    from maml_jax.core.metagrad import inner_gradient

    def of_one(k: int) -> Callable[[Any, Any], Array]:
        return lambda fast, rest: f(*rest[:k], fast, *rest[k:])

    def gradient(*p: Any) -> Any:
        return tuple(
            inner_gradient(of_one(k), "mixed")(p[k], (*p[:k], *p[k + 1 :])) for k in range(len(p))
        )

    return gradient


def _own_maml(p: Any, act: Callable[[Array], Array], tasks: list[Array], loss: Any) -> Array:
    """The loss of `mj.over_tasks(mj.maml(…))`; its derivative is the gradient that it returns."""
    import jax

    import maml_jax as mj

    def apply(q: Any, x: Array) -> Array:
        return act(x @ q[0] + q[1]) @ q[2] + q[3]

    step = mj.over_tasks(mj.maml(apply, inner_lr=0.1, inner_steps=2, loss=loss))
    x, y, new_x, new_y = tasks
    episodes = mj.Episode(mj.Batch(x, y), mj.Batch(new_x, new_y))

    @jax.custom_vjp
    def value(q: Any) -> Array:
        return step(q, episodes)[0][0]

    def forward(q: Any) -> Any:
        (found, _), gradient = step(q, episodes)
        return found, gradient

    def backward(gradient: Any, cotangent: Array) -> Any:
        return (jax.tree.map(lambda g: g * cotangent, gradient),)

    value.defvjp(forward, backward)
    return value(tuple(p))
