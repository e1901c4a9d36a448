"""What a tape computes, operation by operation, against `vmap` and by hand; what it refuses."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from problems import by_vmap, numbers

import maml_jax as mj
from maml_jax.kernels import are_small, native, sum_tasks

pytestmark = pytest.mark.skipif(
    native.compiler() is None, reason="no C++ compiler (c++, g++, clang++)"
)


def check(function, shared, batched, bound=1e-14):
    """The tape's sum is the one by vmap, to rounding."""
    assert are_small(function, shared, batched)
    total = jax.jit(partial(sum_tasks, function))(shared, batched)
    expected = by_vmap(function, shared, batched)
    assert jax.tree.structure(total) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(total), jax.tree.leaves(expected), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        scale = np.abs(theirs).max(initial=0)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound * max(scale, 1))


def test_by_hand():
    """Of the tasks [1, −1] and [2, 0] the products are [−2, −2] and [2, 4], without the negative
    [0, 0] and [2, 4], and the weight of each is its input where the product is positive.
    """
    w = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    x = jnp.array([[[1.0, -1.0]], [[2.0, 0.0]]])

    def loss(w, x):
        return jax.nn.relu(x @ w).sum()

    value, slope = jax.jit(partial(sum_tasks, jax.value_and_grad(loss)))(w, x)
    assert value == 6.0
    assert slope.tolist() == [[2.0, 2.0], [0.0, 0.0]]


UNARY = {
    "neg": jnp.negative,
    "abs": jnp.abs,
    "sign": jnp.sign,
    "square": jnp.square,
    "sqrt": lambda x: jnp.sqrt(jnp.abs(x)),
    "rsqrt": lambda x: lax.rsqrt(jnp.abs(x)),
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "log": lambda x: jnp.log(jnp.abs(x)),
    "log1p": lambda x: jnp.log1p(jnp.abs(x)),
    "tanh": jnp.tanh,
    "logistic": jax.nn.sigmoid,
    "not": lambda x: jnp.where(~(x > 0), x, 1),
    "cube": lambda x: x**3,
    "reciprocal": lambda x: 1 / x,
    "largest": lambda x: x.max(0),
    "largest of all": lambda x: x.max(),
    "sums": lambda x: (x.sum(0), x.sum(1), x.sum(), x.sum((0, 2)), x.sum((1, 2))),
    "mean of squares": lambda x: (x * x).mean(),
    "turned": lambda x: (x.transpose(2, 0, 1), x.transpose(1, 0, 2), x.transpose(2, 1, 0)),
    "shapes": lambda x: (x.reshape(6, 4), x[None], x.reshape(-1)),
    "place of the largest": lambda x: (x.argmax(1) == 1).mean(dtype=x.dtype),
    "constant": lambda x: jnp.ones_like(x) * 3,
    "constants": lambda x: x + jnp.arange(24.0).reshape(x.shape),
    "counted": lambda x: x + jnp.arange(3)[None, :, None],
    "truth": lambda x: (x.astype(bool).astype(x.dtype), (x > 0).astype(x.dtype)),
    "both": lambda x: jnp.where((x > 0) & (x < 1) | (x < -1), x, 0),
    "softmax": lambda x: jax.nn.log_softmax(x),
}
BINARY = {
    "add": jnp.add,
    "sub": jnp.subtract,
    "mul": jnp.multiply,
    "div": jnp.divide,
    "max": jnp.maximum,
    "min": jnp.minimum,
    "gt": lambda a, b: jnp.where(a > b, a, b * b),
    "lt": lambda a, b: jnp.where(a < b, a, b * b),
    "ge": lambda a, b: jnp.where(a >= b, a, b * b),
    "le": lambda a, b: jnp.where(a <= b, a, b * b),
    "eq": lambda a, b: jnp.where(a * 0 == b * 0, a, b),
    "ne": lambda a, b: jnp.where(a * 0 != b, a, b),
    "pow": lambda a, b: jnp.abs(a) ** b,
}


