"""Each known mistake, planted in plain PyTorch, is named; a right gradient never is."""

import functools

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from flax import nnx
from problems import all_but_slow

import maml_jax as mj
import parity
from maml_jax.errors import InputError
from parity.catalogue import Catalogue, mistakes
from parity.cells import MODELS, Cell, build_inputs
from parity.conversion import tasks_to_torch, to_flax, to_torch
from parity.models.conv4 import conv4_stride
from parity.models.mlp import mlp, mlp_batch_norm
from parity.reference.fomaml import fomaml
from parity.reference.maml import maml as reference_maml
from parity.torch_tools import gradient, leaves, over_tasks

# One process, with test_loops.py, which computes each catalogue once.
pytestmark = pytest.mark.xdist_group("catalogues")
NETWORKS = {"mlp-batch-norm": mlp_batch_norm, "mlp": mlp, "conv4-stride": conv4_stride}
SMALL = ("mlp-batch-norm", "mlp")
NORMALISED = ("mlp-batch-norm", "conv4-stride")
STEPS = 2
SCALE = 100.0
"""Of the loss, so that the inner gradient is above every limit that the catalogue clips at."""


@functools.cache
def problem(name, seed=0):
    """Two small ones, with other numbers of tasks, support and query examples; else a cell's."""
    if name in SMALL:
        model = mj.models.MLP(6, (5,), 3, batch_norm=name in NORMALISED, rngs=nnx.Rngs(0))
        params, apply = mj.from_flax(model)
        episodes = small_episodes(seed)
        rng = np.random.default_rng([seed, 1])
        params = jax.tree.map(lambda w: np.asarray(w) + 0.3 * rng.normal(size=w.shape), params)
        loss, rate = mj.losses.softmax_cross_entropy, 0.4
    else:
        facts = MODELS[name]
        params, apply, episodes = build_inputs(Cell("maml", name, STEPS), seed)
        model, loss, rate = facts.flax(nnx.Rngs(0)), facts.loss.jax, facts.inner_lr
    return parity.Problem(
        apply=apply,
        params=params,
        episodes=episodes,
        inner_lr=rate / SCALE,
        inner_steps=STEPS,
        loss=lambda outputs, y: SCALE * loss(outputs, y),
        eval_apply=parity.in_eval_mode(model) if name in NORMALISED else None,
    )


def small_episodes(seed):
    rng = np.random.default_rng([seed, 0])

    def batch(examples):
        y = np.stack([rng.permutation(np.arange(examples) % 3) for _ in range(4)])
        return mj.Batch(rng.normal(size=(4, examples, 6)) + y[..., None], y)

    return mj.Episode(batch(7), batch(5))


def flattened_of(name):
    return {} if name in SMALL else MODELS[name].flattened


@functools.cache
def catalogue(name):
    return Catalogue(problem(name))


def tasks_of(name, seed=0):
    return tasks_to_torch(problem(name, seed).episodes)


def cross_entropy(outputs, y):
    return SCALE * F.cross_entropy(outputs, y)


def summed(outputs, y):
    return SCALE * F.cross_entropy(outputs, y, reduction="sum")


def divided_twice(outputs, y):
    return SCALE * F.cross_entropy(outputs, y) / len(y)


