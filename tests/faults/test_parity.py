"""Section E of the faults found by use, row by row: nothing in parity is silently wrong."""

import functools
import time

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from flax import linen, nnx
from torch import nn

import maml_jax as mj
import parity
import parity.progress
from maml_jax.errors import InputError
from maml_jax.kernels import convolution, native
from maml_jax.kernels.convolution import in_forms
from maml_jax.kernels.forms import FORMS
from parity.cells import CELLS, Cell, select
from parity.compare import compare

pytestmark = pytest.mark.slow  # catalogues of mistakes are compiled

ALPHA = 0.1
TASKS = 3


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def episodes(shape, ways=3, seed=0):
    """Three tasks of six support and three query examples of this shape."""
    rng = np.random.default_rng(seed)

    def batch(per_class):
        y = np.tile(np.repeat(np.arange(ways), per_class), (TASKS, 1))
        x = rng.normal(size=(*y.shape, *shape)) + y.reshape(*y.shape, *[1] * len(shape))
        return mj.Batch(x, y)

    return mj.Episode(batch(2), batch(1))


def moved(params, seed=1):
    """Away from biases of 0 and scales of 1, which hide mistakes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda w: np.asarray(w) + 0.3 * rng.normal(size=w.shape), params)


def maml(forward, *, steps=1, create_graph=True, loss=F.cross_entropy):
    """A right training step, as people write it."""

    def mine(weights, tasks):
        theta = {name: w.requires_grad_() for name, w in weights.items()}
        total = 0
        for task in tasks:
            fast = theta
            for _ in range(steps):
                value = loss(forward(fast, task.support_x), task.support_y)
                grads = torch.autograd.grad(value, list(fast.values()), create_graph=create_graph)
                fast = {n: w - ALPHA * g for (n, w), g in zip(fast.items(), grads, strict=True)}
            total = total + loss(forward(fast, task.query_x), task.query_y) / len(tasks)
        grads = torch.autograd.grad(total, list(theta.values()), allow_unused=True)
        return dict(zip(theta, grads, strict=True))

    return mine


class Convolutional(nnx.Module):
    """A convolution, and a dense layer behind the flattened image of 4×4 and 2 channels."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 2, (3, 3), padding="SAME", rngs=rngs)
        self.head = nnx.Linear(32, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.conv(x)).reshape(len(x), -1))


def convolutional(weights, x):
    x = F.relu(F.conv2d(x, weights["conv.weight"], weights["conv.bias"], padding=1))
    return F.linear(x.flatten(1), weights["head.weight"], weights["head.bias"])


FLATTENED = {"head": (4, 4, 2)}


@functools.cache
def pictures(steps=1):
    params, apply = mj.from_flax(Convolutional(nnx.Rngs(0)))
    return parity.Problem(
        apply=apply,
        params=moved(params),
        episodes=episodes((4, 4, 1)),
        inner_lr=ALPHA,
        inner_steps=steps,
    )


class Normalised(nnx.Module):
    """A dense layer, Flax's own batch norm and a head."""

    def __init__(self, rngs):
        self.body = nnx.Linear(6, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.body(x))))


class LinenNormalised(linen.Module):
    """The same in Linen."""

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(5, name="body")(x)
        x = linen.BatchNorm(use_running_average=False, name="norm")(x)
        return linen.Dense(3, name="head")(linen.relu(x))


class TorchNormalised(nn.Module):
    """And in PyTorch, as people write it."""

    def __init__(self, eps=1e-5):
        super().__init__()
        self.body = nn.Linear(6, 5)
        self.norm = nn.BatchNorm1d(5, eps=eps)
        self.head = nn.Linear(5, 3)
        self.double()

    def forward(self, x):
        return self.head(F.relu(self.norm(self.body(x))))


def functional(net):
    return lambda weights, x: torch.func.functional_call(net, weights, (x,))


def model(kind="nnx"):
    if kind == "nnx":
        return Normalised(nnx.Rngs(0))
    module = LinenNormalised()
    x = np.zeros((2, 6), np.float32)
    return module.bind(module.init(jax.random.key(0), x))


@functools.cache
def vectors(kind="nnx", steps=2):
    params, apply = mj.from_flax(model(kind))
    return parity.Problem(
        apply=apply,
        params=moved(params),
        episodes=episodes((6,)),
        inner_lr=ALPHA,
        inner_steps=steps,
        eval_apply=parity.in_eval_mode(model(kind)),
    )


