"""Nothing silently wrong: what users' programs ran into, one test or group for each kind.

Each asserts the right value, or the refusal in one line.
"""

import gc
import logging
import resource
import sys
import weakref
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from problems import Compilations, classification, distance, perceptron

import maml_jax as mj
from maml_jax.registry import find, names

pytestmark = pytest.mark.slow  # every algorithm is compiled, in many forms

PARAMS, APPLY = perceptron()
ONE = classification()
TASKS = classification(tasks=4)
SQUARES = mj.losses.mean_squared_error
OWN_META = {  # the algorithms whose meta-parameters are not the weights
    "meta_sgd": lambda: mj.meta_sgd(APPLY, 0.1),
    "maml_plus_plus": lambda: mj.maml_plus_plus(APPLY, 0.1),
    "cavia": lambda: mj.cavia(APPLY, 0.1),
    "meta_curvature": lambda: mj.meta_curvature(APPLY, 0.1),
    "pretrained": lambda: mj.pretrained(APPLY, 0.1, classes=3),
}


def refused(call, *words):
    """The call raises an `InputError` of one line that holds all of these words."""
    with pytest.raises(mj.InputError) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message


def task(tasks, number):
    return jax.tree.map(lambda leaf: leaf[number], tasks)


def by_loop(params, support, steps, lr=0.1, apply=APPLY, loss=None):
    """Gradient descent on the support set, in a Python loop."""
    loss = loss or mj.losses.softmax_cross_entropy
    for _ in range(steps):
        slope = jax.grad(lambda p: loss(apply(p, support.x), support.y))(params)
        params = jax.tree.map(lambda w, g: w - lr * g, params, slope)
    return params


def test_one_example_is_classified_beside_the_support_set():
    """`predict` of one example under batch norm: `classify` is the way, and the docstring says."""

    def apply(params, x):  # batch norm over the current batch
        return ((x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)) @ params["w"]

    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)), "float32")}
    learner = mj.maml(apply, 0.1, 2)
    fast = learner.adapt(params, ONE.support)
    assert (learner.predict(fast, ONE.query.x[:1]) == 0).all()  # what is documented
    outputs = learner.classify(params, ONE.support, ONE.query.x)
    for i in range(2):
        beside = jnp.concatenate([ONE.support.x, ONE.query.x[i : i + 1]])
        np.testing.assert_allclose(outputs[i], apply(fast, beside)[-1], rtol=1e-4, atol=1e-5)
        alone = learner.classify(params, ONE.support, ONE.query.x[i : i + 1])
        np.testing.assert_allclose(alone[0], outputs[i], rtol=1e-4, atol=1e-5)
    from maml_jax.types import Predict

    assert "classify" in Predict.__call__.__doc__


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(
    ("episodes", "words"),
    [
        (
            mj.Episode(task(TASKS, slice(2)).support, TASKS.query),
            ("`episodes` was", "float32[2,6,6]", "float32[4,6,6]", "[tasks, examples, …]"),
        ),
        (ONE, ("float32[6,6]", "[tasks, examples, …]", "`learner.value_and_grad`")),
        (task(TASKS, slice(0)), ("at least one task", "float32[0,6,6]")),
    ],
    ids=["different numbers", "one episode", "none"],
)
def test_batches_of_episodes_that_are_none_are_refused(episodes, words, jitted):
    """`over_tasks` on 4 and 8 tasks; on one unbatched episode; on 0 tasks."""
    step = mj.over_tasks(mj.maml(APPLY, 0.1))
    refused(lambda: (jax.jit(step) if jitted else step)(PARAMS, episodes), *words)


def test_tune_refuses_them_too():
    refused(lambda: mj.tune(mj.maml(APPLY, 0.1), PARAMS, task(TASKS, slice(0))), "at least one")


def test_an_unbatched_regression_is_refused_though_the_network_takes_it():
    """One unbatched episode whose examples have one feature: each would become a task."""
    params = {"kernel": jnp.ones((1, 2)), "out": jnp.ones((2, 1))}
    learner = mj.maml(lambda p, x: (x @ p["kernel"]) @ p["out"], 0.1, loss=SQUARES)
    batch = mj.Batch(jnp.ones((5, 1)), jnp.ones((5, 1)))
    refused(
        lambda: jax.jit(mj.over_tasks(learner))(params, mj.Episode(batch, batch)),
        "`support.x` was float32[1]",
        "[tasks, examples, …]",
    )
    scalars = mj.maml(lambda p, x: p["a"] * x, 0.1, loss=SQUARES)  # x of one axis is right here
    (loss, _), _ = mj.over_tasks(scalars)({"a": jnp.ones(())}, mj.Episode(batch, batch))
    assert loss == 0