def maml(
    name,
    *,
    steps=STEPS,
    graph=True,
    swap=False,
    inner=cross_entropy,
    outer=cross_entropy,
    head=False,
    twice=False,
    together=False,
    evaluation=False,
    decay=0.0,
    clip=None,
    clip_value=None,
    of_tasks=0,
    in_place=False,
    left=False,
    sign=1,
):
    """MAML in PyTorch, written once more with its mistakes to choose from."""
    forward, alpha = NETWORKS.get(name, mlp), problem(name).inner_lr
    flattened = flattened_of(name)
    theta = leaves(to_torch(problem(name).params, flattened))
    batch_norm = F.batch_norm

    def outputs(weights, x):
        if evaluation:
            F.batch_norm = lambda x, mean, var, scale, bias, training, eps: batch_norm(
                x, torch.zeros_like(scale), torch.ones_like(scale), scale, bias, False, eps=eps
            )
        out = forward(weights, x)
        F.batch_norm = batch_norm
        return out.softmax(1) if twice else out

    total = {key: torch.zeros_like(w) for key, w in theta.items()}
    origin = theta
    for task in tasks_of(name):
        sx, sy, qx, qy = task
        if swap:
            sx, sy, qx, qy = qx, qy, sx, sy
        fast = origin
        inner_sum = {key: torch.zeros_like(w) for key, w in theta.items()}
        for _ in range(steps):
            slope = gradient(inner(outputs(fast, sx), sy), fast, create_graph=graph)
            if not graph:
                slope = {key: g.detach() for key, g in slope.items()}
            inner_sum = {key: inner_sum[key] + g.detach() for key, g in slope.items()}
            slope = {key: g + decay * fast[key] for key, g in slope.items()}
            if clip:
                norm = torch.sqrt(sum((g**2).sum() for g in slope.values()))
                slope = {key: g * (clip / norm).clamp(max=1.0) for key, g in slope.items()}
            if clip_value:
                slope = {key: g.clamp(-clip_value, clip_value) for key, g in slope.items()}
            fast = {
                key: w - alpha * slope[key] if not head or key.startswith("head.") else w
                for key, w in fast.items()
            }
        if together:
            value = outer(outputs(fast, torch.cat([sx, qx]))[len(sx) :], qy)
        else:
            value = outer(outputs(fast, qx), qy)
        found = gradient(value, origin)
        if left:
            found = {key: g + inner_sum[key] for key, g in found.items()}
        total = {key: total[key] + g for key, g in found.items()}
        if in_place:
            origin = leaves(fast)
    count = len(tasks_of(name))
    return to_flax({key: sign * g * count ** (of_tasks - 1) for key, g in total.items()}, flattened)


DECAYS = (1e-4, 5e-4, 1e-3, 1e-2)
CLIPS = (0.1, 0.25, 0.5, 1.0, 5.0, 10.0)
FIRST_ORDER = "inner graph not created (the gradient is first-order)"
EVALUATION = "batch norm in evaluation mode"
TOGETHER = "query normalised together with the support set"
PLANTED = {
    FIRST_ORDER: {"graph": False},
    "support and query set swapped": {"swap": True},
    "one inner step too many": {"steps": STEPS + 1},
    "one inner step too few": {"steps": STEPS - 1},
    "inner loss summed, not averaged, over examples": {"inner": summed},
    "query loss summed, not averaged, over examples": {"outer": summed},
    "both losses summed over examples": {"inner": summed, "outer": summed},
    "inner loss divided twice by the examples": {"inner": divided_twice},
    "query loss divided twice by the examples": {"outer": divided_twice},
    "both losses divided twice by the examples": {"inner": divided_twice, "outer": divided_twice},
    "gradients summed, not averaged, over tasks": {"of_tasks": 1},
    "gradients divided twice by the tasks": {"of_tasks": -1},
    "wrong sign": {"sign": -1},
    "only the head adapted": {"head": True},
    "softmax applied twice": {"twice": True},
    TOGETHER: {"together": True},
    EVALUATION: {"evaluation": True},
    "weights updated in place, and not restored between tasks": {"graph": False, "in_place": True},
    "weights updated in place: inner gradients left in the outer one": {
        "graph": False,
        "left": True,
    },
    **{f"weight decay {wd:g} in the inner steps": {"decay": wd} for wd in DECAYS},
    **{f"inner gradient clipped to the norm {c:g}": {"clip": c} for c in CLIPS},
    **{f"inner gradient clipped to elements of {c:g}": {"clip_value": c} for c in CLIPS},
}