# --- parity.check of correct code whose counterpart differs


@pytest.mark.parametrize("given", [{}, {"network": convolutional}])
def test_a_forgotten_order_of_flattening_is_found(given):
    """★ `flattened=` forgotten: the networks are compared first, and the order that fits is named.

    With the network given, and without it: then by what the training step gives to its loss.
    """
    found = parity.check(maml(convolutional), pictures(), **given)
    said = str(found)
    assert not found.correct
    assert "WRONG" not in said
    assert "weight decay" not in said
    assert "your networks differ at the starting weights: loss " in said
    assert f"flattened={FLATTENED}" in said
    assert found.once_equal.correct
    assert parity.check(maml(convolutional), pictures(), flattened=FLATTENED, **given).correct
    yours, against = (float(w) for w in said.split("loss ")[1].split(" (")[0].split(" against "))
    support = jax.tree.map(lambda leaf: leaf[0], pictures().episodes.support)
    outputs = pictures().apply(pictures().params, support.x)
    assert against == pytest.approx(float(pictures().loss(outputs, support.y)), rel=1e-2)
    assert yours != against


@pytest.mark.parametrize("wrong", [{"head": (2, 4, 4)}, {"head": (4, 4, 2), "conv": (1, 1, 1)}])
def test_a_wrong_order_of_flattening_is_found(wrong):
    """★ The same where an order was given, and is another."""
    given = {"network": convolutional, "flattened": {"head": wrong["head"]}}
    found = parity.check(maml(convolutional), pictures(), **given)
    assert found.correct is (wrong["head"] == FLATTENED["head"])
    assert ("networks differ" in str(found)) is not found.correct


def test_an_order_too_many_is_found():
    """★ And where the network in PyTorch flattens as Flax does."""

    def channels_last(weights, x):
        x = F.relu(F.conv2d(x, weights["conv.weight"], weights["conv.bias"], padding=1))
        x = x.permute(0, 2, 3, 1).flatten(1)
        return F.linear(x, weights["head.weight"], weights["head.bias"])

    found = parity.check(maml(channels_last), pictures(), flattened=FLATTENED)
    assert "no entry for 'head' in flattened=" in str(found)
    assert found.once_equal.correct


@pytest.mark.parametrize("by", ["module", "function", "nothing"])
@pytest.mark.parametrize("eps", [1e-3, 1e-1])
def test_another_epsilon_of_batch_norm_is_found(by, eps):
    """★ Another epsilon of batch norm: the one that makes the networks equal is named."""
    net = TorchNormalised(eps)
    given = {"module": {"network": net}, "function": {"network": functional(net)}, "nothing": {}}
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = parity.check(maml(functional(net), steps=2), vectors(), **given[by])
    assert "CANNOT BE JUDGED: your networks differ at the starting weights: loss" in str(found)
    assert "an epsilon of 1e-05 in your norms" in str(found)
    assert "WRONG" not in str(found)
    assert found.once_equal.correct
    if by == "module":  # the comparison itself leaves its running averages and weights alone
        parity.networks.compare_networks(net, vectors().in_float64(), {}, None)
        assert all(
            (net.state_dict()[n] == w).all() for n, w in before.items() if "num" not in n
        ) or (net.training)


def test_a_mistake_is_named_through_a_difference():
    """★ Both at once: the change that makes the networks equal, and the mistake under it."""
    wrong = maml(convolutional, create_graph=False)
    for given in ({}, {"network": convolutional}):
        found = parity.check(wrong, pictures(), **given)
        assert f"flattened={FLATTENED}" in str(found)
        assert found.once_equal.mistakes == (
            "inner graph not created (the gradient is first-order)",
        )


