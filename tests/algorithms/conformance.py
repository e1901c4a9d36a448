"""The properties that every algorithm must have, for every algorithm.

Most of the time is spent compiling, so what several tests need is compiled once, by `Case`.
"""

import inspect
from functools import cache, cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import Compilations, all_but_slow, classification, conv4, distance, perceptron

import maml_jax as mj
from maml_jax.algorithms.anil import is_head
from maml_jax.registry import find, names
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.updates import State

REGISTERED = {name.replace("-", "_"): find("algorithms", name) for name in names("algorithms")}
"""Every algorithm that the register has, with its defaults: a new one needs no entry here."""
VARIANTS = {
    "maml, reverse": partial(mj.maml, differentiate="reverse"),
    "maml, momentum": lambda apply, lr, steps=1, **options: mj.maml(
        apply, inner_steps=steps, inner_optimizer=optax.sgd(lr, momentum=0.9), **options
    ),
    "maml, Adam": lambda apply, lr, steps=1, **options: mj.maml(
        apply, inner_steps=steps, inner_optimizer=optax.adam(lr, eps_root=1e-6), **options
    ),
    "maml, head only": partial(mj.maml, adapts=is_head),
    "maml, batches": partial(mj.maml, batch_size=2),
    "imaml": lambda apply, lr, steps=1, **options: mj.imaml(
        apply, lr, steps, damping=1.0, **options
    ),
    "imaml, Neumann": lambda apply, lr, steps=1, **options: mj.imaml(
        apply, lr, steps, solver="neumann", **options
    ),
    "imaml, head only": partial(mj.imaml, adapts=is_head),
    "meta_sgd, first order": partial(mj.meta_sgd, differentiate="first_order"),
    "anil, learned rates": partial(mj.meta_sgd, adapts=is_head),
    "anil, first order": partial(mj.anil, differentiate="first_order"),
    "proto_maml, first order": partial(mj.proto_maml, differentiate="first_order"),
    "proto_maml, Adam": lambda apply, lr, steps=1, **options: mj.proto_maml(
        apply, inner_steps=steps, inner_optimizer=optax.adam(lr, eps_root=1e-6), **options
    ),
    "maml_plus_plus, rates alone": partial(
        mj.maml_plus_plus, norm_per_step=False, multi_step_until=0.0
    ),
    "maml_plus_plus, norms alone": partial(
        mj.maml_plus_plus, learn_rates=False, multi_step_until=0.0
    ),
    "maml_plus_plus, losses alone": partial(
        mj.maml_plus_plus, learn_rates=False, norm_per_step=False
    ),
    "cavia": partial(mj.cavia, context_size=4),
    "pretrained, classes": partial(mj.pretrained, classes=3),
}
"""Others, and those whose defaults do not suit these small tasks."""
ALGORITHMS = REGISTERED | VARIANTS
# Those whose meta-gradient is not the derivative of the query loss, by a part of their names.
NOT_A_GRADIENT = ("fomaml", "reptile", "imaml", "first order", "scratch", "pretrained")
TRUE_GRADIENT = [name for name in ALGORITHMS if not any(n in name for n in NOT_A_GRADIENT)]

TASKS = 4


def each(names, quick=REGISTERED):
    """A test for each of these; those of one algorithm run in one process, which compiles once.

    All that is tested takes a minute of compiling for some ten of them, so all but the `quick` ones
    are slow.
    """

    def case(name):
        slow = [] if name in quick else [pytest.mark.slow]
        return pytest.param(name, marks=[pytest.mark.xdist_group(name), *slow])

    return pytest.mark.parametrize("name", list(map(case, names)))


every = each(ALGORITHMS)
# How tasks are batched is the same for all.
every_batched = each(ALGORITHMS, ("anil", "imaml", "maml", "meta_sgd", "reptile"))


class Case:
    """One algorithm at two inner steps on a small network in double precision."""

    def __init__(self, name):
        self.name = name
        self.params, self.apply = perceptron()
        self.learner = ALGORITHMS[name](self.apply, 0.3, 2)
        self.meta = self.learner.init(self.params)
        self.tasks = classification(tasks=TASKS)
        self.in_chunks = jax.jit(mj.over_tasks(self.learner, 2))
        self._gradients = {}

    def value_and_grad(self, steps):
        """The compiled `value_and_grad` of so many inner steps, which takes `progress` too."""
        if steps not in self._gradients:
            learner = ALGORITHMS[self.name](self.apply, 0.3, steps)
            self._gradients[steps] = jax.jit(learner.value_and_grad)
        return self._gradients[steps]

    @cached_property
    def adapted(self):
        """On one task: the weights after 0, 1 and 3 steps in two ways, and outputs in three."""
        learner, episode = self.learner, classification()

        @jax.jit
        def run(meta, support, x):
            path = learner.trajectory(meta, support, 3)
            fast = {steps: learner.adapt(meta, support, steps) for steps in (0, 1, 3)}
            classify = partial(learner.classify, meta, support, x, steps=1)
            outputs = learner.predict(fast[1], x), classify(), classify(transductive=True)
            return path, fast, outputs

        return run(self.meta, episode.support, episode.query.x)

    @cached_property
    def expected(self):
        """The meta-gradient's obvious twin: a Python loop over the tasks."""
        one = self.value_and_grad(2)
        each = [one(self.meta, task_of(self.tasks, t), 1.0) for t in range(TASKS)]
        return jax.tree.map(lambda *leaves: sum(leaves) / TASKS, *each)


