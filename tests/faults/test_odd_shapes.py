"""Learners on odd shapes and types, against a plain Python loop, or refused in one line.

The loop below knows nothing of the library but its two losses' formulas.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import maml_jax as mj
from maml_jax.registry import find, names

RATE = 0.125
FEATURES = 3
IN_THE_LOOP = ("maml", "fomaml", "anil", "reptile", "meta-sgd")


def cross_entropy(outputs, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1).mean()


def squares(outputs, y):
    return jnp.square(outputs - y).mean()


def joined(x):
    """The features of `x`, whichever pytree it is, in the weights' type."""
    leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(x)]
    return jnp.concatenate(leaves, -1)


def apply(params, x):
    hidden = jnp.tanh(joined(x) @ params["body"]["kernel"] + params["body"]["bias"])
    return hidden @ params["head"]["kernel"] + params["head"]["bias"]


def model(rng, outputs):
    def weights(*shape):
        return jnp.asarray(rng.normal(size=shape) / 2, jnp.float32)

    return {
        "body": {"kernel": weights(FEATURES, 4), "bias": weights(4)},
        "head": {"kernel": weights(4, outputs), "bias": weights(outputs)},
    }


@st.composite
def cases(draw):
    """A learner's settings, and one task or a batch of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    classes = draw(st.booleans())
    outputs = draw(st.integers(1, 3))
    tasks = draw(st.sampled_from([None, None, 1, 2]))
    dtype = draw(st.sampled_from(["float16", "float32", "float64", "int32", "uint8"]))
    kind = draw(st.sampled_from(["array", "dict", "tuple"]))
    labels = draw(st.sampled_from(["int32", "int64", "uint8"]))
    lead = () if tasks is None else (tasks,)

    def batch():
        n = draw(st.sampled_from([1, 1, 2, 4]))
        x = (4 * rng.random((*lead, n, FEATURES))).astype(dtype)
        if classes:
            y = rng.integers(0, outputs, (*lead, n)).astype(labels)
        else:
            y = rng.normal(size=(*lead, n, outputs)).astype("float32")
        several = {"array": x, "dict": {"a": x[..., :1], "b": x[..., 1:]}}
        return mj.Batch(several.get(kind, (x[..., :2], x[..., 2:])), y)

    return {
        "name": draw(st.sampled_from(names("algorithms"))),
        "steps": draw(st.integers(0, 3)),
        "classes": classes,
        "params": model(rng, outputs),
        "episode": mj.Episode(batch(), batch()),
        "tasks": tasks,
        "differentiate": draw(st.sampled_from(["mixed", "reverse"])),
    }


def by_loop(name, params, episode, steps, loss):
    """The query loss and the meta-gradient of one task."""
    support, query = jax.tree.map(jnp.asarray, episode)
    moves = (lambda path: path == "head") if name == "anil" else (lambda path: True)

    def adapted(params, rates, constant):
        fast = params
        for _ in range(steps):
            slope = jax.grad(lambda p: loss(apply(p, support.x), support.y))(fast)
            if constant:
                slope = jax.lax.stop_gradient(slope)
            fast = {
                part: jax.tree.map(lambda w, a, g: w - a * g, fast[part], rates[part], slope[part])
                if moves(part)
                else fast[part]
                for part in fast
            }
        return fast

    def query_loss(params, rates, constant=name in ("fomaml", "reptile")):
        return loss(apply(adapted(params, rates, constant), query.x), query.y)

    rates = jax.tree.map(lambda leaf: jnp.full_like(leaf, RATE), params)
    value, (of_weights, of_rates) = jax.value_and_grad(query_loss, (0, 1))(params, rates)
    if name == "reptile":
        return value, jax.tree.map(jnp.subtract, params, adapted(params, rates, True))
    return value, [of_weights, of_rates] if name == "meta-sgd" else of_weights


def learner_of(case):
    options = {}
    if case["name"] in ("maml", "anil", "meta-sgd"):
        options["differentiate"] = case["differentiate"]
    if not case["classes"]:
        options["loss"] = mj.losses.mean_squared_error
    steps = max(case["steps"], 1) if case["name"] == "maml-plus-plus" else case["steps"]
    return find("algorithms", case["name"])(apply, RATE, steps, **options)


def check(case):
    """What a learner computes is the loop's, or finite, or refused in one line."""
    params, episode, tasks = case["params"], case["episode"], case["tasks"]
    try:
        learner = learner_of(case)
        meta = learner.init(params)
        run = learner.value_and_grad if tasks is None else mj.over_tasks(learner)
        (value, metrics), grads = run(meta, episode)
        one = episode if tasks is None else jax.tree.map(lambda leaf: leaf[0], episode)
        outputs = learner.classify(meta, one.support, one.query.x)
    except mj.InputError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  # most cases raise none
        # Prototypes are of classes, of which there are two or more; nothing else is refused.
        assert case["name"] in ("proto-maml", "protonet")
        assert not case["classes"] or params["head"]["bias"].shape == (1,)
        return
    assert outputs.shape == apply(params, one.query.x).shape
    for leaf in jax.tree.leaves((value, metrics, grads, outputs)):
        assert np.isfinite(leaf).all()
        assert leaf.dtype == jnp.float32
    assert jax.tree.structure(grads) == jax.tree.structure(meta)
    if case["name"] not in IN_THE_LOOP:
        return
    loss = cross_entropy if case["classes"] else squares
    single = (
        [episode]
        if tasks is None
        else [jax.tree.map(lambda leaf, t=t: leaf[t], episode) for t in range(tasks)]
    )
    each = [by_loop(case["name"], params, task, case["steps"], loss) for task in single]
    value_expected, expected = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *each)
    np.testing.assert_allclose(value, value_expected, rtol=1e-5, atol=1e-5)
    if case["name"] == "meta-sgd":  # whose rates are by path
        rates = {}
        for path, leaf in grads["rates"].items():
            layer, part = path.split("/")
            rates.setdefault(layer, {})[part] = leaf
        grads = [grads["params"], rates]
    for found, wanted in zip(*map(jax.tree.leaves, (grads, expected)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


QUIETLY = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


EXAMPLES = int(os.environ.get("MAML_JAX_EXAMPLES", "12"))
"""Of each part. A second or more each: 125 make a thousand in all, in 25 minutes of a core."""


@pytest.mark.slow  # hundreds of learners in all
@pytest.mark.parametrize("part", range(8))
def test_odd_shapes(part):
    """Any learner, on labels, types, trees, and numbers of tasks, steps and examples at random."""

    @seed(part)
    @settings(max_examples=EXAMPLES, **{**QUIETLY, "derandomize": False})
    @given(cases())
    def each(case):
        with jax.disable_jit():  # without compiling each case
            check(case)

    each()