@pytest.mark.usefixtures("x64")
def test_operations_of_one_array():
    check(lambda w, x: {name: of(x) for name, of in UNARY.items()}, (), numbers(5, 2, 3, 4))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4), (2, 3, 4)),
        ((3, 4), (2, 3, 4)),
        ((2, 1, 1), (3, 1)),
        ((2, 3, 4), (1,)),
        ((2, 3, 4), ()),
        ((), ()),
    ],
)
def test_operations_of_two_arrays_and_of_what_is_spread(left, right):
    def both_ways(w, x):
        return {name: (of(w, x), of(x, w)) for name, of in BINARY.items()}

    check(both_ways, numbers(*left), numbers(5, *right, seed=1), 1e-13)


@pytest.mark.usefixtures("x64")
def test_equality_and_what_is_not_finite():
    x = jnp.array([[0.0, 1.0, jnp.inf, -jnp.inf, jnp.nan, 2.0]])
    check(lambda w, x: jnp.isfinite(x) * 1.0, (), x)
    check(lambda w, x: jnp.where(x == w, 1.0, 2.0), jnp.arange(6.0), x)
    for compare in (jnp.maximum, jnp.minimum):
        total = sum_tasks(lambda w, x, f=compare: (f(x, 1.0), f(1.0, x)), (), x)
        expected = by_vmap(lambda w, x, f=compare: (f(x, 1.0), f(1.0, x)), (), x)
        np.testing.assert_array_equal(total, expected)  # NaN is the larger and the smaller


