"""Small tasks by a tape, against `vmap`, and by hand."""

import os
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import ALGORITHMS
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from problems import classification, conv4, distance

import maml_jax as mj
from maml_jax.kernels import are_small, native, sum_tasks

pytestmark = pytest.mark.skipif(
    native.compiler() is None, reason="no C++ compiler (c++, g++, clang++)"
)
NOT_ON_A_TAPE = {
    "maml, batches": "picks examples by numbers",
    "maml_plus_plus": "picks each step's weights by its number",
    "maml_plus_plus, rates alone": "the same",
    "maml_plus_plus, losses alone": "the same",
    "pretrained": "joins arrays",
    "pretrained, classes": "joins arrays",
}


def by_vmap(function, shared, batched):
    results = jax.vmap(function, (None, 0))(shared, batched)
    return jax.tree.map(lambda leaf: leaf.sum(0), results)


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


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


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


def multilayer(features, outputs, batch_norm):
    model = mj.models.MLP(features, (8, 8), outputs, batch_norm, rngs=nnx.Rngs(0))
    params, apply = mj.from_flax(model)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2), params), apply


def problems():
    """Networks with a batch of episodes each, and options."""
    sines = [mj.Batch(numbers(5, 10, 1, seed=i), numbers(5, 10, 1, seed=i + 2)) for i in (0, 1)]
    regression = {"loss": mj.losses.mean_squared_error}
    classes = classification(tasks=5)
    return {
        "normalised": (multilayer(6, 3, True), classes, {}),
        "sinusoid": (multilayer(1, 1, False), mj.Episode(*sines), regression),
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "network"),
    [(name, "normalised") for name in ALGORITHMS]
    + [(name, "sinusoid") for name in ("maml", "maml, reverse", "imaml", "meta_sgd", "cavia")],
)
def test_every_algorithm(name, network):
    (params, apply), episodes, options = problems()[network]
    learner = ALGORITHMS[name](apply, 0.05, 3, **options)
    meta = learner.init(params)

    def one(meta, episode):
        return learner.value_and_grad(meta, episode, 0.5)

    per_step_norms = "norms alone" in name and network == "normalised"
    if name in NOT_ON_A_TAPE or per_step_norms:
        assert not are_small(one, meta, episodes)
        return
    assert are_small(one, meta, episodes)
    tape = jax.jit(partial(sum_tasks, one))(meta, episodes)
    assert distance(tape, jax.jit(partial(by_vmap, one))(meta, episodes)) < 1e-11


def sinusoid(dtype, tasks=25, steps=2):
    params, apply = mj.from_flax(mj.models.MLP(1, (40, 40), 1, rngs=nnx.Rngs(0)))
    sines = [mj.Batch(numbers(tasks, 10, 1, seed=i), numbers(tasks, 10, 1)) for i in (0, 1)]
    learner = mj.maml(apply, 0.01, steps, loss=mj.losses.mean_squared_error)
    meta, episodes = jax.tree.map(
        lambda leaf: leaf.astype(dtype), (learner.init(params), mj.Episode(*sines))
    )
    return learner, meta, episodes


@pytest.mark.usefixtures("x64")
def test_over_tasks_takes_it_and_has_every_derivative(monkeypatch):
    learner, meta, episodes = sinusoid(jnp.float64)
    taken = []
    real = sum_tasks

    def watched(*arguments):
        taken.append(real(*arguments))
        return taken[-1]

    def of_all(meta, episodes):
        (loss, _), gradient = mj.over_tasks(learner, 25)(meta, episodes)
        return loss + sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient))

    def everything(meta, episodes):
        slopes = jax.grad(of_all)(meta, episodes)
        moved = jax.jvp(lambda meta: of_all(meta, episodes), (meta,), (slopes,))
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), meta)
        return slopes, moved, jax.vmap(of_all, (0, None))(twice, episodes)

    monkeypatch.setattr("maml_jax.tasks.sum_tasks", watched)
    tape = jax.jit(everything)(meta, episodes)
    assert taken
    assert all(result is not None for result in taken)
    monkeypatch.setattr("maml_jax.tasks.sum_tasks", lambda *_: None)
    assert distance(tape, jax.jit(lambda *both: everything(*both))(meta, episodes)) < 1e-12


def test_single_precision():
    learner, meta, episodes = sinusoid(jnp.float32)
    one = partial(learner.value_and_grad, progress=1.0)
    tape = jax.jit(partial(sum_tasks, one))(meta, episodes)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (meta, episodes))
        expected = jax.jit(partial(by_vmap, one))(*double)
        assert distance(tape, expected) < 1e-6


BITS = """
import sys
import jax, numpy as np
sys.path.insert(0, "tests"), sys.path.insert(0, "tests/kernels")
from test_small_tasks import sinusoid, sum_tasks
learner, meta, episodes = sinusoid("float32", tasks=70)
one = lambda meta, episode: learner.value_and_grad(meta, episode, 1.0)
total = jax.jit(lambda *both: sum_tasks(one, *both))
for _ in range(20):
    leaves = jax.tree.leaves(total(meta, episodes))
    print(b"".join(np.asarray(leaf).tobytes() for leaf in leaves).hex())
"""


def test_bits_do_not_depend_on_threads():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not let a process choose its cores")

    def run(one_core):
        pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
        code = (pin if one_core else "") + BITS
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return set(done.stdout.split())

    assert len(run(False) | run(True)) == 1


def test_a_mesh_of_one_device_for_small_tasks():
    learner, meta, episodes = sinusoid(jnp.float32)
    assert mj.task_mesh(25).size == 2
    assert mj.task_mesh(25, learner, meta, episodes).size == 1
    params, apply = conv4(filters=32)
    images = classification(tasks=4, size=(28, 28, 1))
    assert mj.task_mesh(4, mj.maml(apply, 0.1), params, images).size == 2


def choice(w, x):
    return lax.cond(x[0, 0] > 0, lambda: x * 2, lambda: x)


REFUSED = {
    "a choice": choice,
    "a loop without end": lambda w, x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x),
    "half precision": lambda w, x: (x.astype(jnp.bfloat16) * 2).astype(x.dtype),
    "two types": lambda w, x: (x, x.astype(jnp.float16)),
    "integers": lambda w, x: x.argmax(),
    "multiplied integers": lambda w, x: x * (x.argmax() * 3 // 2),
    "random numbers": lambda w, x: jax.random.normal(jax.random.key(0), x.shape, x.dtype),
    "rounded": lambda w, x: x * x.astype(jnp.int32),
    "many tangents": lambda w, x: jnp.tanh(jnp.broadcast_to(x[..., None], (4, 4, 9))),
    "sorted": lambda w, x: jnp.sort(x),
    "clipped index": lambda w, x: x.at[jnp.int32(7)].get(mode="clip"),
    "too large": lambda w, x: jnp.broadcast_to(x[..., None], (4, 4, 40000)) * w[0, 0] + 1,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_tape_does_is_refused(name):
    w, x = jnp.ones((4, 4)), jnp.ones((3, 4, 4))
    assert not are_small(REFUSED[name], w, x)
    assert sum_tasks(REFUSED[name], w, x) is None


def test_none_without_a_compiler_or_on_an_accelerator(monkeypatch):
    w, x = jnp.ones((4, 4)), jnp.ones((3, 4, 4))
    assert are_small(jnp.add, w, x)
    monkeypatch.setattr("maml_jax.kernels.small_tasks.register", lambda *_: None)
    assert not are_small(jnp.add, w, x)
    monkeypatch.undo()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not are_small(jnp.add, w, x)
