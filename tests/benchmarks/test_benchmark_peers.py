"""All peers compute the same meta-gradient."""

import importlib
import shutil
from dataclasses import replace
from functools import cache, partial

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn import functional

import maml_jax as mj
from benchmarks import runner
from benchmarks.peers import PEERS, REFERENCE, AbsentError
from benchmarks.peers import maml_jax as ours
from benchmarks.peers.maml_jax_form import CHOSEN
from benchmarks.peers.torch_training import Images, Sinusoids
from benchmarks.worker import encode
from benchmarks.workloads import (
    MLP,
    WORKLOADS,
    Conv4,
    ResNet12,
    Workload,
    flatten,
    from_json,
    make_images,
    make_inputs,
    to_json,
)

IMAGES = Conv4(ways=2, filters=2, image_size=32, channels=3)  # 2×2 positions reach the head
TINY = (
    Workload("maxpool", IMAGES, 2, 1, 2, 1, 0.3),
    Workload("stride", replace(IMAGES, downsample="stride", image_size=16), 2, 2, 1, 1, 0.3),
    Workload("sinusoid", MLP(hidden=(5, 4)), 3, 4, 6, 2, 0.1),
    Workload("resnet12", ResNet12(2, (2, 3, 2, 4), 16), 2, 1, 1, 1, 0.1),
)
TRAINING = (
    Workload(
        "training images", Conv4(ways=2, filters=2, image_size=16), 2, 1, 2, 1, 0.1, updates=2
    ),
    Workload("training sinusoid", MLP(hidden=(5, 4)), 3, 4, 6, 2, 0.1, updates=3),
)
by_name = pytest.mark.parametrize("workload", TINY, ids=lambda workload: workload.name)


def outcome(peer, workload):
    """Loss and gradient in float64, where no rounding can hide or feign a difference."""
    prepare = importlib.import_module(PEERS.get(peer, peer)).prepare
    with jax.enable_x64(True):
        program = prepare(workload, make_inputs(workload, 0, "float64"), "cpu")
        loss, gradient = program.result(program.step())
        assert program.peak_bytes() is None
    return loss, flatten(gradient)


@pytest.fixture(scope="module", autouse=True)
def fast_compilation():
    """These programs run once, so that what the compiler saves is what counts."""
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


@pytest.fixture(autouse=True)
def form_of_the_convolution():
    """What a peer chose for its process is no other test's."""
    yield
    CHOSEN.close()


@pytest.fixture(scope="module")
def reference():
    """A function from a workload to the outcome of the reference, computed once."""
    return cache(partial(outcome, REFERENCE))


def test_first_order_would_be_refused(reference):
    """The gradient that forgets second derivatives is far beyond the runner's tolerance."""
    loss, gradient = outcome("first_order_peer", TINY[2])
    wanted_loss, wanted = reference(TINY[2])
    answers = [
        {"loss": value, "gradient": encode(vector)}
        for value, vector in ((loss, gradient), (wanted_loss, wanted))
    ]
    errors = runner.relative_errors(*answers)
    assert errors["gradient_error"] > 1e3 * runner.TOLERANCE["float64"]
    assert runner.relative_errors(answers[1], answers[1])["gradient_error"] == 0


# The reference's own program with another chunk, precision or form: few of the networks are enough.
FEW = {"maml_jax_tuned": ("sinusoid",)}
FEW |= dict.fromkeys(("maml_jax_tf32", "maml_jax_bf16"), ("sinusoid", "stride"))
FEW |= dict.fromkeys(("maml_jax_taps", "maml_jax_patches"), ("sinusoid", "stride", "maxpool"))
PAIRS = [
    (peer, workload)
    for peer in PEERS
    for workload in TINY
    if peer not in (REFERENCE, "torch_compile") and workload.name in FEW.get(peer, [workload.name])
]


def of_pair(peer, workload):
    """A case; images take seconds to compile, ResNet-12 half a minute."""
    marks = [] if workload.name == "sinusoid" else [pytest.mark.slow]
    return pytest.param(peer, workload, id=f"{peer}-{workload.name}", marks=marks)


