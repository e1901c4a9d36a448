"""Ten programs of `mj.bilevel`, each against a plain loop in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P
from problems import all_but_slow, classification, distance, perceptron

import maml_jax as mj

pytestmark = pytest.mark.usefixtures("x64")

RATE, STEPS = 0.3, 3


def cross_entropy(logits, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def descend(loss, weights, steps=STEPS, rate=RATE):
    """The plain loop: `loss(weights, k)` descended from `weights`, all weights on the way."""
    path = [weights]
    for k in range(steps):
        slopes = jax.grad(loss)(path[-1], k)
        path.append(jax.tree.map(lambda w, g: w - rate * g, path[-1], slopes))
    return path


def agree(learner, meta, episode, plain, key=None, tolerance=1e-12):
    """`value_and_grad` is the value and the derivative of `plain(meta)`."""
    given = {} if key is None else {"key": key}
    (value, _), grads = jax.jit(learner.value_and_grad)(meta, episode, **given)
    expected, slopes = jax.jit(jax.value_and_grad(plain))(meta)
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    assert distance(grads, slopes) < tolerance
    return grads


def plain_objective(apply):
    """The objective of `mj.maml`, as a program of `mj.bilevel` has it."""

    def objective(weights, meta, batch, key):
        return cross_entropy(apply(weights, batch.x), batch.y).mean()

    return objective


@pytest.mark.parametrize("differentiate", ["mixed", "reverse", "first_order"])
def test_maml_is_an_instance(differentiate):
    (params, apply), episode = perceptron(), classification()
    objective = plain_objective(apply)
    learner = mj.bilevel(objective, objective, RATE, STEPS, differentiate=differentiate)
    maml = mj.maml(apply, RATE, STEPS, differentiate=differentiate)
    (value, metrics), grads = learner.value_and_grad(learner.init(params), episode)
    (expected, _), slopes = maml.value_and_grad(params, episode)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    assert distance(grads["params"], slopes) < 1e-13
    assert set(metrics) == {"loss"}


def test_1_a_regulariser_towards_the_initial_weights():
    (params, apply), episode = perceptron(), classification()

    def inner(weights, meta, batch, key):
        loss = cross_entropy(apply(weights, batch.x), batch.y).mean()
        gap = jax.tree.map(lambda w, start: jnp.sum((w - start) ** 2), weights, meta["params"])
        return loss + meta["hyper"]["pull"] * sum(jax.tree.leaves(gap))

    outer = plain_objective(apply)
    learner = mj.bilevel(inner, outer, RATE, STEPS, hyper={"pull": jnp.asarray(0.2)})
    meta = learner.init(params)

    def plain(meta):
        path = descend(lambda w, k: inner(w, meta, episode.support, None), meta["params"])
        return outer(path[-1], meta, episode.query, None)

    grads = agree(learner, meta, episode, plain)
    assert abs(grads["hyper"]["pull"]) > 1e-4


def test_2_dropout_with_a_key_that_is_new_in_each_step():
    (params, apply), episode = perceptron(), classification()

    def inner(weights, meta, batch, key):
        kept = jax.random.bernoulli(key, 0.8, batch.x.shape)  # a key is there in training
        return cross_entropy(apply(weights, batch.x * kept / 0.8), batch.y).mean()

    learner = mj.bilevel(inner, plain_objective(apply), RATE, STEPS, predict=apply)
    meta, key = learner.init(params), jax.random.key(7)
    inside, _ = jax.random.split(key)

    def adapted(meta):
        def loss(weights, k):
            return inner(weights, meta, episode.support, jax.random.fold_in(inside, k))

        return descend(loss, meta["params"])[-1]

    def plain(meta):
        return plain_objective(apply)(adapted(meta), meta, episode.query, None)

    agree(learner, meta, episode, plain, key)
    fast = learner.adapt(meta, episode.support, key=key)
    assert distance(fast, adapted(meta)) < 1e-13
    assert distance(fast, learner.adapt(meta, episode.support, key=jax.random.key(8))) > 1e-4
    expected = apply(fast, episode.query.x)  # without dropout
    np.testing.assert_allclose(learner.predict(fast, episode.query.x), expected, rtol=1e-13)


def test_2_each_task_and_update_has_its_own_key():
    params = {"w": jnp.zeros(())}

    def noise(weights, meta, batch, key):
        return weights["w"] * 0 + jax.random.normal(key, dtype=jnp.float64)

    learner = mj.bilevel(noise, noise, RATE, 1)
    meta, tasks = learner.init(params), classification(tasks=4)
    key = jax.random.key(3)
    ones = [
        learner.value_and_grad(meta, jax.tree.map(lambda leaf, t=t: leaf[t], tasks), key=one)
        for t, one in enumerate(jax.random.split(key, 4))
    ]
    values = np.asarray([value for (value, _), _ in ones])
    assert len(set(values)) == 4
    for mesh in (None, mj.task_mesh(4)):
        step = jax.jit(mj.over_tasks(learner, 2, mesh))
        np.testing.assert_allclose(step(meta, tasks, key=key)[0][0], values.mean(), rtol=1e-12)


MASKED = {"example": "mask", "way": "ways"}


def masked_objective(apply):
    """Padded examples have the mask 0, padded ways no logits."""

    def objective(weights, meta, batch, key):
        logits = jnp.where(batch["ways"], apply(weights, batch["x"]), -jnp.inf)
        each = jnp.where(batch["mask"] > 0, cross_entropy(logits, batch["y"]), 0)
        return (batch["mask"] * each).sum() / batch["mask"].sum()

    return objective


def padded(batch, ways, most, weights=None):
    """The batch as 12 examples and `most` ways, those beyond its own filled with anything."""
    count = len(batch.y)
    x = jnp.full((12, batch.x.shape[1]), 3.0).at[:count].set(batch.x)
    mask = jnp.zeros(12).at[:count].set(1.0 if weights is None else weights)
    y = jnp.zeros(12, jnp.int32).at[:count].set(batch.y)
    return {"x": x, "y": y, "mask": mask, "ways": jnp.arange(most) < ways}


RAGGED = mj.bilevel(
    masked_objective(perceptron()[1]), masked_objective(perceptron()[1]), RATE, STEPS
)
RAGGED_STEP = jax.jit(mj.over_tasks(RAGGED, 2))


@settings(max_examples=4, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(2, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9)),
        min_size=2,
        max_size=2,
    )
)
def test_3_tasks_of_unequal_shots_queries_and_ways(sizes):
    with jax.enable_x64(True):
        params, apply = perceptron()
        expected, tasks = [], []
        for ways, shots, queries, seed in sizes:
            one = classification(ways=ways, shots=shots, queries=queries, seed=seed)
            episode = mj.Episode(*(padded(batch, ways, 3) for batch in one))
            tasks.append(episode)
            # The unpadded problem, on a head of so many ways, by plain MAML.
            cut = {
                **params,
                "head": jax.tree.map(lambda leaf, n=ways: leaf[..., :n], params["head"]),
            }
            (value, _), grads = mj.maml(apply, RATE, STEPS).value_and_grad(cut, one)
            grads["head"] = jax.tree.map(
                lambda g, like: jnp.zeros_like(like).at[..., : g.shape[-1]].set(g),
                grads["head"],
                params["head"],
            )
            expected.append((value, grads))
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
        (value, _), grads = RAGGED_STEP(RAGGED.init(params), batch)
        mean, slopes = jax.tree.map(lambda a, b: (a + b) / 2, *expected)
        np.testing.assert_allclose(value, mean, rtol=1e-12)
        assert distance(grads["params"], slopes) < 1e-12


def test_3_padded_examples_change_nothing_whatever_they_hold():
    (params, apply), one = perceptron(), classification()
    objective = masked_objective(apply)
    learner = mj.bilevel(objective, objective, RATE, STEPS)
    meta, weights = learner.init(params), jnp.linspace(0.5, 2, 6)
    episode = mj.Episode(*(padded(batch, 3, 3, weights) for batch in one))
    other = jax.tree.map(lambda leaf: leaf, episode)
    for batch in other:
        batch["x"] = batch["x"].at[6:].set(-7.0)
    results = [jax.jit(learner.value_and_grad)(meta, each) for each in (episode, other)]
    for leaf, same in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_4_several_inputs_and_several_heads():
    rng = np.random.default_rng(0)
    params = {
        "picture": jnp.asarray(rng.normal(size=(6, 5))),
        "sound": jnp.asarray(rng.normal(size=(4, 5))),
        "class": jnp.asarray(rng.normal(size=(5, 3))),
        "age": jnp.asarray(rng.normal(size=(5, 1))),
    }

    def objective(weights, meta, batch, key):
        hidden = jnp.tanh(batch["picture"] @ weights["picture"] + batch["sound"] @ weights["sound"])
        of_class = cross_entropy(hidden @ weights["class"], batch["class"]).mean()
        of_age = jnp.mean((hidden @ weights["age"] - batch["age"]) ** 2)
        balance = meta["hyper"]["balance"]
        return of_class * jnp.exp(-balance[0]) + of_age * jnp.exp(-balance[1]) + balance.sum()

    def batch(n):
        inputs = {"picture": rng.random((n, 6)), "sound": rng.random((n, 4))}
        return jax.tree.map(
            jnp.asarray, {**inputs, "class": np.arange(n) % 3, "age": rng.random((n, 1))}
        )

    episode, hyper = mj.Episode(batch(6), batch(9)), {"balance": jnp.asarray([0.1, -0.2])}
    learner = mj.bilevel(objective, objective, 0.1, STEPS, hyper=hyper)

    def plain(meta):
        path = descend(
            lambda w, k: objective(w, meta, episode.support, None), meta["params"], rate=0.1
        )
        return objective(path[-1], meta, episode.query, None)

    agree(learner, learner.init(params), episode, plain)


@pytest.mark.parametrize("stored_steps", all_but_slow([None, 3], 3))
def test_5_a_stream(stored_steps):
    (params, apply), batches = perceptron(), classification(tasks=7).support
    objective = plain_objective(apply)
    learner = mj.bilevel(
        objective,
        objective,
        RATE,
        inner_steps=7,
        stream=True,
        outer_steps="each",
        stored_steps=stored_steps,
    )
    at = [jax.tree.map(lambda leaf, k=k: leaf[k], batches) for k in range(7)]

    def plain(meta):
        path = descend(lambda w, k: objective(w, meta, at[k], None), meta["params"], 7)
        losses = [objective(w, meta, one, None) for w, one in zip(path, at, strict=False)]
        return sum(losses) / 7

    meta = learner.init(params)
    agree(learner, meta, mj.Episode(batches, batches), plain)
    short = mj.Episode(jax.tree.map(lambda leaf: leaf[:6], batches), batches)
    with pytest.raises(mj.InputError, match="there are 7 steps"):
        learner.value_and_grad(meta, short)


def test_6_learned_rates_example_weights_and_coefficients():
    (params, apply), episode = perceptron(), classification()
    hyper = {
        "rates": {"body": 0.3, "norm": 0.1, "head": 0.5},
        "example": jnp.linspace(-1.0, 1, 6),
        "decay": 0.01,
    }
    hyper = jax.tree.map(jnp.asarray, hyper)

    def inner(weights, meta, batch, key):
        shares = jax.nn.softmax(meta["hyper"]["example"])
        size = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))
        each = cross_entropy(apply(weights, batch.x), batch.y)
        return (shares * each).sum() + meta["hyper"]["decay"] * size

    outer = plain_objective(apply)
    learner = mj.bilevel(inner, outer, lambda hyper: hyper["rates"], STEPS, hyper=hyper)

    def plain(meta):
        fast = meta["params"]
        for _ in range(STEPS):
            slopes = jax.grad(inner)(fast, meta, episode.support, None)
            fast = {
                layer: jax.tree.map(lambda w, g, r=rate: w - r * g, fast[layer], slopes[layer])
                for layer, rate in meta["hyper"]["rates"].items()
            }
        return outer(fast, meta, episode.query, None)

    grads = agree(learner, learner.init(params), episode, plain)
    assert all(jnp.abs(leaf).max() > 1e-5 for leaf in jax.tree.leaves(grads["hyper"]))


def test_6_learned_settings_of_an_optimizer():
    (params, apply), episode = perceptron(), classification()
    objective = plain_objective(apply)
    learner = mj.bilevel(
        objective,
        objective,
        inner_optimizer=lambda hyper: optax.sgd(hyper["rate"], momentum=hyper["momentum"]),
        inner_steps=STEPS,
        hyper={"rate": jnp.asarray(0.2), "momentum": jnp.asarray(0.7)},
    )

    def plain(meta):
        fast, hyper = meta["params"], meta["hyper"]
        moving = jax.tree.map(jnp.zeros_like, fast)
        for _ in range(STEPS):
            slopes = jax.grad(objective)(fast, meta, episode.support, None)
            moving = jax.tree.map(lambda m, g: hyper["momentum"] * m + g, moving, slopes)
            fast = jax.tree.map(lambda w, m: w - hyper["rate"] * m, fast, moving)
        return objective(fast, meta, episode.query, None)

    agree(learner, learner.init(params), episode, plain)


def normed(weights, x, mean, variance):
    """A network with batch norm by these statistics."""
    hidden = (x @ weights["body"] - mean) / jnp.sqrt(variance + 1e-3)
    return jnp.tanh(hidden) @ weights["head"]


def backbone():
    rng = np.random.default_rng(0)
    weights = {"body": rng.normal(size=(6, 5)), "head": rng.normal(size=(5, 3))}
    statistics = {"mean": rng.normal(size=5), "variance": 1 + rng.random(5)}
    return jax.tree.map(jnp.asarray, (weights, statistics))


def test_7_running_statistics_frozen():
    (weights, statistics), episode = backbone(), classification()

    def objective(weights, meta, batch, key):
        return cross_entropy(normed(weights, batch.x, **statistics), batch.y).mean()

    learner = mj.bilevel(objective, objective, RATE, STEPS)

    def plain(meta):
        path = descend(lambda w, k: objective(w, meta, episode.support, None), meta["params"])
        return objective(path[-1], meta, episode.query, None)

    agree(learner, learner.init(weights), episode, plain)


@pytest.mark.parametrize("differentiate", all_but_slow(["mixed", "reverse"], "mixed"))
def test_7_running_statistics_carried(differentiate):
    (weights, statistics), episode = backbone(), classification()

    def inner(weights, meta, batch, key):
        hidden = batch.x @ weights["body"]
        now = {"mean": hidden.mean(0), "variance": hidden.var(0)}
        running = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, weights["running"], now)
        loss = cross_entropy(normed(weights, batch.x, **now), batch.y).mean()
        return loss, {"running": running}

    def outer(weights, meta, batch, key):
        return cross_entropy(normed(weights, batch.x, **weights["running"]), batch.y).mean()

    learner = mj.bilevel(
        inner,
        outer,
        RATE,
        STEPS,
        adapts=lambda path: not path.startswith("running"),
        differentiate=differentiate,
    )
    meta = learner.init({**weights, "running": statistics})

    def plain(meta):
        fast = meta["params"]
        for _ in range(STEPS):
            fast = {**fast, "running": jax.lax.stop_gradient(fast["running"])}
            slopes, changed = jax.grad(inner, has_aux=True)(fast, meta, episode.support, None)
            moved = {name: fast[name] - RATE * slopes[name] for name in ("body", "head")}
            fast = {**moved, **jax.lax.stop_gradient(changed)}
        return outer(fast, meta, episode.query, None)

    agree(learner, meta, episode, plain)
    fast = learner.adapt(meta, episode.support)
    assert distance(fast["running"], statistics) > 1e-2
    with pytest.raises(mj.InputError, match="running, which adapts too"):
        mj.bilevel(inner, outer, RATE, STEPS).value_and_grad(meta, episode)


def test_8_metrics_of_ones_own():
    (params, apply), episode = perceptron(), classification()

    def outer(weights, meta, batch, key):
        logits = apply(weights, batch.x)
        shares = jax.nn.softmax(logits)
        metrics = {"entropy": -(shares * jnp.log(shares)).sum(-1).mean(), "largest": shares.max()}
        return cross_entropy(logits, batch.y).mean(), metrics

    learner = mj.bilevel(plain_objective(apply), outer, RATE, STEPS)
    meta = learner.init(params)
    (value, metrics), _ = learner.value_and_grad(meta, episode)
    expected, own = outer(learner.adapt(meta, episode.support), meta, episode.query, None)
    assert set(metrics) == {"loss", "entropy", "largest"}
    assert distance(metrics, {"loss": expected, **own}) < 1e-13
    assert value == metrics["loss"]
    bad = mj.bilevel(plain_objective(apply), lambda *_: (value, {"loss": value}), RATE)
    with pytest.raises(mj.InputError, match="without 'loss'"):
        bad.value_and_grad(meta, episode)


MODES = ["mixed", "reverse", "first_order", "implicit"]


@pytest.mark.parametrize("differentiate", all_but_slow(MODES, "reverse", "implicit"))
def test_9_transformations_of_jax(differentiate):
    """`vmap`, `grad`, `jit`, `scan`, `shard_map` with its check, forward mode, Hessian products."""
    (params, apply), tasks = perceptron(), classification(tasks=2)
    objective = plain_objective(apply)
    learner = mj.bilevel(objective, objective, RATE, STEPS, differentiate=differentiate)
    meta, key = learner.init(params), jax.random.key(0)
    one = jax.tree.map(lambda leaf: leaf[0], tasks)
    adapt = jax.jit(learner.adapt)
    alone = adapt(meta, one.support, key=key)

    together = jax.jit(jax.vmap(learner.adapt, in_axes=(None, 0)))(meta, tasks.support)
    assert distance(jax.tree.map(lambda leaf: leaf[0], together), alone) < 1e-13
    _, in_scan = jax.lax.scan(lambda _, s: (0, learner.adapt(meta, s)), 0, tasks.support)
    assert distance(in_scan, together) < 1e-13
    mapped = jax.shard_map(
        jax.vmap(learner.adapt, in_axes=(None, 0)),
        mesh=mj.task_mesh(2),
        in_specs=(P(), P("tasks")),
        out_specs=P("tasks"),
    )
    assert distance(jax.jit(mapped)(meta, tasks.support), together) < 1e-13

    def loss(meta):
        return jnp.sum(learner.adapt(meta, one.support)["head"]["bias"] ** 2)

    def slope(meta):
        products = jax.tree.map(jnp.vdot, jax.grad(loss)(meta), meta)
        return sum(jax.tree.leaves(products))

    if differentiate == "mixed":
        with pytest.raises(mj.InputError, match='pass `differentiate="reverse"`'):
            jax.jvp(loss, (meta,), (meta,))
        # Reverse over reverse, of which the inner gradient is differentiated once more.
        twice = jax.jit(jax.grad(slope))(meta)
        exact = mj.bilevel(objective, objective, RATE, STEPS, differentiate="reverse")

        def through(meta):
            return jnp.sum(exact.adapt(meta, one.support)["head"]["bias"] ** 2)

        _, product = jax.jit(lambda m: jax.jvp(jax.grad(through), (m,), (m,)))(meta)
        gradient = jax.grad(through)(meta)
        assert distance(twice, jax.tree.map(jnp.add, product, gradient)) < 1e-11
    else:
        np.testing.assert_allclose(jax.jvp(loss, (meta,), (meta,))[1], slope(meta), rtol=1e-10)


def to_a_tolerance(objective, start):
    """Gradient descent until the gradient is small: a minimiser that stops by itself."""
    gradient = jax.grad(objective)

    def unfinished(weights):
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient(weights))) > 1e-26

    def step(weights):
        return jax.tree.map(lambda w, g: w - 0.3 * g, weights, gradient(weights))

    return jax.lax.while_loop(unfinished, step, start)


def of_optimistix(objective, start):
    """The way that docs/your-own-problem.md names."""
    optimistix = pytest.importorskip("optimistix")
    solver = optimistix.BFGS(rtol=1e-13, atol=1e-13)
    return optimistix.minimise(lambda weights, _: objective(weights), solver, start).value


# BFGS stops by how little values and weights change, the other by the gradient itself.
@pytest.mark.parametrize(
    ("minimizer", "reached"), [(to_a_tolerance, 1e-12), (of_optimistix, 1e-10)]
)
def test_10_an_inner_solver_that_stops_by_itself(minimizer, reached):
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(8, 3))), jnp.asarray(rng.normal(size=8))
    episode = mj.Episode(mj.Batch(x[:5], y[:5]), mj.Batch(x[5:], y[5:]))

    def error(weights, batch):
        return jnp.mean((batch.x @ weights["w"] - batch.y) ** 2)

    def inner(weights, meta, batch, key):
        pull = jnp.exp(meta["hyper"]["pull"])
        return error(weights, batch) + pull * jnp.sum((weights["w"] - meta["params"]["w"]) ** 2)

    def outer(weights, meta, batch, key):
        return error(weights, batch)

    learner = mj.bilevel(
        inner,
        outer,
        minimizer=minimizer,
        differentiate="implicit",
        hyper={"pull": jnp.asarray(-1.0)},
    )
    meta = learner.init({"w": jnp.asarray([0.5, -0.5, 1.0])})

    def ridge(meta):
        """The minimum in closed form."""
        x, y = episode.support
        pull = jnp.exp(meta["hyper"]["pull"])
        matrix = x.T @ x / len(y) + pull * jnp.eye(3)
        return {"w": jnp.linalg.solve(matrix, x.T @ y / len(y) + pull * meta["params"]["w"])}

    agree(learner, meta, episode, lambda meta: error(ridge(meta), episode.query), tolerance=1e-10)
    assert distance(learner.adapt(meta, episode.support), ridge(meta)) < reached
    # Both modes through `adapt` itself, though it has no steps to go through.
    tangent = jax.tree.map(jnp.ones_like, meta)
    for function in (lambda m: learner.adapt(m, episode.support), ridge):
        _, forward = jax.jvp(function, (meta,), (tangent,))
        reverse = jax.grad(lambda m, f=function: error(f(m), episode.query))(meta)
        results = (forward, reverse) if function is ridge else (found := (forward, reverse))
    assert distance(found, results) < 1e-9
    (_, metrics), _ = learner.value_and_grad(meta, episode)
    assert metrics["solver_residual"] < 1e-9
    with pytest.raises(mj.InputError, match='pass `differentiate="implicit"`'):
        mj.bilevel(inner, outer, minimizer=minimizer)


def test_an_implicit_derivative_carries_nothing():
    (weights, statistics), episode = backbone(), classification()

    def inner(weights, meta, batch, key):
        return jnp.sum(weights["body"] ** 2), {"running": weights["running"]}

    learner = mj.bilevel(
        inner,
        lambda weights, *_: jnp.sum(weights["head"]),
        RATE,
        adapts=lambda path: not path.startswith("running"),
        differentiate="implicit",
    )
    meta = learner.init({**weights, "running": statistics})
    with pytest.raises(mj.InputError, match='"implicit", which knows a minimum and no steps'):
        learner.value_and_grad(meta, episode)


def test_train_gives_keys_and_refusals_are_one_line():
    params, apply = perceptron(features=1, outputs=1)
    tasks = mj.data.load("sinusoid").tasks("train", shots=5, queries=5)

    def inner(weights, meta, batch, key):
        noise = jax.random.normal(key, batch.y.shape)  # there is a key
        return jnp.mean((apply(weights, batch.x) + 0.01 * noise - batch.y) ** 2)

    def outer(weights, meta, batch, key):
        error = apply(weights, batch.x) - batch.y
        return jnp.mean(error**2), {"largest": jnp.abs(error).max()}

    learner = mj.bilevel(inner, outer, 0.01, 2, gradient_norms=True, predict=apply)
    meta, log = mj.train(learner, params, tasks, updates=4, tasks_per_update=2, progress=False)
    assert set(meta) == {"params", "hyper"}
    assert set(log[-1]) == {"update", "loss", "largest"}
    episode = tasks.batch(jax.random.key(0), 1)
    one = jax.tree.map(lambda leaf: leaf[0], episode)
    with pytest.raises(mj.InputError, match="`key` was None, and `inner` draws"):
        learner.adapt(meta, one.support)

    def value(*arguments):
        return outer(*arguments)[0]

    with pytest.raises(mj.InputError, match="objectives of its own and no loss"):
        mj.evaluate(mj.bilevel(value, outer, 0.01, predict=apply), meta, tasks, count=2)
    without = mj.bilevel(value, outer, 0.01, 2)
    with pytest.raises(mj.InputError, match="`predict` was None"):
        without.predict(meta["params"], jnp.ones((2, 1)))
    maml = mj.maml(apply, 0.01, loss=mj.losses.mean_squared_error)
    with pytest.raises(mj.InputError, match="`key` was given"):
        maml.adapt(params, one.support, key=jax.random.key(0))