def task_of(tasks, number):
    return jax.tree.map(lambda leaf: leaf[number], tasks)


@pytest.fixture
def case(name, x64):
    return _case(name)


_case = cache(Case)


@pytest.fixture(scope="module", autouse=True)
def forget_cases():
    yield
    _case.cache_clear()


@every
def test_no_inner_rate_leaves_the_prediction_unchanged(name):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.0, 3)
    meta, episode = learner.init(params), classification()

    @jax.jit
    def outputs(meta, support, x):
        return [learner.predict(learner.adapt(meta, support, steps), x) for steps in (0, 3)]

    before, after = outputs(meta, episode.support, episode.query.x)
    np.testing.assert_array_equal(after, before)
    if not name.startswith("proto"):  # whose head is the prototypes from the start
        np.testing.assert_array_equal(before, jax.jit(apply)(params, episode.query.x))


@each([name for name in ALGORITHMS if "batches" not in name])
def test_adaptation_lowers_the_support_loss(name):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.003, 5)  # small enough for momentum and Adam too

    @jax.jit
    def losses(meta, support):
        path = learner.trajectory(meta, support, 5)
        return jax.vmap(lambda fast: learner.loss(apply(fast, support.x), support.y))(path)

    values = losses(learner.init(params), classification().support).tolist()
    assert len(values) == 6
    assert values == sorted(values, reverse=True)


@every
def test_trajectory_is_adaptation_step_by_step(case):
    path, fast, _ = case.adapted
    for step, weights in fast.items():
        assert distance(task_of(path, step), weights) < 1e-15


@every
def test_classify_is_the_adapted_network(case):
    """Without batch norm, beside the support set and all together are the same."""
    expected, alone, together = case.adapted[2]
    assert distance(alone, expected) < 1e-14
    assert distance(together, expected) < 1e-14


@every_batched
def test_chunks_do_not_change_the_meta_gradient(case):
    assert distance(case.in_chunks(case.meta, case.tasks), case.expected) < 1e-13


@pytest.mark.parametrize("name", ["maml"])
@pytest.mark.parametrize("chunk", all_but_slow([1, 3, 9], 3))  # 3 leave a remainder of 1
def test_any_chunk_will_do(case, chunk):
    step = jax.jit(mj.over_tasks(case.learner, chunk))
    assert distance(step(case.meta, case.tasks), case.expected) < 1e-13


@every_batched
def test_the_order_of_tasks_does_not_change_the_meta_gradient(case):
    order = jnp.array([3, 0, 1, 2])
    permuted = case.in_chunks(case.meta, task_of(case.tasks, order))
    assert distance(permuted, case.expected) < 1e-13


@every_batched
def test_adapted_weights_do_not_depend_on_other_tasks(case):
    adapt, support = case.learner.adapt, case.tasks.support
    together = jax.jit(jax.vmap(adapt, in_axes=(None, 0)))(case.meta, support)
    alone = jax.jit(adapt)(case.meta, task_of(support, 2))
    assert distance(task_of(together, 2), alone) < 1e-14


SCHEDULED = [name for name in TRUE_GRADIENT if "plus_plus" in name]


def finite_difference(case, steps, progress):
    """The slope of the query loss along a random direction, and that of the meta-gradient."""
    episode, value_and_grad = classification(), case.value_and_grad(steps)
    rng = np.random.default_rng(1)
    meta = ALGORITHMS[case.name](case.apply, 0.3, steps).init(case.params)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), meta)

    def loss(t):
        moved = jax.tree.map(lambda leaf, d: leaf + t * d, meta, direction)
        return value_and_grad(moved, episode, progress)[0][0]

    h = 2e-5  # the fourth-order formula errs by h⁴, the rounding by 1e-16/h
    slope = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    _, grads = value_and_grad(meta, episode, progress)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), grads, direction)
    return slope, sum(jax.tree.leaves(products))


@each(TRUE_GRADIENT)
@pytest.mark.parametrize("steps", all_but_slow([1, 2, 3], 2))
def test_finite_differences_agree(case, steps):
    slope, product = finite_difference(case, steps, 1.0)
    np.testing.assert_allclose(product, slope, rtol=1e-8)