@pytest.mark.parametrize(("peer", "workload"), [of_pair(*pair) for pair in PAIRS])
def test_peer_agrees(peer, workload, reference):
    if peer in ("higher", "torchopt"):
        pytest.importorskip(peer)
    loss, gradient = outcome(peer, workload)
    wanted_loss, wanted = reference(workload)
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert np.linalg.norm(wanted) > 1e-3
    assert np.linalg.norm(gradient - wanted) < 1e-9 * np.linalg.norm(wanted)


def trained(peer, workload):
    """The loss and the weights' change over the checked updates, in float64."""
    prepare = importlib.import_module(PEERS[peer]).prepare_training
    with jax.enable_x64(True):
        program = prepare(workload, make_inputs(workload, 0, "float64"), "cpu")
        loss, change = program.result(program.check())
        program.step()
        program.step()
    return loss, flatten(change)


@pytest.fixture(scope="module")
def trained_reference():
    """The same of training."""
    return cache(partial(trained, REFERENCE))


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(TRAINING[0], marks=pytest.mark.slow),  # its convolutions compile for 20 s
        TRAINING[1],
    ],
    ids=lambda workload: workload.name,
)
@pytest.mark.parametrize("peer", ["torch_loop", "torch_func"])
def test_training_agrees(peer, workload, trained_reference):
    (loss, change), (wanted_loss, wanted) = trained(peer, workload), trained_reference(workload)
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert np.linalg.norm(wanted) > 1e-3  # two updates by Adam at 1e-3
    assert np.linalg.norm(change - wanted) < 1e-7 * np.linalg.norm(wanted)


def test_training_in_float32_is_compared_by_an_adam_that_is_no_sign():
    workload = next(w for w in TRAINING if isinstance(w.network, MLP))
    inputs, changes = make_inputs(workload, 0), {}
    for peer in (REFERENCE, "torch_loop"):
        program = importlib.import_module(PEERS[peer]).prepare_training(workload, inputs, "cpu")
        changes[peer] = flatten(program.result(program.check())[1])
    wanted, change = changes.values()
    sizes = np.abs(wanted)
    assert sizes.min() < 1e-3 * sizes.max()  # signs would all be 2e-3
    assert np.linalg.norm(change - wanted) < 1e-4 * np.linalg.norm(wanted)


@pytest.mark.parametrize("peer", [REFERENCE, "torch_loop", "torch_func"])
def test_training_draws_tasks_and_moves_on(peer):
    prepare = importlib.import_module(PEERS[peer]).prepare_training
    program = prepare(TRAINING[1], make_inputs(TRAINING[1], 0), "cpu")
    steps = [program.step() for _ in range(3)]
    losses = {float(step.means()["loss"] if peer == REFERENCE else step) for step in steps}
    assert len(losses) == 3
    first, second = (flatten(program.result(program.check())[1]) for _ in range(2))
    np.testing.assert_array_equal(first, second)  # whatever the steps did meanwhile


def test_the_loaders_tasks():
    images = make_images(Conv4(image_size=4), seed=0, classes=6)
    assert images.dtype == np.uint8
    tasks = Images(images, Conv4(ways=3, image_size=4), shots=2, queries=1)
    support_x, support_y, query_x, query_y = tasks[7]
    assert support_x.shape == (6, 1, 4, 4)
    assert (support_y.tolist(), query_y.tolist()) == ([0, 0, 1, 1, 2, 2], [0, 1, 2])
    pixels = {np.sort(image.ravel()).tobytes(): c for c in range(6) for image in images[c]}
    found = [
        pixels[np.sort((255 * x).round().to(torch.uint8).numpy().ravel()).tobytes()]
        for x in (*support_x, *query_x)
    ]
    assert found[0] == found[1] == found[6]
    assert found[2] == found[3] == found[7]
    assert len(set(found)) == 3
    for index in range(30):
        drawn = {x.numpy().tobytes() for x in (*tasks[index][0], *tasks[index][2])}
        assert len(drawn) == 9  # no image twice
    torch.testing.assert_close(tasks[7], tasks[7])
    assert (tasks[8][0] != support_x).any()
    turned = {
        np.rot90(image[:, :, 0], quarter).tobytes(): quarter
        for image in images.reshape(-1, 4, 4, 1)
        for quarter in range(4)
    }
    first = ((255 * tasks[index][0][0, 0]).round().to(torch.uint8).numpy() for index in range(30))
    assert {turned[image.tobytes()] for image in first} == {0, 1, 2, 3}


