"""Every algorithm by hand, and their arguments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import classification, distance, perceptron

import maml_jax as mj
from maml_jax.errors import InputError


def line(params, x):
    return params["slope"] * x + params["offset"]


# By hand. θ = (1, 2), support (x=1, y=0): L_S = (slope + offset)², so ∇L_S = 2·3·(1, 1) = (6, 6).
# α = 0.1: φ = (0.4, 1.4). Query (x=2, y=1): residual 2·0.4 + 1.4 − 1 = 1.2, L_Q = 1.44,
# v = ∇L_Q(φ) = 2·1.2·(2, 1) = (4.8, 2.4). H = 2·[[1, 1], [1, 1]], Hv = (14.4, 14.4).
# MAML: (I − αH)v = (4.8 − 1.44, 2.4 − 1.44) = (3.36, 0.96). FOMAML: v.
THETA = {"slope": np.float64(1.0), "offset": np.float64(2.0)}
EPISODE = mj.Episode(
    mj.Batch(np.array([1.0]), np.array([0.0])), mj.Batch(np.array([2.0]), np.array([1.0]))
)


@pytest.mark.parametrize(
    ("algorithm", "options", "slope", "offset"),
    [
        (mj.maml, {"differentiate": "mixed"}, 3.36, 0.96),
        (mj.maml, {"differentiate": "reverse"}, 3.36, 0.96),
        (mj.fomaml, {}, 4.8, 2.4),
    ],
)
def test_by_hand(algorithm, options, slope, offset, x64):
    learner = algorithm(line, 0.1, 1, loss=mj.losses.mean_squared_error, **options)
    fast = learner.adapt(THETA, EPISODE.support)
    np.testing.assert_allclose([fast["slope"], fast["offset"]], [0.4, 1.4], rtol=1e-14)
    (loss, metrics), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.44, rtol=1e-14)
    np.testing.assert_allclose([grads["slope"], grads["offset"]], [slope, offset], rtol=1e-14)
    assert set(metrics) == {"loss"}  # no accuracy in regression


def line_learner(algorithm, lr=0.1, steps=1, **options):
    return algorithm(line, lr, steps, loss=mj.losses.mean_squared_error, **options)


def close(tree, expected):
    assert jax.tree.structure(tree) == jax.tree.structure(expected)
    for value, hand in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(value, hand, rtol=1e-13, atol=1e-15)


def of(slope, offset):
    return {"slope": slope, "offset": offset}


def test_reptile_by_hand(x64):
    """θ − φ = α∇L_S(θ) = 0.1·(6, 6)."""
    (loss, _), grads = line_learner(mj.reptile).value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.44, rtol=1e-14)
    close(grads, of(0.6, 0.6))


@pytest.mark.parametrize(
    ("differentiate", "params"),
    [("mixed", (3.36, 0.96)), ("reverse", (3.36, 0.96)), ("first_order", (4.8, 2.4))],
)
def test_meta_sgd_by_hand(differentiate, params, x64):
    """φ = θ − a∘g, so dL_Q/da = −g∘v = −6·(4.8, 2.4), whether g is constant or not."""
    learner = line_learner(mj.meta_sgd, differentiate=differentiate)
    _, grads = learner.value_and_grad(learner.init(THETA), EPISODE)
    close(grads, {"params": of(*params), "rates": of(-28.8, -14.4)})


def test_meta_curvature_by_hand(x64):
    """φ = θ − αMg with M of 1×1: dL_Q/dM = −α·6·(4.8, 2.4)."""
    learner = line_learner(mj.meta_curvature)
    _, grads = learner.value_and_grad(learner.init(THETA), EPISODE)
    curvature = {
        "slope": {"outputs": np.array([[-2.88]])},
        "offset": {"outputs": np.array([[-1.44]])},
    }
    close(grads, {"params": of(3.36, 0.96), "curvature": curvature})


def test_meta_curvature_multiplies_each_axis_by_its_matrix(x64):
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(2, 3, 4, 5))}

    def apply(params, x):
        return jnp.einsum("nhwi,hwio->no", x, params["kernel"])

    learner = mj.meta_curvature(apply, 0.5, loss=mj.losses.mean_squared_error)
    meta = learner.init(params)
    m = {"positions": 6, "inputs": 4, "outputs": 5}
    m = {axis: rng.normal(size=(n, n)) for axis, n in m.items()}
    assert {axis: matrix.shape for axis, matrix in meta["curvature"]["kernel"].items()} == {
        axis: matrix.shape for axis, matrix in m.items()
    }
    meta = {**meta, "curvature": {"kernel": m}}
    support = mj.Batch(rng.normal(size=(7, 2, 3, 4)), rng.normal(size=(7, 5)))
    slope = jax.grad(lambda p: jnp.square(apply(p, support.x) - support.y).mean())(params)
    slope = slope["kernel"].reshape(6, 4, 5)
    preconditioned = np.einsum(
        "ap,bi,co,pio->abc", m["positions"], m["inputs"], m["outputs"], slope
    )
    expected = params["kernel"] - 0.5 * preconditioned.reshape(2, 3, 4, 5)
    np.testing.assert_allclose(learner.adapt(meta, support)["kernel"], expected, rtol=1e-12)


# By hand, λ = 4: φ* solves 2(s+o) + 4(s−1) = 0 = 2(s+o) + 4(o−2), so s+o = 1.5, φ* = (0.25, 1.25).
# Query residual 0.75, v = 2·0.75·(2, 1) = (3, 1.5). I + H/4 = [[1.5, .5], [.5, 1.5]] has the
# inverse [[.75, −.25], [−.25, .75]]: meta-gradient (1.875, 0.375).
@pytest.mark.parametrize(
    ("options", "slope", "offset"),
    [
        ({"solver": "cg", "solver_steps": 2}, 1.875, 0.375),
        ({"solver": "neumann", "neumann_rate": 0.4, "solver_steps": 80}, 1.875, 0.375),
        # [[2.5, .5], [.5, 2.5]] has the inverse [[2.5, −.5], [−.5, 2.5]]/6.
        ({"solver": "cg", "solver_steps": 2, "damping": 1.0}, 1.125, 0.375),
    ],
)
def test_imaml_is_the_closed_form_on_a_quadratic(options, slope, offset, x64):
    learner = line_learner(mj.imaml, steps=100, regularization=4.0, **options)
    close(learner.adapt(THETA, EPISODE.support), of(0.25, 1.25))
    (loss, metrics), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 0.5625, rtol=1e-13)
    close(grads, of(slope, offset))
    assert metrics["solver_residual"] < 1e-13


def test_imaml_says_what_its_solver_left(x64):
    """One Neumann step from 0 gives v = b; Ab − b = Hb/4 = ½·(4.5, 4.5) against b = (3, 1.5)."""
    learner = line_learner(
        mj.imaml, steps=100, regularization=4.0, solver="neumann", solver_steps=1
    )
    (_, metrics), grads = learner.value_and_grad(THETA, EPISODE)
    close(grads, of(3.0, 1.5))
    residual = np.hypot(2.25, 2.25) / np.hypot(3, 1.5)
    np.testing.assert_allclose(metrics["solver_residual"], residual, rtol=1e-13)


def test_implicit_gradient_of_a_weight_that_does_not_adapt(x64):
    """s*(o) = (4 − 2o)/6 is 0 at o = 2: L_Q = 1, dL_Q/ds = 4, dL_Q/do = 2 − 4/3.

    And s* solves 2(s+2) + 4(s−σ) = 0 for the meta-parameter σ = 1: ds*/dσ = 2/3.
    """
    learner = line_learner(
        mj.imaml, steps=100, regularization=4.0, adapts=lambda path: path == "slope"
    )
    (loss, _), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.0, rtol=1e-13)
    close(grads, of(8 / 3, 2 / 3))


def test_anil_and_boil_by_hand(x64):
    """Of (slope, offset) one moves by −0.1·6; the other has its direct and its indirect part."""
    offset_moves = line_learner(mj.anil, adapts=lambda path: path == "offset")
    (loss, _), grads = offset_moves.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 2.4**2, rtol=1e-14)
    close(grads, of(9.6 - 0.2 * 4.8, 0.8 * 4.8))
    slope_moves = line_learner(mj.boil, adapts=lambda path: path == "slope")
    (loss, _), grads = slope_moves.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.8**2, rtol=1e-14)
    close(grads, of(0.8 * 7.2, 3.6 - 0.2 * 7.2))


def test_anil_and_boil_part_head_and_body_by_default(x64):
    params, apply = perceptron()
    support = classification().support
    for algorithm, moving in ((mj.anil, {"head"}), (mj.boil, {"body", "norm"})):
        fast = algorithm(apply, 0.1).adapt(params, support)
        moved = {
            layer for layer in params if not np.array_equal(*_flat(fast[layer], params[layer]))
        }
        assert moved == moving


def _flat(*trees):
    return [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in trees]


def test_cavia_by_hand(x64):
    """Offset = 2 + 2c; dL_S/dc = 2·3·2, so c = −1.2, offset −0.4, query residual 0.6.

    In all, offset = o − 2αP²(s+o): its derivatives in o, s and P are 0.2, −0.8 and −2.4.
    """
    learner = line_learner(mj.cavia, context_size=1, adapts=lambda path: path == "offset")
    shapes = learner.init(THETA)["projections"]
    assert {path: leaf.shape for path, leaf in shapes.items()} == {"offset": (1,)}
    meta = {"params": THETA, "projections": {"offset": np.array([2.0])}}
    close(learner.adapt(meta, EPISODE.support), of(1.0, -0.4))
    (loss, _), grads = learner.value_and_grad(meta, EPISODE)
    np.testing.assert_allclose(loss, 0.36, rtol=1e-13)
    close(
        grads,
        {
            "params": of(2.4 - 1.2 * 0.8, 1.2 * 0.2),
            "projections": {"offset": np.array([-2.4 * 1.2])},
        },
    )


def test_cavia_is_context_as_further_inputs(x64):
    """Shifting the first bias by cP is a dense layer on [x, c] with the kernel [W; P]."""
    params, apply = perceptron()
    support = classification().support
    learner = mj.cavia(apply, 0.7, 2, context_size=4, adapts=lambda path: path == "body/bias")
    meta = learner.init(params)
    wide = {**params, "body": {**params["body"]}}
    wide["body"]["kernel"] = jnp.concatenate(
        [params["body"]["kernel"], meta["projections"]["body/bias"]]
    )

    def loss(c):
        x = jnp.concatenate([support.x, jnp.broadcast_to(c, (len(support.x), 4))], 1)
        return mj.losses.softmax_cross_entropy(apply(wide, x), support.y)

    c = jnp.zeros(4)
    for _ in range(2):
        c = c - 0.7 * jax.grad(loss)(c)
    x = support.x
    given = apply(wide, jnp.concatenate([x, jnp.broadcast_to(c, (len(x), 4))], 1))
    np.testing.assert_allclose(
        learner.predict(learner.adapt(meta, support), x), given, rtol=1e-12, atol=1e-14
    )


# By hand, two steps of rate 0.1: φ₁ = (0.4, 1.4), g₁ = (3.6, 3.6), φ₂ = (0.04, 1.04). L_Q(φ₁) is
# 1.44, L_Q(φ₂) = 0.12² = 0.0144, v = (0.48, 0.24). (I − αH)v = (0.336, 0.096), and once more
# (0.2496, 0.0096).
def test_maml_plus_plus_by_hand(x64):
    learner = line_learner(mj.maml_plus_plus, steps=2)
    (loss, _), grads = learner.value_and_grad(learner.init(THETA), EPISODE)
    np.testing.assert_allclose(loss, 0.0144, rtol=1e-12)
    rates = of(np.array([-6 * 0.336, -3.6 * 0.48]), np.array([-6 * 0.096, -3.6 * 0.24]))
    close(grads, {"params": of(0.2496, 0.0096), "rates": rates, "norms": {}})


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.5), (0.05, 0.25), (0.099, 0.015), (0.1, 0.0), (1.0, 0.0)]
)
def test_the_losses_of_earlier_steps_fade(progress, share, x64):
    learner = line_learner(mj.maml_plus_plus, steps=2, multi_step_until=0.1)
    (loss, _), _ = jax.jit(learner.value_and_grad)(learner.init(THETA), EPISODE, progress)
    np.testing.assert_allclose(loss, share * 1.44 + (1 - share) * 0.0144, rtol=1e-12)


def test_first_order_turns_into_second_order(x64):
    learner = line_learner(
        mj.maml_plus_plus, steps=2, learn_rates=False, norm_per_step=False, second_order_from=0.5
    )
    value_and_grad = jax.jit(learner.value_and_grad)
    for progress, slopes in ((0.4, (0.48, 0.24)), (0.5, (0.2496, 0.0096))):
        _, grads = value_and_grad(learner.init(THETA), EPISODE, progress)
        close(grads, {"params": of(*slopes)})


def test_each_step_has_its_own_norms(x64):
    """Of the weights of step k: those the support set meets in step k, the queries after it."""
    params, apply = perceptron()
    learner = mj.maml_plus_plus(apply, 0.1, 2, learn_rates=False, multi_step_until=0.0)
    meta = learner.init(params)
    assert {path: leaf.shape for path, leaf in meta["norms"].items()} == {
        "norm/scale": (2, 5),
        "norm/bias": (2, 5),
    }
    scales = np.stack([np.full(5, 2.0), np.full(5, 3.0)])
    meta = {**meta, "norms": {**meta["norms"], "norm/scale": scales}}
    support = classification().support
    path = learner.trajectory(meta, support, 4)
    np.testing.assert_array_equal(path["norm"]["scale"][:, 0], [2, 2, 3, 3, 3])

    def loss(body, scale):
        weights = {**params, **body, "norm": {**params["norm"], "scale": scale}}
        return mj.losses.softmax_cross_entropy(apply(weights, support.x), support.y)

    moving = {"body": params["body"], "head": params["head"]}
    for scale in scales:
        slope = jax.grad(loss)(moving, scale)
        moving = jax.tree.map(lambda w, g: w - 0.1 * g, moving, slope)
    fast = learner.adapt(meta, support)
    assert distance({name: fast[name] for name in moving}, moving) < 1e-13


# By hand: features wx with w = 1, support x = 1 of class 0 and x = 2 of class 1, the query x = 2 of
# class 1. Logits w²(2·x_n·x − x_n²) = (3, 4): the loss is log(1 + 1/e), and through the prototypes
# its slope in w is (6 − 8)·p₀ with p₀ = 1/(1+e). Through the query alone it would be (4 − 8)·p₀.
HEADED = {
    "body": np.ones(()),
    "head": {"kernel": np.zeros((1, 2)), "bias": np.zeros(2)},
}
POINTS = mj.Episode(
    mj.Batch(np.array([[1.0], [2.0]]), np.array([0, 1])),
    mj.Batch(np.array([[2.0]]), np.array([1])),
)


def headed(params, x):
    return (params["body"] * x) @ params["head"]["kernel"] + params["head"]["bias"]


@pytest.mark.parametrize(
    "learner",
    [
        mj.protonet(headed),
        mj.proto_maml(headed, 0.1, 0),
        mj.proto_maml(headed, 0.1, 0, differentiate="first_order"),
        mj.proto_maml(headed, 0.1, 0, features=lambda params, x: params["body"] * x),
    ],
)
def test_prototypes_by_hand(learner, x64):
    fast = learner.adapt(HEADED, POINTS.support)
    close(fast["head"], {"kernel": np.array([[2.0, 4.0]]), "bias": np.array([-1.0, -4.0])})
    (loss, _), grads = learner.value_and_grad(HEADED, POINTS)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-1)), rtol=1e-13)
    np.testing.assert_allclose(grads["body"], -2 / (1 + np.e), rtol=1e-13)
    close(grads["head"], jax.tree.map(np.zeros_like, HEADED["head"]))


@pytest.mark.parametrize(
    "algorithm", [mj.protonet, partial(mj.proto_maml, inner_lr=0.1, inner_steps=1)]
)
def test_a_model_that_does_not_end_in_its_head_is_refused(algorithm):
    """Its features have no head, and what gives them was meant for `features`."""
    params, _ = perceptron()
    learner = algorithm(lambda params, x: jnp.tile(x, 2))
    with pytest.raises(InputError, match=r"gave \d+ outputs and its layer 'head' has"):
        jax.jit(mj.over_tasks(learner))(learner.init(params), classification(tasks=2))


def test_protonet_is_the_nearest_prototype(x64):
    params, apply = perceptron()
    episode = classification()
    learner = mj.protonet(apply)
    logits = learner.predict(learner.adapt(params, episode.support, 3), episode.query.x)

    def features(x):
        hidden = jnp.tanh(x @ params["body"]["kernel"] + params["body"]["bias"])
        return hidden * params["norm"]["scale"] + params["norm"]["bias"]

    means = jnp.stack(
        [features(episode.support.x[episode.support.y == n]).mean(0) for n in range(3)]
    )
    distances = jnp.square(features(episode.query.x)[:, None] - means).sum(-1)
    np.testing.assert_allclose(
        jax.nn.log_softmax(logits), jax.nn.log_softmax(-distances), rtol=1e-12
    )


def test_first_order_proto_maml_goes_through_the_prototypes(x64):
    """φ₁ = φ₀(θ) − α·constant: the gradient is that of L_Q(φ₀(θ) − α·constant)."""
    params, apply = perceptron()
    episode = classification()
    learner = mj.proto_maml(apply, 0.1, 2, differentiate="first_order")
    started = mj.proto_maml(apply, 0.1, 0)
    last = learner.adapt(params, episode.support)
    moved = jax.tree.map(jnp.subtract, last, started.adapt(params, episode.support))

    def loss(params):
        fast = jax.tree.map(jnp.add, started.adapt(params, episode.support), moved)
        return mj.losses.softmax_cross_entropy(apply(fast, episode.query.x), episode.query.y)

    expected = jax.grad(loss)(params)
    assert distance(learner.value_and_grad(params, episode)[1], expected) < 1e-13


def test_pretraining_by_hand(x64):
    """Both points leave 3: the mean of squares is 9, its slopes (6 + 12)/2 and (6 + 6)/2."""
    learner = line_learner(mj.pretrained)
    (loss, _), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 9.0, rtol=1e-14)
    close(grads, of(9.0, 6.0))
    close(learner.adapt(THETA, EPISODE.support), of(0.4, 1.4))


def test_pretraining_classifies_all_classes_at_once(x64):
    params, apply = perceptron()
    episode = classification()
    learner = mj.pretrained(apply, 0.1, classes=7)
    meta = learner.init(params)
    assert meta["classifier"]["kernel"].shape == (5, 7)
    numbered = jax.tree.map(lambda y: 2 * y, [episode.support.y, episode.query.y])
    episode = mj.Episode(
        episode.support._replace(y=numbered[0]), episode.query._replace(y=numbered[1])
    )
    (loss, _), grads = learner.value_and_grad(meta, episode)
    np.testing.assert_allclose(loss, np.log(7), rtol=1e-14)  # the classifier starts from zero
    close(grads["params"]["head"], jax.tree.map(np.zeros_like, params["head"]))
    assert jnp.abs(grads["classifier"]["kernel"]).max() > 0


def test_scratch_learns_nothing(x64):
    learner = line_learner(mj.scratch)
    (loss, _), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.44, rtol=1e-14)
    close(grads, of(0.0, 0.0))


def test_a_batch_size_takes_the_support_set_in_turns(x64):
    """Two examples one at a time: the steps see each once, in one fixed order."""
    support = mj.Batch(np.array([1.0, 3.0]), np.array([0.0, 0.0]))
    learner = line_learner(mj.maml, 0.01, 2, batch_size=1)

    def by_hand(order):
        slope, offset = 1.0, 2.0
        for x in order:
            residual = slope * x + offset
            slope, offset = slope - 0.02 * residual * x, offset - 0.02 * residual
        return slope, offset

    fast = learner.adapt(THETA, support)
    got = (float(fast["slope"]), float(fast["offset"]))
    expected = [by_hand(order) for order in ((1.0, 3.0), (3.0, 1.0))]
    assert any(np.allclose(got, hand, rtol=1e-13, atol=0) for hand in expected)


def test_a_meta_objective_of_ones_own(x64):
    """The query's mean absolute error, |1.2| at φ: v = (2, 1), Hv = (6, 6)."""
    learner = line_learner(mj.maml, query_loss=lambda outputs, y: jnp.abs(outputs - y).mean())
    (loss, _), grads = learner.value_and_grad(THETA, EPISODE)
    np.testing.assert_allclose(loss, 1.2, rtol=1e-14)
    close(grads, of(2 - 0.6, 1 - 0.6))


