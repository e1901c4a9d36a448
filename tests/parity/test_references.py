"""Both sides against what neither of them computed: numbers by hand, and finite differences."""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import maml_jax as mj
from parity.backends import run_jax, run_torch
from parity.cells import COMPARISONS, MODELS, Cell, build_inputs
from parity.conversion import to_torch
from parity.torch_tools import Task, over_tasks

# o = w·x + b with w = b = 0, squared error, inner rate 0.1, one inner step, two tasks of one
# support and one query example each. The Hessian of a support loss with x = 1 is
# H = 2·[[1, 1], [1, 1]], so that I − 0.1·H = [[0.8, −0.2], [−0.2, 0.8]] in both tasks.
#
# Task 1: support (1, 1): gradient 2·(0 − 1)·(1, 1) = (−2, −2), so w = b = 0.2.
#         query (2, 1): o = 0.6, loss 0.16, gradient 2·(0.6 − 1)·(2, 1) = (−1.6, −0.8);
#         times I − 0.1·H: (−1.28 + 0.16, 0.32 − 0.64) = (−1.12, −0.32).
# Task 2: support (1, 0): gradient 0, so w = b = 0.
#         query (0, 1): o = 0, loss 1, gradient 2·(0 − 1)·(0, 1) = (0, −2);
#         times I − 0.1·H: (0.4, −1.6).
#
# Means: loss 0.58; MAML ((−1.12 + 0.4)/2, (−0.32 − 1.6)/2) = (−0.36, −0.96);
#        FOMAML ((−1.6 + 0)/2, (−0.8 − 2)/2) = (−0.8, −1.4).
BY_HAND = {"maml": (-0.36, -0.96), "fomaml": (-0.8, -1.4)}
ADAPTED = [(0.2, 0.2), (0.0, 0.0)]
SUPPORT = np.array([[[1.0, 1.0]], [[1.0, 0.0]]])
QUERY = np.array([[[2.0, 1.0]], [[0.0, 1.0]]])


@pytest.mark.parametrize("algorithm", BY_HAND)
def test_reference_meets_the_numbers_by_hand(algorithm):
    def examples(pairs):
        return torch.tensor(pairs[:, :1]), torch.tensor(pairs[:, 1:])

    result = over_tasks(
        COMPARISONS[algorithm].reference,
        lambda weights, x: weights["w"] * x + weights["b"],
        F.mse_loss,
        {"params": {name: torch.zeros((), dtype=torch.float64) for name in "wb"}},
        [Task(*examples(s), *examples(q)) for s, q in zip(SUPPORT, QUERY, strict=True)],
        inner_lr=0.1,
        inner_steps=1,
    )
    assert torch.stack(result.losses).mean().item() == pytest.approx(0.58, rel=1e-14)
    for trajectory, (w, b) in zip(result.trajectories, ADAPTED, strict=True):
        assert trajectory[0]["w"].item() == trajectory[0]["b"].item() == 0
        assert trajectory[1]["w"].item() == pytest.approx(w, rel=1e-14)
        assert trajectory[1]["b"].item() == pytest.approx(b, rel=1e-14)
    found = [result.meta_gradient["params"][name].item() for name in "wb"]
    assert found == pytest.approx(BY_HAND[algorithm], rel=1e-14)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [("maml", {"differentiate": "mixed"}), ("maml", {"differentiate": "reverse"}), ("fomaml", {})],
)
def test_learner_meets_the_numbers_by_hand(algorithm, options):
    learner = getattr(mj, algorithm)(
        lambda params, x: params["o"]["scale"] * x + params["o"]["bias"],
        inner_lr=0.1,
        inner_steps=1,
        loss=mj.losses.mean_squared_error,
        **options,
    )
    episodes = mj.Episode(*(mj.Batch(s[..., :1], s[..., 1:]) for s in (SUPPORT, QUERY)))
    meta = {"o": {"scale": np.zeros(()), "bias": np.zeros(())}}
    result = run_jax(Cell(algorithm, "mlp-sinusoid", 1), learner, meta, episodes)
    names = ("o.weight", "o.bias")
    assert result.loss == pytest.approx(0.58, rel=1e-14)
    for trajectory, expected in zip(result.trajectories, ADAPTED, strict=True):
        assert [trajectory[1][name] for name in names] == pytest.approx(expected, rel=1e-14)
    assert [result.meta_gradient[name] for name in names] == pytest.approx(
        BY_HAND[algorithm], rel=1e-14
    )


CELL = Cell("maml", "mlp-sinusoid", 3, "mixed")


def of_jax(cell, inputs):
    learner = cell.learner(inputs.apply)
    return run_jax(cell, learner, inputs.params, inputs.episodes)


def of_torch(cell, inputs):
    reference = COMPARISONS[cell.algorithm].reference
    return run_torch(cell, reference, inputs.params, inputs.episodes)


def directional_errors(backend):
    """Relative errors of meta-gradient · direction against central differences of `CELL`'s loss."""
    inputs = build_inputs(CELL, 0)
    gradient = backend(inputs).meta_gradient
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(3):
        direction = jax.tree.map(lambda p: generator.normal(size=p.shape), inputs.params)
        slope = sum(np.vdot(gradient[n], d.numpy()) for n, d in to_torch(direction, {}).items())
        ahead, behind = (
            of_torch(CELL, inputs._replace(params=_moved(inputs.params, direction, step))).loss
            for step in (1e-6, -1e-6)
        )
        errors.append(abs(slope - (ahead - behind) / 2e-6) / abs(slope))
    return errors


def _moved(params, direction, step):
    return jax.tree.map(lambda p, d: p + step * d, params, direction)


@pytest.mark.parametrize("backend", [of_jax, of_torch])
def test_meta_gradient_meets_finite_differences(backend):
    assert max(directional_errors(lambda inputs: backend(CELL, inputs))) < 1e-6


def test_first_order_gradient_does_not_meet_them():
    fomaml = Cell("fomaml", CELL.model, CELL.inner_steps)
    assert min(directional_errors(lambda inputs: of_torch(fomaml, inputs))) > 1e-3


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "reptile", "imaml", "pretrained"])
def test_weight_that_the_loss_does_not_reach_is_an_error(algorithm):
    model, inputs = MODELS[CELL.model], build_inputs(CELL, 0)
    weights = {"w": torch.zeros(1, dtype=torch.float64), "unused": torch.zeros(1)}
    x, y = (torch.from_numpy(leaf[0]) for leaf in inputs.episodes.support)
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        COMPARISONS[algorithm].reference(
            lambda weights, x: weights["w"] * x,
            model.loss.torch,
            {"params": weights},
            Task(x, y, x, y),
            inner_lr=0.1,
            inner_steps=1,
        )