def test_the_loaders_curves():
    support_x, support_y, query_x, query_y = Sinusoids(5, 100)[3]
    assert support_x.shape == support_y.shape == (5, 1)
    amplitude = float(query_y.abs().max())
    assert 0.1 <= amplitude <= 5.0
    # A·sin(x − φ) is the solution of a linear problem in sin x and cos x.
    basis = torch.cat([query_x.sin(), query_x.cos()], 1)
    solution = torch.linalg.lstsq(basis, query_y).solution
    torch.testing.assert_close(basis @ solution, query_y, atol=1e-4, rtol=1e-4)
    assert query_x.abs().max() <= 5.0


def test_compiling_says_why_it_cannot(monkeypatch):
    prepare = importlib.import_module(PEERS["torch_compile"]).prepare
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(AbsentError, match="needs a C\\+\\+ compiler, and there is no no-such-comp"):
        prepare(TINY[2], make_inputs(TINY[2], 0), "cpu")


@pytest.mark.slow  # compiles for ten seconds
@pytest.mark.filterwarnings("ignore")
def test_compiled_agrees(reference, monkeypatch):
    """All of `torch.compile` but the last stage, whose compiler for C++ takes a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(shutil, "which", lambda name: name)
    loss, gradient = outcome("torch_compile", TINY[2])
    wanted_loss, wanted = reference(TINY[2])
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert np.linalg.norm(gradient - wanted) < 1e-9 * np.linalg.norm(wanted)
    (loss, change), (wanted_loss, wanted) = (
        trained(peer, TRAINING[1]) for peer in ("torch_compile", "torch_loop")
    )
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert np.linalg.norm(change - wanted) < 1e-7 * np.linalg.norm(wanted)


def test_step_may_be_repeated():
    workload = TINY[2]
    prepare = importlib.import_module(PEERS["torch_loop"]).prepare
    program = prepare(workload, make_inputs(workload, 0), "cpu")
    first, second = (flatten(program.result(program.step())[1]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_weights_are_those_of_the_models(workload):
    model = nnx.eval_shape(lambda: ours.model_of(workload.network))
    wanted = jax.tree.map(lambda leaf: leaf.shape, mj.from_flax(model)[0])
    inputs = make_inputs(workload, 0)
    assert jax.tree.map(lambda leaf: leaf.shape, inputs.weights) == wanted
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(inputs.weights))


@by_name
def test_inputs_are_a_function_of_the_seed(workload):
    one, same, other = (make_inputs(workload, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.query_x, same.query_x)
    np.testing.assert_array_equal(flatten(one.weights), flatten(same.weights))
    assert (one.query_x != other.query_x).any()
    double = make_inputs(workload, 1, "float64")
    assert double.query_x.dtype == np.float64
    np.testing.assert_array_equal(one.query_x, double.query_x)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_definition_survives_json(workload):
    assert from_json(to_json(workload)) == workload


def test_why_torch_func_takes_both_gradients_inside_vmap():
    """Once PyTorch is right in both orders, this fails, and the note in `torch_func` can go."""
    generator = torch.Generator().manual_seed(0)
    scale, x, direction = (
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in ((3,), (2, 4, 3, 2, 2), (3, 2, 2))
    )

    def loss(scale, x):
        return (functional.batch_norm(x, None, None, scale, training=True) * direction).sin().sum()

    def inner(scale, x):  # a function of an inner gradient, as a meta-loss is one
        return torch.func.grad(loss)(scale, x).square().sum()

    outside = torch.func.grad(lambda x: torch.func.vmap(inner, (None, 0))(scale, x).sum())(x)
    inside = torch.func.vmap(torch.func.grad(inner, argnums=1), (None, 0))(scale, x)
    plain = torch.stack([torch.func.grad(inner, argnums=1)(scale, task) for task in x])
    torch.testing.assert_close(inside, plain)
    assert (outside - plain).norm() > 0.1 * plain.norm()