def in_training_mode():
    rngs = nnx.Rngs(0)
    return nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))


def with_running_averages():
    norm = linen.BatchNorm(use_running_average=True)
    return norm.bind(norm.init(jax.random.key(0), jnp.ones((2, 3))))


def nnx_running_averages():
    model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    model.eval()
    return model


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (in_training_mode, "dropout in training mode"),
        (with_running_averages, "uses running averages"),
        (nnx_running_averages, "uses running averages"),
    ],
)
def test_frozen_masks_and_statistics_are_refused(make, word):
    """`nnx.Dropout` in training mode; `BatchNorm(use_running_average=True)` of Linen and NNX."""

    def call():
        params, apply = mj.from_flax(make())
        apply(params, jnp.ones((2, 3)))

    refused(call, word)


@jax.tree_util.register_dataclass
@dataclass
class Graph:
    nodes: jax.Array
    edges: jax.Array


def parts(x):
    """The same examples as one array, a dict, a tuple and a graph, with a model of each."""
    left, right = x[:, :3], x[:, 3:]
    return {
        "dict": ({"a": left, "b": right}, lambda x: jnp.concatenate([x["a"], x["b"]], 1)),
        "tuple": ((left, right), lambda x: jnp.concatenate(x, 1)),
        "graph": (Graph(left, right), lambda x: jnp.concatenate([x.nodes, x.edges], 1)),
    }


@pytest.mark.parametrize("kind", ["dict", "tuple", "graph"])
@pytest.mark.parametrize("batch_size", [None, 2, 4])
def test_x_may_be_any_pytree_and_its_length_is_a_leafs(kind, batch_size):
    """`x` a dict or tuple with `batch_size`; `x` a registered dataclass."""
    episode = mj.Episode(
        *(mj.Batch(parts(batch.x)[kind][0], batch.y) for batch in (ONE.support, ONE.query))
    )
    _, joined = parts(ONE.support.x)[kind]
    plain = mj.maml(APPLY, 0.1, 3, batch_size=batch_size)
    learner = mj.maml(lambda p, x: APPLY(p, joined(x)), 0.1, 3, batch_size=batch_size)
    expected = plain.value_and_grad(PARAMS, ONE)
    assert distance(learner.value_and_grad(PARAMS, episode), expected) < 1e-6
    outputs = learner.classify(PARAMS, episode.support, episode.query.x)
    expected = plain.classify(PARAMS, ONE.support, ONE.query.x)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_a_batch_of_arrays_that_differ_is_refused():
    """`x` a dict with `batch_size`: not all arrays count the examples."""
    support = mj.Batch({"a": ONE.support.x, "b": jnp.ones((2, 3))}, ONE.support.y)
    learner = mj.maml(lambda p, x: APPLY(p, x["a"]), 0.1, 2, batch_size=2)
    refused(lambda: learner.adapt(PARAMS, support), "`batch_size` was given", "float32[2,3]")


def renamed(head):
    params = {("last" if name == "head" else name): leaf for name, leaf in PARAMS.items()}
    params[head] = params.pop("last")
    return params, lambda p, x: APPLY({**p, "head": p[head]}, x)


@pytest.mark.parametrize("head", ["fc", "Dense_1", "layers_2"])
@pytest.mark.parametrize("algorithm", [mj.boil, mj.anil])
def test_a_head_that_is_not_found_is_refused(algorithm, head):
    """`boil` where the last layer is called `fc` or `Dense_1`: the head would move too."""
    params, apply = renamed(head)
    refused(lambda: algorithm(apply, 0.1).init(params), "`adapts` matched", f"{head}/kernel")


def test_boil_with_a_predicate_for_that_head_leaves_it():
    """`boil` where the last layer is called `fc`, with the remedy of the message."""
    params, apply = renamed("fc")
    learner = mj.boil(apply, 0.1, adapts=lambda path: not path.startswith("fc"))
    fast = learner.adapt(learner.init(params), ONE.support)
    np.testing.assert_array_equal(fast["fc"]["kernel"], params["fc"]["kernel"])
    assert not np.array_equal(fast["body"]["kernel"], params["body"]["kernel"])


def relabelled(episode, part, change):
    batch = getattr(episode, part)
    return episode._replace(**{part: batch._replace(y=change(batch.y))})