OF_BATCH_NORM = {
    "batch norm in evaluation mode for the query alone",
    "batch norm in evaluation mode for the query alone, by running statistics that each task "
    "starts anew",
    "batch norm in evaluation mode for the query alone, by running statistics that are carried "
    "from task to task",
}
IN_LOOPS = {m.name for m in mistakes(problem("mlp"))} - PLANTED.keys()
"""These and those of batch norm are planted in `test_loops.py`."""


def test_every_mistake_of_the_catalogue_is_planted():
    of_mlp = {m.name for m in catalogue("mlp").mistakes}
    assert of_mlp == (PLANTED.keys() | IN_LOOPS) - {EVALUATION}
    for name in NORMALISED:
        assert {m.name for m in catalogue(name).mistakes} == of_mlp | {EVALUATION} | OF_BATCH_NORM


# XLA compiles the catalogue of four convolutional blocks for a minute.
CONVOLUTIONAL = pytest.param("conv4-stride", marks=pytest.mark.slow)


def places():
    """Two networks for each mistake."""
    for mistake in PLANTED:
        second = CONVOLUTIONAL.values[0] if mistake in (TOGETHER, EVALUATION) else "mlp"
        yield pytest.param(mistake, "mlp-batch-norm")
        yield pytest.param(mistake, second, marks=pytest.mark.slow)  # another catalogue to compile


@pytest.mark.parametrize(("mistake", "name"), list(places()))
def test_a_planted_mistake_is_named(mistake, name):
    """And no other with it."""
    found = parity.diagnose(
        maml(name, **PLANTED[mistake]), problem(name), catalogue=catalogue(name)
    )
    assert not found.correct
    assert named(found) == [(mistake,)], str(found)


def named(found):
    return [found.mistakes, *found.alternatives]


@pytest.mark.parametrize("name", [*SMALL, CONVOLUTIONAL])
def test_the_right_gradient_is_called_right(name):
    found = parity.diagnose(maml(name), problem(name), catalogue=catalogue(name))
    assert found.correct
    assert found.mistakes == ()
    assert str(found).startswith("correct")


@pytest.mark.slow  # a hundred problems
@pytest.mark.parametrize("name", ["mlp-batch-norm", "mlp-sinusoid"])
def test_no_mistake_is_named_on_a_hundred_right_gradients(name):
    catalogued = catalogue(name)
    forward = NETWORKS.get(name, mlp)
    plain = cross_entropy if name in SMALL else lambda *pair: SCALE * F.mse_loss(*pair)
    for seed in range(100):
        other = problem(name, seed)
        theirs = over_tasks(
            reference_maml,
            forward,
            plain,
            {"params": to_torch(other.params, flattened_of(name))},
            tasks_of(name, seed),
            inner_lr=other.inner_lr,
            inner_steps=STEPS,
        )
        right = to_flax(theirs.meta_gradient["params"], flattened_of(name))
        found = parity.diagnose(right, other, catalogue=catalogued.on(other))
        assert found.correct, (seed, str(found))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST_ORDER, "gradients summed, not averaged, over tasks"),
        ("softmax applied twice", "one inner step too few"),
        ("support and query set swapped", "only the head adapted"),
    ],
)
@pytest.mark.slow  # pairs of mistakes
def test_two_mistakes_are_both_named(first, second):
    name = "mlp-batch-norm"
    theirs = maml(name, **PLANTED[first], **PLANTED[second])
    found = parity.diagnose(theirs, problem(name), catalogue=catalogue(name))
    assert {first, second} in map(set, named(found)), str(found)


@pytest.mark.slow  # all pairs of mistakes are tried
def test_a_millionth_in_one_layer_is_caught_and_located():
    theirs = maml("mlp")
    theirs["layers"]["0"]["kernel"] = theirs["layers"]["0"]["kernel"] * (1 + 1e-6)
    found = parity.diagnose(theirs, problem("mlp"), catalogue=catalogue("mlp"))
    assert not found.correct
    assert list(found.layers) == ["layers/0/kernel"]
    assert found.layers["layers/0/kernel"] == pytest.approx(1e-6, rel=1e-3)
    assert found.mistakes == ()
    assert "unknown" in str(found)