def test_two_differences_at_once_are_found():
    """★ A wrong order and another epsilon."""

    class Both(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 2, (3, 3), padding="SAME", rngs=rngs)
            self.norm = nnx.BatchNorm(2, rngs=rngs)
            self.head = nnx.Linear(32, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.relu(self.norm(self.conv(x))).reshape(len(x), -1))

    def forward(weights, x):
        x = F.conv2d(x, weights["conv.weight"], weights["conv.bias"], padding=1)
        scale, bias = weights["norm.weight"], weights["norm.bias"]
        x = F.relu(F.batch_norm(x, None, None, scale, bias, training=True, eps=1e-2))
        return F.linear(x.flatten(1), weights["head.weight"], weights["head.bias"])

    params, apply = mj.from_flax(Both(nnx.Rngs(0)))
    problem = parity.Problem(
        apply=apply,
        params=moved(params),
        episodes=episodes((4, 4, 1)),
        inner_lr=ALPHA,
        inner_steps=1,
    )
    found = parity.check(maml(forward), problem, network=forward)
    assert f"flattened={FLATTENED} and an epsilon of 1e-05 in your norms" in str(found)
    assert found.once_equal.correct


@pytest.mark.slow  # all pairs of mistakes are tried
def test_networks_that_nothing_makes_equal_are_said_to_differ():
    """★ Another activation: no mistake of the training step is blamed for it."""

    def other(weights, x):
        x = torch.tanh(F.conv2d(x, weights["conv.weight"], weights["conv.bias"], padding=1))
        return F.linear(x.flatten(1), weights["head.weight"], weights["head.bias"])

    given = {"flattened": FLATTENED}
    for network in ({"network": other}, {}):
        found = parity.check(maml(other), pictures(), **network, **given)
        assert not found.correct
        assert found.mistakes == ()
        said = str(found)
        assert "your networks differ at the starting weights: loss" in said
        assert "compare them layer by layer" in said
        assert "WRONG" not in said
        assert "closest" not in said


def test_where_no_outputs_can_be_seen_the_gradient_finds_the_order():
    """★ A loss written by hand: the order under which the gradient is right is named."""

    def by_hand(outputs, y):
        return (outputs.logsumexp(1) - outputs[torch.arange(len(y)), y]).mean()

    found = parity.check(maml(convolutional, loss=by_hand), pictures())
    assert f"flattened={FLATTENED}" in str(found)
    assert found.once_equal.correct
    assert "WRONG" not in str(found)


@pytest.mark.slow  # all pairs of mistakes are tried
def test_each_unknown_says_to_compare_the_networks():
    """★ Where nothing is known the verdict says what to check, and blames no small mistake."""
    right = maml(convolutional)

    def noisy(weights, tasks):
        rng = np.random.default_rng(0)
        return {
            n: g + torch.from_numpy(rng.normal(size=tuple(g.shape)))
            for n, g in right(weights, tasks).items()
        }

    found = parity.check(noisy, pictures(), flattened=FLATTENED, network=convolutional)
    assert "unknown: no known mistake fits to rounding" in str(found)
    assert "your networks agree at the starting weights" in str(found)
    assert "closest" not in str(found)
    gradient = jax.tree.map(lambda w: w + 1.0, pictures().params)
    said = str(parity.diagnose(gradient, pictures()))
    assert "check first that the networks agree at the starting weights" in said
    assert "network=" in said


def test_a_module_with_names_of_its_own():
    """★ `names=` renames the weights for the network and the training step."""
    net = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.ReLU(), nn.Linear(5, 3)
    ).double()
    names = {"0": "body", "1": "norm", "3": "head"}
    given = {"network": net, "names": names}
    assert parity.check(maml(functional(net), steps=2), vectors(), **given).correct
    with pytest.raises(InputError, match="`names` had the layers body, head; it must have each"):
        parity.check(maml(functional(net)), vectors(), names={"0": "body", "3": "head"})
    with pytest.raises(InputError, match=r"`network` has the parameter 0.weight \[7, 6\]"):
        parity.check(maml(functional(net)), vectors(), network=nn.Sequential(nn.Linear(6, 7)))