@pytest.mark.parametrize("part", ["support", "query"])
@pytest.mark.parametrize("change", [lambda y: y - 1, lambda y: y + 1])
@pytest.mark.parametrize("algorithm", ["maml", "reptile", "imaml", "protonet", "pretrained"])
def test_labels_that_are_no_classes_are_refused_where_they_are_known(part, change, algorithm):
    """Labels outside 0 … ways − 1: −1, and 3 of 3."""
    learner = find("algorithms", algorithm)(APPLY, 0.1, 1)
    episode = relabelled(ONE, part, change)
    refused(lambda: learner.value_and_grad(PARAMS, episode), f"`{part}.y` had labels from")
    if part == "support":
        refused(lambda: learner.adapt(PARAMS, episode.support), "must be in 0 to 2")
        refused(lambda: learner.classify(PARAMS, episode.support, ONE.query.x), "`support.y`")
    both = jax.tree.map(lambda leaf: leaf[None], episode)
    refused(lambda: mj.over_tasks(learner)(PARAMS, both), f"`{part}.y` had labels")


def test_labels_that_count_from_one_are_guessed():
    """Labels outside 0 … ways − 1: 1-based labels as a likely cause."""
    episode = relabelled(ONE, "support", lambda y: y + 1)
    refused(lambda: mj.maml(APPLY, 0.1).adapt(PARAMS, episode.support), "count from 1")


@pytest.mark.parametrize("part", ["support", "query"])
@pytest.mark.parametrize("change", [lambda y: y - 1, lambda y: y + 1])
@pytest.mark.parametrize("name", ["maml", "fomaml", "protonet"])
def test_labels_that_are_no_classes_give_nan_where_they_are_not_known(part, change, name):
    """Labels outside 0 … ways − 1 under `jit`: NaN, which the docstring explains."""
    learner = find("algorithms", name)(APPLY, 0.1, 1)
    (loss, _), grads = jax.jit(learner.value_and_grad)(PARAMS, relabelled(ONE, part, change))
    assert np.isnan(loss)
    assert np.isnan(grads["body"]["kernel"]).any()
    assert "count from 1" in mj.losses.softmax_cross_entropy.__doc__


def line(params, x):
    return params["slope"] * x + params["offset"]


LINE = {"slope": jnp.asarray(1.0), "offset": jnp.asarray(2.0)}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("entry", ["adapt", "value_and_grad", "over_tasks"])
def test_targets_that_would_be_broadcast_are_refused(own, entry):
    """`y` of shape (n,) against outputs (n, 1), of our loss and of one's own."""
    loss = (lambda outputs, y: jnp.square(outputs - y).mean()) if own else SQUARES
    learner = mj.maml(line, 0.1, 2, loss=loss)
    batch = mj.Batch(jnp.ones((5, 1)), jnp.arange(5.0))
    episode = mj.Episode(batch, batch)
    call = {
        "adapt": lambda: learner.adapt(LINE, batch),
        "value_and_grad": lambda: jax.jit(learner.value_and_grad)(LINE, episode),
        "over_tasks": lambda: mj.over_tasks(learner)(
            LINE, jax.tree.map(lambda leaf: leaf[None], episode)
        ),
    }[entry]
    refused(call, "(5, 1)" if not own else "float32[5,1]")


def test_a_loss_that_takes_such_targets_rightly_is_taken():
    """`y` of shape (n,) against outputs (n, 1), where the loss takes the one output itself."""
    batch = mj.Batch(jnp.linspace(0, 1, 5)[:, None], jnp.linspace(0, 1, 5) ** 2)
    own = mj.maml(line, 0.1, 2, loss=lambda outputs, y: jnp.square(outputs[:, 0] - y).mean())
    flat = mj.maml(lambda p, x: line(p, x)[:, 0], 0.1, 2, loss=SQUARES)
    episode = mj.Episode(batch, batch)
    assert distance(own.value_and_grad(LINE, episode), flat.value_and_grad(LINE, episode)) < 1e-6


@pytest.mark.parametrize("part", ["support", "query"])
@pytest.mark.parametrize("change", [lambda y: y[:1], lambda y: y[0], lambda y: y[:5]])
def test_one_label_for_many_examples_is_refused(part, change):
    """One label for 10 examples; any other number of labels."""
    episode = relabelled(ONE, part, change)
    loss = lambda outputs, y: jnp.square(outputs.sum() - y.sum())  # noqa: E731  # takes anything
    for learner in (mj.maml(APPLY, 0.1), mj.maml(APPLY, 0.1, loss=loss)):
        refused(lambda learner=learner: learner.value_and_grad(PARAMS, episode), f"`{part}` was")


def masked(outputs, y):
    labels, mask = y
    each = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
    return (mask * each).sum() / jnp.maximum(mask.sum(), 1)


def two_heads(outputs, y):
    return masked(outputs["class"], (y["label"], 1.0 * (y["label"] >= 0))) + SQUARES(
        outputs["value"], y["value"]
    )


