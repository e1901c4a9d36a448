"""The inner-gradient operators, against each other and in what they store."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import classification, conv4, distance

import maml_jax as mj
from maml_jax.core.metagrad import inner_gradient
from maml_jax.errors import InputError


def loss(fast, context):
    """Couples everything with everything, and ignores the integers."""
    w, c = fast["w"], context["c"]
    return jnp.sum(jnp.sin(w) * c**2) + jnp.prod(w) * jnp.sum(c) + context["n"].sum() * w[0]


FAST = {"w": np.array([0.3, -0.7, 1.1])}
CONTEXT = {"c": np.array([0.5, 2.0, -1.5]), "n": np.array([1, 2]), "none": None}


def outer(mode):
    """A function of fast weights and context that needs the gradient's derivative in both."""
    gradient = inner_gradient(loss, mode)

    def function(fast, c):
        context = CONTEXT | {"c": c}
        moved = jax.tree.map(lambda w, g: w - 0.1 * g, fast, gradient(fast, context))
        return loss(moved, context)

    return function


def test_mixed_is_exact_in_fast_weights_and_context(x64):
    of = {mode: jax.grad(outer(mode), argnums=(0, 1)) for mode in ("mixed", "reverse")}
    assert distance(of["mixed"](FAST, CONTEXT["c"]), of["reverse"](FAST, CONTEXT["c"])) < 1e-15


def test_mixed_is_exact_where_only_the_context_moves(x64):
    of = {mode: jax.grad(outer(mode), argnums=1) for mode in ("mixed", "reverse")}
    assert distance(of["mixed"](FAST, CONTEXT["c"]), of["reverse"](FAST, CONTEXT["c"])) < 1e-15


def test_first_order_is_the_gradient_at_the_moved_weights(x64):
    gradient = jax.grad(loss)
    moved = jax.tree.map(lambda w, g: w - 0.1 * g, FAST, gradient(FAST, CONTEXT))
    first_order = jax.grad(outer("first_order"))(FAST, CONTEXT["c"])
    assert distance(first_order, gradient(moved, CONTEXT)) < 1e-15
    assert distance(first_order, jax.grad(outer("reverse"))(FAST, CONTEXT["c"])) > 1e-2


def test_unknown_mode_is_named():
    with pytest.raises(InputError, match=r"`differentiate` was 'mixd' \(did you mean 'mixed'\?\)"):
        mj.maml(lambda params, x: x, 0.1, differentiate="mixd")


def temporary_bytes(mode, steps):
    params, apply = conv4("maxpool", filters=16)
    step = jax.jit(mj.maml(apply, 0.4, steps, differentiate=mode).value_and_grad)
    lowered = step.lower(params, classification(size=(28, 28, 1)))
    compiled = lowered.compile({"xla_backend_optimization_level": "3"})
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow  # XLA optimises four programs
def test_mixed_mode_stores_only_parameters_per_inner_step():
    params, _ = conv4("maxpool", filters=16)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    one, five, twenty = (temporary_bytes("mixed", steps) for steps in (1, 5, 20))
    assert (five - one) / 4 < 2 * weights
    assert (twenty - five) / 15 < 1.1 * weights
    # What the bound is worth: reverse mode stores activations, here of many times that size.
    assert (temporary_bytes("reverse", 5) - one) / 4 > 10 * weights