PRODUCTS = ["ij,jk->ik", "ij,kj->ik", "ji,jk->ik", "ji,kj->ik", "i,i->", "ij,j->i", "j,ij->i"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("sizes", [(10, 40, 40), (3, 1, 5), (1, 7, 1), (5, 3, 1)])
def test_products(sizes):
    size = dict(zip("ijk", sizes, strict=True))

    def operand(product, place, lead=()):
        return numbers(*lead, *map(size.get, product.split("->")[0].split(",")[place]), seed=place)

    def all_of_them(w, x):
        return [jnp.einsum(product, *pair) for product, *pair in zip(PRODUCTS, w, x, strict=True)]

    w = [operand(product, 0) for product in PRODUCTS]
    check(all_of_them, w, [operand(product, 1, (5,)) for product in PRODUCTS], 1e-13)


@pytest.mark.usefixtures("x64")
def test_labels():
    """Each row's own place, the derivative, and what a label that is no class leads to."""
    logits, labels = numbers(5, 6, 3), jnp.asarray(np.random.default_rng(0).integers(0, 3, (5, 6)))
    loss = mj.losses.softmax_cross_entropy
    check(lambda w, one: jax.value_and_grad(loss)(one[0] * w, one[1]), 1.5, (logits, labels))
    lost = sum_tasks(lambda w, one: loss(*one), (), (logits, labels + 1))
    assert jnp.isnan(lost)
    taken = partial(jnp.take_along_axis, axis=1, mode="fill", fill_value=7.0)
    check(lambda w, one: taken(one[0], one[1][:, None]), (), (logits, labels + 1))
    assert jnp.isnan(loss(logits[0], labels[0] + 1))


def carry_that_swaps(w, x):
    def body(carry, row):
        a, b, total = carry
        return (b, a, total * w + row + a), (a, total)

    return lax.scan(body, (x.sum(0), x.max(0), w * 0), x, reverse=True)


def loop_of_loops(w, x):
    def inner(carry, row):
        return carry * jnp.tanh(row) + w, carry.sum()

    def outer(carry, _):
        carry, sums = lax.scan(inner, carry, x)
        return carry / 2, sums

    before = jnp.exp(x.sum(0))
    return lax.scan(outer, before, None, length=3), before


def what_was_known_before(w, x):
    """The same products and squares of what is carried: before, within and after the loop."""

    def body(carry, _):
        return carry @ w / 4 + jnp.square(carry), None

    start = x @ w
    last, _ = lax.scan(body, start, None, length=4)
    return jnp.square(start) @ w.T, jnp.square(last) @ w.T, last @ w, start @ w


def steps(length):
    def loop(w, x):
        return lax.scan(lambda carry, i: (carry + i * w, carry * 2), x, jnp.arange(length))

    return loop


LOOPS = {
    "swaps": carry_that_swaps,
    "loops": loop_of_loops,
    "known": what_was_known_before,
    **{f"{length} steps": steps(length) for length in (0, 1, 2, 7)},
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", LOOPS)
def test_loops(name):
    w = numbers(4, 4) / 2 if name == "known" else numbers(4) / 2
    check(LOOPS[name], w, numbers(5, 4, 4, seed=1), 1e-13)


@pytest.mark.usefixtures("x64")
@given(seed=st.integers(0, 10**6), length=st.integers(1, 25), loop=st.booleans())
@settings(max_examples=20, deadline=None)
def test_random_programs_share_memory_without_harm(seed, length, loop):
    """Chains in which anything before may be wanted again, and their gradients."""
    rng = np.random.default_rng(seed)
    choices = [
        (rng.choice(["add", "mul", "max", "product", "sums", "tanh", "where", "turned"]), *places)
        for places in rng.integers(0, 10**6, (length, 2))
    ]

    def chain(w, x):
        values = [x, w]
        for name, i, j in choices:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(
                {
                    "add": lambda a, b: a + b,
                    "mul": lambda a, b: a * b / 2,
                    "max": jnp.maximum,
                    "product": lambda a, b: a @ b / 4,
                    "sums": lambda a, b: a + b.sum(0) / 4,
                    "tanh": lambda a, b: jnp.tanh(a),
                    "where": lambda a, b: jnp.where(a > b, a, 0),
                    "turned": lambda a, b: a.T,
                }[name](a, b)
            )
        return jnp.tanh(values[-1])

    def function(w, x):
        def loss(w):
            if not loop:
                return chain(w, x).sum()
            return lax.scan(lambda y, _: (chain(w, y), None), x, None, length=3)[0].sum()

        return jax.value_and_grad(loss)(w)

    check(function, numbers(4, 4, seed=seed), numbers(3, 4, 4, seed=seed + 1), 1e-11)


def choice(w, x):
    return lax.cond(x.sum() > 0, lambda: x * 2, lambda: x)


REFUSED = {
    "a choice": (choice, "cond"),
    "a loop without end": (
        lambda w, x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x),
        "while",
    ),
    "half precision": (lambda w, x: (x.astype(jnp.bfloat16) * 2).astype(x.dtype), "bfloat16"),
    "multiplied integers": (lambda w, x: x * (x.argmax() * 3), "mul of integers"),
    "random numbers": (lambda w, x: jax.random.normal(jax.random.key(0), x.shape), "numbers of"),
    "rounded": (lambda w, x: x * x.astype(jnp.int32), "rounding"),
    "many tangents": (
        lambda w, x: jnp.tanh(jnp.broadcast_to(x[..., None], (4, 4, 9))),
        "tanh of 144 numbers",
    ),
    "sorted": (lambda w, x: jnp.sort(x), "sort"),
    "clipped index": (
        lambda w, x: jnp.take_along_axis(x, x.argmax(1)[:, None], 1, mode="clip"),
        "moved into bounds",
    ),
    "too large": (lambda w, x: jnp.exp(jnp.broadcast_to(x[..., None], (4, 4, 40000))), "bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_tape_does_is_refused_for_its_reason(name, caplog):
    function, reason = REFUSED[name]
    w, x = jnp.ones((4, 4)), jnp.ones((3, 4, 4))
    with caplog.at_level(logging.DEBUG, "maml_jax"):
        assert sum_tasks(function, w, x) is None
    assert reason in caplog.text
    assert not are_small(function, w, x)


@pytest.mark.parametrize("results", [lambda x: (x, x.astype(jnp.float16)), lambda x: x.argmax()])
def test_results_of_two_types_or_of_integers_are_refused(results):
    assert not are_small(lambda w, x: results(x), (), jnp.ones((3, 4, 4)))