@pytest.mark.parametrize(
    ("name", "layer"),
    all_but_slow([("mlp-batch-norm", "norms"), ("mlp", "layers")], ("mlp-batch-norm", "norms")),
)
def test_none_treated_as_zero(name, layer):
    theirs = maml(name)
    theirs[layer]["0"]["bias"] = 0 * theirs[layer]["0"]["bias"]
    found = parity.diagnose(theirs, problem(name), catalogue=catalogue(name))
    assert found.mistakes == (f"None treated as zero in {layer}/0/bias",)
    nothing = jax.tree.map(np.zeros_like, theirs)
    found = parity.diagnose(nothing, problem(name), catalogue=catalogue(name))
    assert found.mistakes == ("no weight reached: every gradient was None, treated as zero",)


@pytest.mark.slow  # all pairs of mistakes are tried
def test_noise_is_unknown():
    rng = np.random.default_rng(0)
    theirs = jax.tree.map(lambda g: g + 0.1 * SCALE * rng.normal(size=g.shape), maml("mlp"))
    found = parity.diagnose(theirs, problem("mlp"), catalogue=catalogue("mlp"))
    assert not found.correct
    assert found.mistakes == ()


def test_the_first_wrong_step_is_told():
    name = "mlp-batch-norm"  # whose catalogue is compiled anyway
    learner = mj.maml(problem(name).apply, problem(name).inner_lr, STEPS, loss=problem(name).loss)
    with jax.enable_x64(True):
        support = jax.tree.map(lambda leaf: leaf[0], problem(name).episodes.support)
        path = jax.device_get(learner.trajectory(problem(name).params, support))
    steps = [jax.tree.map(lambda leaf, k=k: leaf[k], path) for k in range(STEPS + 1)]
    right = maml(name)
    assert parity.diagnose(
        right, problem(name), trajectory=steps, catalogue=catalogue(name)
    ).correct
    steps[1] = {**steps[1], "head": {**steps[1]["head"], "bias": steps[1]["head"]["bias"] + 1e-6}}
    found = parity.diagnose(right, problem(name), trajectory=steps, catalogue=catalogue(name))
    assert (found.first_step, found.first_step_layers) == (1, ("head/bias",))


def test_float32_has_more_rounding():
    theirs = jax.tree.map(lambda g: g.astype(np.float32), maml("mlp-batch-norm"))
    assert parity.diagnose(
        theirs, problem("mlp-batch-norm"), catalogue=catalogue("mlp-batch-norm")
    ).correct


def test_what_cannot_be_judged_is_refused():
    theirs = maml("mlp-batch-norm")
    with pytest.raises(InputError, match="`theirs` differs from the weights in names or shapes"):
        parity.diagnose({"head": theirs["head"]}, problem("mlp-batch-norm"))
    theirs["head"]["bias"] = theirs["head"]["bias"] * np.nan
    with pytest.raises(InputError, match="`theirs` is not finite in head/bias"):
        parity.diagnose(theirs, problem("mlp-batch-norm"))


@pytest.mark.parametrize("name", ["mlp-batch-norm", CONVOLUTIONAL])
def test_check_runs_a_function_of_ones_own(name):

    def mine(weights, tasks):
        result = over_tasks(
            fomaml,
            NETWORKS[name],
            cross_entropy,
            {"params": weights},
            tasks,
            inner_lr=problem(name).inner_lr,
            inner_steps=STEPS,
        )
        return result.meta_gradient["params"]

    found = parity.check(mine, problem(name), catalogue=catalogue(name))
    assert found.mistakes == ("inner graph not created (the gradient is first-order)",)
    with pytest.raises(InputError, match="differ in the names"):
        parity.check(lambda weights, tasks: {}, problem(name))