def test_fewer_weights_adapt_but_all_get_a_gradient(x64):
    params, apply = perceptron()
    learner = mj.maml(apply, 0.3, 2, adapts=lambda path: path.startswith("head"))
    episode = classification()
    fast = learner.adapt(params, episode.support)
    np.testing.assert_array_equal(fast["body"]["kernel"], params["body"]["kernel"])
    assert not np.array_equal(fast["head"]["kernel"], params["head"]["kernel"])
    grads = learner.value_and_grad(params, episode)[1]
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))


def test_inner_adam_without_eps_root_is_the_known_nan(x64):
    """Why the docstring asks for `eps_root`: where a gradient is 0 the meta-gradient is NaN."""
    params, apply = perceptron()
    episode = classification()
    dead = jax.tree.map(lambda leaf: leaf.at[..., 0].set(0), episode)  # an input that is always 0
    for eps_root, finite in ((0.0, False), (1e-8, True)):
        learner = mj.maml(apply, inner_optimizer=optax.adam(0.1, eps_root=eps_root))
        grads = learner.value_and_grad(params, dead._replace(query=episode.query))[1]
        assert bool(jnp.isfinite(grads["body"]["kernel"]).all()) is finite


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`inner_lr` was None and `inner_optimizer` None; pass exactly one"),
        ({"inner_lr": 0.1, "inner_optimizer": optax.sgd(0.1)}, "pass exactly one"),
        ({"inner_lr": 0.1, "inner_steps": -1}, "`inner_steps` was -1; .* at least 0"),
        ({"inner_lr": 0.1, "inner_steps": 1.5}, "`inner_steps` was 1.5"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        mj.maml(line, **arguments)


def test_a_predicate_that_matches_nothing_is_refused():
    params, apply = perceptron()
    with pytest.raises(InputError, match="`adapts` matched no weight; the paths are body/bias"):
        mj.maml(apply, 0.1, adapts=lambda path: "hed" in path).init(params)


def test_negative_steps_of_adaptation_are_refused():
    params, apply = perceptron()
    with pytest.raises(InputError, match="`steps` was -1"):
        mj.maml(apply, 0.1).adapt(params, classification().support, steps=-1)


def test_float_labels_point_to_regression():
    params, apply = perceptron()
    episode = classification()
    wrong = episode._replace(query=episode.query._replace(y=episode.query.y * 1.0))
    with pytest.raises(InputError, match=r"`labels` were float32.*mean_squared_error"):
        mj.maml(apply, 0.1).value_and_grad(params, wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mj.maml(line, -0.1), "`inner_lr` was -0.1; it must be a finite number"),
        (lambda: mj.maml(line, float("nan")), "`inner_lr` was nan"),
        (lambda: mj.maml(line, 0.1, differentiate="mixd"), "did you mean 'mixed'"),
        (lambda: mj.maml(line, 0.1, batch_size=0), "`batch_size` was 0"),
        (lambda: mj.meta_sgd(line, "fast"), "`inner_lr` was 'fast'"),
        (lambda: mj.imaml(line, 0.1, solver_steps=0), "`solver_steps` was 0"),
        (lambda: mj.imaml(line, 0.1, solver="ccg"), "`solver` was 'ccg' .did you mean 'cg'"),
        (lambda: mj.imaml(line, 0.1, regularization=0.0), "`regularization` was 0.0"),
        (lambda: mj.imaml(line, 0.1, damping=-1.0), "`damping` was -1.0"),
        (lambda: mj.imaml(line, 0.1, neumann_rate=0.0), "`neumann_rate` was 0.0"),
        (lambda: mj.cavia(line, 0.1, context_size=0), "`context_size` was 0"),
        (lambda: mj.maml_plus_plus(line, 0.1, 0), "`inner_steps` was 0; .* at least 1"),
        (lambda: mj.maml_plus_plus(line, 0.1, multi_step_until=2), "`multi_step_until` was 2"),
        (lambda: mj.maml_plus_plus(line, 0.1, second_order_from=-1), "`second_order_from` was -1"),
        (lambda: mj.proto_maml(line, 0.1).init(THETA), "`head` was 'head'; .* offset, slope"),
        (lambda: mj.proto_maml(headed, 0.1, head="haed").init(HEADED), "`head` was 'haed'"),
        (lambda: mj.pretrained(line, 0.1, classes=4).init(THETA), "`head` was 'head'"),
        (lambda: mj.pretrained(headed, 0.1, classes=1).init(HEADED), "`classes` was 1"),
        (
            lambda: mj.cavia(lambda p, x: x @ p["w"], 0.1).init({"w": np.ones((2, 2))}),
            "there is no vector",
        ),
    ],
)
def test_bad_arguments_of_each_algorithm_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_prototypes_refuse_regression():
    one = {**HEADED, "head": {"kernel": np.zeros((1, 1)), "bias": np.zeros(1)}}
    with pytest.raises(InputError, match="`head` was 'head' with one output"):
        mj.proto_maml(headed, 0.1).init(one)
    targets = POINTS._replace(support=POINTS.support._replace(y=np.array([0.0, 1.0])))
    for algorithm in (mj.proto_maml, mj.protonet):
        with pytest.raises(InputError, match=r"`support\.y` was float64; .* regression has none"):
            algorithm(headed, 0.1).value_and_grad(HEADED, targets)


@pytest.mark.parametrize(
    "algorithm",
    [
        *(mj.maml, mj.fomaml, mj.reptile, mj.imaml, mj.meta_sgd, mj.anil, mj.boil, mj.proto_maml),
        *(mj.maml_plus_plus, mj.cavia, mj.meta_curvature, mj.pretrained, mj.scratch),
    ],
)
def test_a_predicate_that_matches_nothing_is_refused_by_each(algorithm):
    params, apply = perceptron()
    with pytest.raises(InputError, match="`adapts` matched no weight"):
        algorithm(apply, 0.1, adapts=lambda path: "hed" in path).init(params)