@pytest.mark.parametrize("name", names("algorithms"))
def test_a_loss_of_ones_own_takes_any_targets_and_has_no_accuracy(name):
    """`y` or outputs that are tuples or dicts: masks, several heads."""
    if name in ("protonet", "proto-maml"):  # of whose classes there are prototypes
        learner = find("algorithms", name)(APPLY, 0.1, 2, loss=masked)
        y = (ONE.support.y, jnp.ones(6))
        refused(lambda: learner.adapt(PARAMS, ONE.support._replace(y=y)), "prototypes are of")
        return
    mask = jnp.asarray([1.0, 0, 1, 1, 0, 1])
    episode = jax.tree.map(lambda leaf: leaf, ONE)
    episode = relabelled(episode, "support", lambda y: (y, mask))
    episode = relabelled(episode, "query", lambda y: (y, jnp.ones(6)))
    learner = find("algorithms", name)(APPLY, 0.1, 1, loss=masked)
    (loss, metrics), _ = learner.value_and_grad(learner.init(PARAMS), episode)
    assert "accuracy" not in metrics
    if name == "maml":
        kept = task(ONE.support, np.array([0, 2, 3, 5]))
        fast = by_loop(PARAMS, kept, 1)
        expected = mj.losses.softmax_cross_entropy(APPLY(fast, ONE.query.x), ONE.query.y)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)

    def heads(params, x):
        outputs = APPLY(params, x)
        return {"class": outputs, "value": outputs[:, :1]}

    both = {"label": ONE.support.y, "value": jnp.ones((6, 1))}
    learner = find("algorithms", name)(heads, 0.1, 1, loss=two_heads)
    episode = mj.Episode(*(mj.Batch(batch.x, both) for batch in ONE))
    (loss, metrics), _ = jax.jit(learner.value_and_grad)(learner.init(PARAMS), episode)
    assert np.isfinite(loss)
    assert "accuracy" not in metrics


@pytest.mark.parametrize("steps", [np.int64(2), np.int32(2), jnp.int32(2), np.uint8(2)])
@pytest.mark.parametrize("lr", [jnp.float32(0.125), np.float64(0.125), np.float32(0.125)])
def test_any_integer_and_any_real_scalar_will_do(steps, lr):
    """`inner_steps=np.int64(2)`, `inner_lr=jnp.float32(.1)`."""
    expected = by_loop(PARAMS, ONE.support, 2, 0.125)
    for learner in (mj.maml(APPLY, lr, steps), mj.maml_plus_plus(APPLY, lr, steps)):
        fast = learner.adapt(learner.init(PARAMS), ONE.support)
        if learner.description.startswith("maml,"):
            assert distance(fast, expected) < 1e-6
            assert distance(learner.adapt(PARAMS, ONE.support, steps), expected) < 1e-6
        assert {leaf.dtype for leaf in jax.tree.leaves(fast)} == {jnp.dtype("float32")}
    mj.over_tasks(learner, chunk=steps)
    mj.imaml(APPLY, lr, regularization=jnp.float32(2), damping=lr, solver_steps=steps)
    mj.cavia(APPLY, lr, context_size=steps, seed=steps)


@pytest.mark.parametrize(
    "make",
    [
        lambda: mj.maml(APPLY, 0.1, 2.0),
        lambda: mj.maml(APPLY, 0.1, True),
        lambda: mj.maml(APPLY, 0.1, np.bool_(True)),
        lambda: mj.maml(APPLY, 0.1, jnp.ones(1, int)),
        lambda: mj.maml(APPLY, True),
        lambda: mj.maml(APPLY, 1j),
        lambda: mj.maml(APPLY, "0.1"),
        lambda: mj.maml(APPLY, jnp.float32(-1)),
        lambda: mj.maml(APPLY, np.ones((40, 40))),
        lambda: jax.jit(lambda steps: mj.maml(APPLY, 0.1, steps))(2),
    ],
)
def test_what_is_no_such_number_is_refused(make):
    """`inner_steps` and `inner_lr` that are no scalars."""
    refused(make, "` was ")


def entries(learner):
    return {
        "adapt": lambda: learner.adapt(PARAMS, ONE.support),
        "fewer steps": lambda: learner.adapt(PARAMS, ONE.support, 1),
        "trajectory": lambda: learner.trajectory(PARAMS, ONE.support),
        "classify": lambda: learner.classify(PARAMS, ONE.support, ONE.query.x),
        "predict": lambda: learner.predict(PARAMS, ONE.query.x),
        "value_and_grad": lambda: learner.value_and_grad(PARAMS, ONE),
    }