@each(SCHEDULED)
def test_finite_differences_agree_where_the_losses_of_all_steps_count(case):
    slope, product = finite_difference(case, 3, 0.03)
    np.testing.assert_allclose(product, slope, rtol=1e-8)


def is_differentiated_in_two_ways(name):
    own = REGISTERED.get(name)
    return own is None or "differentiate" in inspect.signature(own).parameters


@each(list(filter(is_differentiated_in_two_ways, TRUE_GRADIENT)))
def test_mixed_equals_reverse(case):
    mode = "mixed" if "reverse" in case.name else "reverse"
    other = ALGORITHMS[case.name](case.apply, 0.3, 2, differentiate=mode)
    arguments = case.meta, classification(), 0.03
    assert (
        distance(case.value_and_grad(2)(*arguments), jax.jit(other.value_and_grad)(*arguments))
        < 1e-12
    )


KINDS_OF_META = (
    "maml",
    "meta_sgd",
    "anil, learned rates",
    "maml_plus_plus",
    "cavia",
    "meta_curvature",
    "pretrained, classes",
)


@pytest.mark.parametrize("name", KINDS_OF_META)
def test_meta_parameters_go_through_a_checkpoint_and_back(name, tmp_path):
    params, apply = perceptron()
    meta = ALGORITHMS[name](apply, 0.3, 2).init(params)
    seven, key = jnp.asarray(7, jnp.int32), jax.random.key_data(jax.random.key(3))
    state = State(meta, optax.adam(1e-3).init(meta), seven, seven, key)
    Checkpoints(tmp_path).save(7, state, {"config": name})
    restored, record = Checkpoints(tmp_path).restore(jax.tree.map(jnp.zeros_like, state))
    assert record == {"config": name}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for got, saved in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(got, saved)


@every
# All tests above compute in float64.
@pytest.mark.parametrize("precision", all_but_slow(["float32", "float64"], "float32"))
def test_keeps_the_precision_of_its_weights(name, precision):
    with jax.enable_x64(precision == "float64"):
        params, apply = perceptron()
        learner = ALGORITHMS[name](apply, 0.3, 2)
        meta = learner.init(params)
        result = jax.eval_shape(learner.value_and_grad, meta, classification())
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(precision)}


@each(ALGORITHMS, ("imaml", "maml", "protonet"))
def test_what_jit_compiles_is_what_runs_without_it(case):
    with jax.disable_jit():
        found = case.learner.value_and_grad(case.meta, task_of(case.tasks, 0))
        tasks = task_of(case.tasks, slice(2))
        together = mj.over_tasks(case.learner, 2)(case.meta, tasks)
    expected = case.value_and_grad(2)(case.meta, task_of(case.tasks, 0))
    assert distance(found, expected) < 1e-13
    assert distance(together, jax.jit(mj.over_tasks(case.learner, 2))(case.meta, tasks)) < 1e-13


@every_batched
def test_the_second_call_compiles_nothing(name):
    params, apply = perceptron()
    learner = ALGORITHMS[name](apply, 0.3, 2)
    step = jax.jit(mj.over_tasks(learner))
    meta = learner.init(params)
    first, second = classification(tasks=4, seed=0), classification(tasks=4, seed=1)
    with Compilations() as warming:
        (_, _), grads = step(meta, first)
    assert warming.count == 1
    moved = jax.block_until_ready(jax.tree.map(jnp.subtract, meta, grads))
    with Compilations() as again:
        jax.block_until_ready(step(moved, second))
    assert again.count == 0


@every_batched
def test_a_mesh_of_two_devices_gives_the_same(case):
    step = jax.jit(mj.over_tasks(case.learner, 2, mj.task_mesh(2)))
    assert distance(step(case.meta, case.tasks), case.expected) < 1e-13


@pytest.mark.parametrize("name", ["maml"])
@pytest.mark.parametrize("count", all_but_slow([1, 4], 1))
def test_any_number_of_tasks_goes_over_two_devices(case, count):
    some = task_of(case.tasks, slice(count))
    mesh = jax.make_mesh((2,), ("tasks",))
    expected = jax.jit(mj.over_tasks(case.learner))(case.meta, some)
    assert distance(jax.jit(mj.over_tasks(case.learner, None, mesh))(case.meta, some), expected) < (
        1e-13
    )


@pytest.mark.slow  # ten seconds of compiling each
@pytest.mark.parametrize("downsample", ["stride", "maxpool"])
@pytest.mark.parametrize("steps", [1, 3])
def test_mixed_equals_reverse_on_conv4(downsample, steps, x64):
    params, apply = conv4(downsample, filters=4)
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), params)
    episode = classification(size=(28, 28, 1))
    results = [
        jax.jit(mj.maml(apply, 0.4, steps, differentiate=mode).value_and_grad)(params, episode)
        for mode in ("mixed", "reverse")
    ]
    assert distance(*results) < 1e-12