# --- in_eval_mode


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_evaluation_mode_of_flax_batch_norms(kind):
    """★ `in_eval_mode` with `nnx.BatchNorm`, and Linen's: PyTorch's `net.eval()`, to rounding."""
    problem = vectors(kind).in_float64()
    net = TorchNormalised().eval()
    x = problem.episodes.query.x[0]
    weights = parity.conversion.to_torch(problem.params, {})
    with jax.enable_x64(True):
        ours = np.asarray(problem.eval_apply(problem.params, x))
        other = np.asarray(problem.apply(problem.params, x))
    theirs = functional(net)(weights, torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert np.abs(ours - other).max() > 0.1


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_the_mistake_of_evaluation_mode_is_named_for_flax_batch_norms(kind):
    """★ So the mistake is named, and nothing else."""
    found = parity.check(maml(functional(TorchNormalised().eval()), steps=2), vectors(kind))
    assert found.mistakes == ("batch norm in evaluation mode",), str(found)
    assert found.alternatives == ()


def test_running_averages_are_the_models_own():
    """★ Not 0 and 1, where the model has others."""
    trained = model()
    trained.norm.mean[...] += 0.5
    trained.norm.var[...] *= 2.0
    apply = parity.in_eval_mode(trained)
    params = mj.from_flax(trained)[0]
    x = np.asarray(episodes((6,)).query.x[0], np.float32)
    trained.set_attributes(nnx.BatchNorm, use_running_average=True)
    np.testing.assert_allclose(apply(params, x), trained(x), rtol=1e-6)


class HomeMadeBatchNorm(nnx.Module):
    def __init__(self):
        self.scale = nnx.Param(np.ones(5, np.float32))

    def __call__(self, x):
        return self.scale[...] * (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize("where", ["alone", "beside a known one", "nowhere"])
def test_evaluation_mode_refuses_what_it_does_not_know(where):
    """★ Or it is refused in one line."""
    net = model()
    if where == "nowhere":
        net.norm = lambda x: x
    else:
        net.norm = HomeMadeBatchNorm()
    if where == "beside a known one":
        net.other = nnx.BatchNorm(5, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="in_eval_mode") as caught:
        parity.in_eval_mode(net)
    assert "\n" not in str(caught.value)


def test_evaluation_mode_refuses_linen_without_batch_norm():
    """★ Linen says which modules it has when it runs."""
    module = linen.Dense(3)
    x = np.zeros((2, 6), np.float32)
    bound = module.bind(module.init(jax.random.key(0), x))
    with pytest.raises(InputError, match="`model` has no batch norm that `in_eval_mode` knows"):
        parity.in_eval_mode(bound)(mj.from_flax(bound)[0], x)
    with pytest.raises(InputError, match="`model` was a Linear; it must be an NNX or a Linen"):
        parity.in_eval_mode(nn.Linear(2, 2))


# --- signs of life


def test_what_takes_long_says_so(capsys, monkeypatch):
    """Checks of 45 to 100 s: a line every so often, by a thread of its own."""
    monkeypatch.setattr("parity.progress.EVERY", 0.01)
    with parity.progress.still_alive("trying"):
        time.sleep(0.2)
    assert capsys.readouterr().err.startswith("parity: trying, 0 s so far\n")
    right = jax.tree.map(lambda w: 1.0 + w, pictures().params)
    parity.diagnose(right, pictures(), explain=False)
    assert "parity: computing the right meta-gradient, 0 s so far" in capsys.readouterr().err


# --- the legs


@pytest.mark.slow  # a convolutional network is compiled
@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_accelerators_are_compared(form):
    """The convolution by JAX's own operations, against PyTorch."""
    with in_forms(form):
        assert compare(Cell("fomaml", "conv4-stride", 1)).passed


def test_a_form_of_accelerators_has_no_call_of_the_library():
    """So that the leg compares what it says."""

    def program():
        lowered = jax.jit(lambda x, w: convolution.convolve(x, w, 1, 1))
        shapes = ((1, 5, 5, 2), (3, 3, 2, 2))
        return lowered.lower(*(np.ones(shape, np.float32) for shape in shapes)).as_text()

    with in_forms("patches"):
        assert "maml_jax_conv" not in program()
    if native.compiler() is not None:
        assert "maml_jax_conv" in program()


@pytest.mark.slow  # XLA's optimisations take three times the time
@pytest.mark.parametrize("name", ["maml/mlp/5/mixed", "maml/conv4-stride/1/mixed"])
def test_optimised_programs_are_compared(name):
    """Compiled exactly as for training."""
    (cell,) = [cell for cell in CELLS if cell.name == name]
    assert compare(cell, as_trained=True).passed


def test_only_selects_exact_parts():
    """`--only maml/mlp` is 7 cells of that algorithm and model, not 44."""
    assert {(c.algorithm, c.model) for c in select(CELLS, "maml/mlp")} == {("maml", "mlp")}