@pytest.mark.parametrize("entry", entries(mj.maml(APPLY, 0.1)))
def test_a_plain_python_loop_compiles_once(entry):
    """`learner.adapt(…)` as the README shows it, not jitted."""
    call = entries(mj.maml(APPLY, 0.1, 3))[entry]
    jax.block_until_ready(call())
    with Compilations() as again:
        for _ in range(3):
            jax.block_until_ready(call())
    assert again.count == 0


def test_learners_are_freed_with_what_they_compiled():
    """Not jitted: many learners leave nothing behind."""
    models = []
    for scale in range(4):
        model = lambda params, x, scale=scale: scale * APPLY(params, x)  # noqa: E731
        models.append(weakref.ref(model))
        for call in entries(mj.maml(model, 0.1, 2)).values():
            call()
        del model, call
    gc.collect()
    assert sum(model() is not None for model in models) <= 1  # the last, in JAX's own cache


@pytest.mark.slow  # a thousand calls
def test_a_thousand_calls_take_no_memory():
    """Not jitted: 140 MiB after 24 calls."""
    learner = mj.maml(APPLY, 0.1, 3)

    def calls(n):
        for i in range(n):
            jax.block_until_ready(learner.adapt(PARAMS, ONE.support, 1 + i % 3))
            jax.block_until_ready(learner.classify(PARAMS, ONE.support, ONE.query.x))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )

    before = calls(20)
    assert calls(1000) - before < 20  # MiB


@pytest.mark.parametrize("differentiate", ["mixed", "reverse"])
def test_forward_mode_works_or_says_what_does(differentiate):
    """`jax.jvp`, `jax.jacfwd` through `adapt` at 3 steps."""
    learner = mj.maml(APPLY, 0.1, 3, differentiate=differentiate)

    def loss(params):
        return SQUARES(learner.adapt(params, ONE.support)["head"]["bias"], jnp.ones(3))

    def directional():
        return jax.jvp(loss, (PARAMS,), (PARAMS,))[1]

    if differentiate == "mixed":
        refused(directional, '`differentiate="reverse"`')
        refused(lambda: jax.jit(jax.jacfwd(loss))(PARAMS), '`differentiate="reverse"`')
    else:
        slope = sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.grad(loss)(PARAMS), PARAMS))))
        np.testing.assert_allclose(directional(), slope, rtol=1e-4)


@pytest.mark.parametrize("differentiate", ["mixed", "reverse"])
def test_the_derivative_through_adapt_compiles_once(differentiate):
    """`jax.grad` through `adapt`, outside of `jit`, again and again."""
    learner = mj.maml(APPLY, 0.1, 3, differentiate=differentiate)
    gradient = jax.grad(lambda p: jnp.sum(learner.adapt(p, ONE.support)["head"]["bias"] ** 2))
    jax.block_until_ready(gradient(PARAMS))
    with Compilations() as again:
        jax.block_until_ready(gradient(PARAMS))
    assert again.count == 0


def tempered(t, loss=mj.losses.softmax_cross_entropy, differentiate="mixed"):
    """The query loss of a learner whose model closes over `t`."""
    learner = mj.maml(lambda p, x: APPLY(p, x) * t, 0.1, 3, loss=loss, differentiate=differentiate)
    return learner.value_and_grad(PARAMS, ONE)[0][0]


def expected_tempered(t):
    fast = by_loop(PARAMS, ONE.support, 3, apply=lambda p, x: APPLY(p, x) * t)
    return mj.losses.softmax_cross_entropy(APPLY(fast, ONE.query.x) * t, ONE.query.y)


def test_closed_over_values_may_be_traced_and_differentiated():
    """`apply` that closes over a traced value: under `jit`, `grad`, `vmap`, in a `scan`."""
    value, slope = jax.value_and_grad(expected_tempered)(2.0)
    np.testing.assert_allclose(jax.jit(tempered)(2.0), value, rtol=1e-5)
    for gradient in (jax.jit(jax.grad(tempered)), jax.grad(tempered)):
        np.testing.assert_allclose(gradient(2.0), slope, rtol=1e-4)
    both = jnp.asarray([1.0, 2.0])
    expected = [expected_tempered(1.0), value]
    np.testing.assert_allclose(jax.jit(jax.vmap(tempered))(both), expected, rtol=1e-5)
    _, in_scan = jax.lax.scan(lambda carry, t: (carry, tempered(t)), 0, both)
    np.testing.assert_allclose(in_scan, expected, rtol=1e-5)


def test_closed_over_class_weights_keys_and_integers():
    """`loss` that closes over class weights under `vmap`; a key; an integer."""

    def query_loss(key, number, weights, differentiate="mixed"):
        def loss(outputs, y):
            each = optax.softmax_cross_entropy_with_integer_labels(outputs, y)
            return (weights[y] * each).mean()

        def apply(params, x):
            noise = jax.random.normal(key, (3,)) / 10
            return APPLY(params, x) + noise + jax.nn.one_hot(number, 3)

        learner = mj.maml(apply, 0.1, 3, loss=loss, differentiate=differentiate)
        return learner.value_and_grad(PARAMS, ONE)[0][0]

    arguments = jax.random.split(jax.random.key(0), 2), jnp.arange(2), jnp.eye(3)[:2] + 1
    found = jax.jit(jax.vmap(query_loss))(*arguments)
    for i in range(2):
        alone = query_loss(*task(arguments, i), differentiate="reverse")
        np.testing.assert_allclose(found[i], alone, rtol=1e-5)


def test_closed_over_values_in_a_batch_of_tasks_on_a_mesh():
    """`apply` that closes over a traced value, in `over_tasks`, over two devices too."""

    def loss(t, mesh):
        learner = mj.maml(lambda p, x: APPLY(p, x) * t, 0.1, 2)
        return mj.over_tasks(learner, 2, mesh)(PARAMS, TASKS)[0][0]

    one, two = (jax.jit(jax.grad(lambda t, m=m: loss(t, m)))(2.0) for m in (None, mj.task_mesh(4)))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    h = 1e-2
    slope = (loss(2 + h, None) - loss(2 - h, None)) / (2 * h)
    np.testing.assert_allclose(one, slope, rtol=2e-2)


def test_large_integers_stay_exact():
    """Integer inputs above 2²⁴ in `over_tasks` on a CPU."""
    x = jnp.asarray([[2**24 + 1, 2**24 + 2]] * 2, jnp.int32)
    params = {"w": jnp.asarray(1.0)}
    learner = mj.maml(lambda p, x: p["w"] * (x - 2**24), 0.0, loss=SQUARES)
    batch = mj.Batch(x, jnp.zeros((2, 2)))
    (loss, _), _ = jax.jit(mj.over_tasks(learner))(params, mj.Episode(batch, batch))
    assert loss == 2.5


MOVED = {
    "maml": lambda: mj.maml(APPLY, 0.1, 3),
    "adam": lambda: mj.maml(APPLY, inner_steps=2, inner_optimizer=optax.adam(0.1, eps_root=1e-8)),
    "imaml": lambda: mj.imaml(APPLY, 0.1, 3),
    "maml_plus_plus": lambda: mj.maml_plus_plus(APPLY, 0.1, 2),
    "proto_maml": lambda: mj.proto_maml(APPLY, 0.1, 2),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_checked_shard_map_gives_each_device_its_own_tasks(name):
    """`adapt` inside a user's own `shard_map` with `check_vma=True`."""
    learner, mesh = MOVED[name](), mj.task_mesh(4)
    meta = learner.init(PARAMS)
    adapt = jax.vmap(learner.adapt, in_axes=(None, 0))
    over = mj.over_tasks(learner)

    def local(meta, tasks):
        mean = jax.tree.map(lambda leaf: jax.lax.pmean(leaf, "tasks"), over(meta, tasks))
        return adapt(meta, tasks.support), mean

    mapped = jax.shard_map(
        local, mesh=mesh, in_specs=(P(), P("tasks")), out_specs=(P("tasks"), P()), check_vma=True
    )
    fast, mean = jax.jit(mapped)(meta, TASKS)
    assert distance(fast, jax.jit(adapt)(meta, TASKS.support)) < 1e-6
    assert distance(mean, jax.jit(over)(meta, TASKS)) < 1e-5


@pytest.mark.parametrize("given", ["mesh", "nothing", "set_mesh"])
def test_episodes_over_explicit_axes(given):
    """A mesh of `jax.make_mesh` (explicit axes), episodes sharded over it."""
    mesh = jax.make_mesh((2,), ("tasks",))
    assert mesh.axis_types == (AxisType.Explicit,)
    learner = mj.maml(APPLY, 0.1, 2)
    dealt = jax.device_put(TASKS, NamedSharding(mesh, P("tasks")))
    step = jax.jit(mj.over_tasks(learner, 1, mesh if given != "nothing" else None))
    if given == "set_mesh":
        with jax.set_mesh(mesh):
            found = step(PARAMS, dealt)
    else:
        found = step(PARAMS, dealt)
    expected = jax.jit(mj.over_tasks(learner))(PARAMS, TASKS)
    assert distance(jax.device_get(found), jax.device_get(expected)) < 1e-6


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        (jnp.arange(3), "int32[3]"),
        (jnp.ones(2, bool), "bool[2]"),
        (True, "bool"),
        (3, "int"),
        (jax.random.key(0), "key<fry>[]"),
        (jnp.ones(2, complex), "complex64[2]"),
        (jnp.tanh, "'deep/one'"),
    ],
)
def test_weights_without_a_gradient_are_named(leaf, words):
    """Integer, boolean or key leaves among the weights; complex ones, and functions."""
    params = {**PARAMS, "deep": {"one": leaf}}
    learner = mj.maml(APPLY, 0.1)
    refused(lambda: learner.init(params), "`params` held", words, "'deep/one'")
    refused(lambda: learner.value_and_grad(params, ONE), "`meta` held", "'deep/one'")
    refused(lambda: learner.adapt(params, ONE.support), "'deep/one'")


@pytest.mark.parametrize("name", OWN_META)
def test_raw_weights_are_sent_to_init(name):
    """Raw weights given to `meta_sgd`'s `value_and_grad`."""
    learner = OWN_META[name]()
    for params in (PARAMS, {"params": PARAMS}, [jnp.ones(3)]):
        for call in (
            lambda params=params: learner.value_and_grad(params, ONE),
            lambda params=params: learner.adapt(params, ONE.support),
            lambda params=params: learner.classify(params, ONE.support, ONE.query.x),
            lambda params=params: jax.jit(mj.over_tasks(learner))(params, TASKS),
        ):
            refused(call, "`learner.init(params)` first")


@pytest.mark.parametrize(
    "clip",
    [optax.clip_by_global_norm(1.0), optax.clip_by_block_rms(1.0), optax.adaptive_grad_clip(1.0)],
)
def test_clipping_has_a_derivative_at_zero(clip):
    """`optax.clip_by_global_norm` inside, a task of gradient 0: as without the clipping."""
    x = jnp.linspace(0, 1, 5)[:, None]
    support = mj.Batch(x, line(LINE, x))  # fitted exactly: the gradient is 0
    episode = mj.Episode(support, mj.Batch(x, x))
    learner = mj.maml(
        line, inner_optimizer=optax.chain(clip, optax.sgd(0.1)), inner_steps=2, loss=SQUARES
    )
    plain = mj.maml(line, 0.1, 2, loss=SQUARES)
    found, expected = (one.value_and_grad(LINE, episode) for one in (learner, plain))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found[0][0], expected[0][0], rtol=1e-6)


def test_global_clipping_at_zero_is_no_clipping():
    """`optax.clip_by_global_norm` inside, a task of gradient 0: the exact meta-gradient."""
    x = jnp.linspace(0, 1, 5)[:, None]
    episode = mj.Episode(mj.Batch(x, line(LINE, x)), mj.Batch(x, x))
    clipped = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    learner = mj.maml(line, inner_optimizer=clipped, inner_steps=2, loss=SQUARES)
    expected = mj.maml(line, 0.1, 2, loss=SQUARES).value_and_grad(LINE, episode)
    assert distance(learner.value_and_grad(LINE, episode), expected) < 1e-6


@pytest.mark.parametrize(
    ("optimizer", "options", "said"),
    [
        (optax.adam(0.1), {}, True),
        (optax.adam(0.1), {"differentiate": "first_order"}, False),
        (optax.adam(0.1, eps_root=1e-8), {}, False),
        (optax.sgd(0.1, momentum=0.9), {}, False),
    ],
)
def test_adam_without_eps_root_is_said_when_the_learner_is_made(optimizer, options, said, caplog):
    """Plain `optax.adam` inside (`eps_root=0`)."""
    with caplog.at_level(logging.WARNING, "maml_jax"):
        mj.maml(APPLY, inner_optimizer=optimizer, **options)
    assert [("eps_root" in record.message) for record in caplog.records] == [True] * said


@pytest.mark.parametrize("name", ["bn1", "gn", "norm", "layers_1"])
@pytest.mark.parametrize("names", [("scale", "bias"), ("weight", "bias")])
def test_norms_are_known_by_what_they_are(name, names):
    """MAML++ `norm_per_step` on `bn1`, `gn`."""
    params = {**PARAMS, name: dict(zip(names, (jnp.ones(5), jnp.zeros(5)), strict=True))}
    if name != "norm":
        del params["norm"]
    meta = mj.maml_plus_plus(APPLY, 0.1, 2).init(params)
    assert set(meta["norms"]) == {f"{name}/{part}" for part in names}
    assert not set(meta["norms"]) & set(meta["rates"])


def test_a_model_without_norms_is_told(caplog):
    """MAML++ `norm_per_step`: the miss is said."""
    with caplog.at_level(logging.WARNING, "maml_jax"):
        meta = mj.maml_plus_plus(APPLY, 0.1).init({"layer": PARAMS["body"]})
    assert meta["norms"] == {}
    assert "no norm was found" in caplog.text


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32", "bfloat16"])
def test_numbers_of_python_among_the_weights(precision):
    """`in_precision` with a Python float among the weights, and learning it."""
    apply = mj.in_precision(lambda p, x: p["scale"] * x + p["shift"], precision)
    params = {"scale": 2.0, "shift": jnp.ones(3)}
    x = jnp.ones((2, 3))
    learner = mj.maml(apply, 0.125, loss=SQUARES)
    fast = learner.adapt(params, mj.Batch(x, 2 * x))
    np.testing.assert_allclose(fast["scale"], 2 - 0.125 * 2)  # the error is 1 everywhere
    rounding = 2**-7 if precision == "bfloat16" else 1e-6
    np.testing.assert_allclose(fast["shift"], 1 - 0.125 * 2 / 3, rtol=rounding)


def test_a_bare_equinox_module_is_sent_to_its_adapter():
    """A bare Equinox module, given to `from_flax` and to `init`."""
    module = eqx.nn.MLP(6, 3, 5, 1, key=jax.random.key(0))
    refused(lambda: mj.from_flax(module), "`mj.from_equinox`")
    learner = mj.maml(lambda module, x: jax.vmap(module)(x), 0.1)
    refused(lambda: learner.init(module), "`mj.from_equinox`")
    params, apply = mj.from_equinox(module)
    assert mj.maml(apply, 0.1).adapt(params, ONE.support) is not None


class TwoInputs(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(jnp.full(3, 2.0))

    def __call__(self, a, b):
        return self.scale[...] * a + b


class TwoLinen(linen.Module):
    @linen.compact
    def __call__(self, a, b):
        return self.param("scale", lambda key: jnp.full(3, 2.0)) * a + b


class TwoEquinox(eqx.Module):
    scale: jax.Array

    def __call__(self, a, b):
        return self.scale * a + b


@pytest.mark.parametrize("kind", ["nnx", "linen", "equinox"])
def test_a_model_of_several_inputs_gets_the_parts_of_a_tuple(kind):
    """Several inputs, in Flax and Equinox."""
    a, b = jnp.arange(6.0).reshape(2, 3), jnp.ones((2, 3))
    if kind == "nnx":
        params, apply = mj.from_flax(TwoInputs())
    elif kind == "linen":
        module = TwoLinen()
        params, apply = mj.from_flax(module.bind(module.init(jax.random.key(0), a, b)))
    else:
        params, apply = mj.from_equinox(TwoEquinox(jnp.full(3, 2.0)))
    np.testing.assert_allclose(apply(params, (a, b)), 2 * a + b)
    refused(lambda: apply(params, a), "the inputs a, b")


def test_a_misspelt_keyword_names_the_function():
    """A misspelt keyword of `mj.maml`."""
    with pytest.raises(TypeError, match=r"^maml\(\) got an unexpected keyword"):
        mj.maml(APPLY, 0.1, inner_step=2)


def test_a_masked_support_set_changes_nothing():
    """A fully masked support set, with a loss that takes care of it."""
    support = ONE.support._replace(y=(ONE.support.y, jnp.zeros(6)))
    fast = mj.maml(APPLY, 0.1, 3, loss=masked).adapt(PARAMS, support)
    assert distance(fast, PARAMS) == 0


@pytest.mark.parametrize("name", names("algorithms"))
def test_no_steps_one_class_and_one_example(name):
    """Zero inner steps, a task of one class, one example: right values."""
    learner = find("algorithms", name)(APPLY, 0.1, 1)
    meta = learner.init(PARAMS)
    support = mj.Batch(ONE.support.x[:1], jnp.zeros(1, int))
    (loss, _), grads = learner.value_and_grad(meta, mj.Episode(support, support))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, grads)))
    fast = learner.adapt(meta, support, 0)
    if not name.startswith("proto"):
        assert distance(fast, PARAMS) == 0


@pytest.mark.parametrize("part", ["support", "query"])
def test_empty_sets_are_refused(part):
    """An empty query: one line."""
    episode = ONE._replace(**{part: task(ONE.support, slice(0))})
    refused(
        lambda: mj.maml(APPLY, 0.1).value_and_grad(PARAMS, episode), f"`{part}`", "at least one"
    )


def test_one_example_by_itself_is_refused_by_classify():
    """`classify` of an example without an axis of examples."""
    learner = mj.maml(APPLY, 0.1)
    refused(lambda: learner.classify(PARAMS, ONE.support, ONE.query.x[0]), "`x` was float32[6]")
