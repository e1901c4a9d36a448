"""Cells pass as they are, and fail once either side is broken."""

import functools

import jax.numpy as jnp
import pytest
import torch

import maml_jax as mj
import maml_jax.algorithms
import parity.sides
from parity import reference
from parity.cells import ALGORITHMS, CELLS, MODELS, TASKS, Cell
from parity.compare import compare
from parity.errors import BOUND

FAST = {
    "maml/conv4-stride/1/mixed",
    "fomaml/conv4-maxpool/5",
    "maml/article-cnn/1/reverse",
    "maml/mlp/5/mixed",
    "maml/mlp-batch-norm/5/reverse",
    "maml/mlp-sinusoid/5/mixed",
    "maml/mlp-sinusoid/5/mixed/adam",
    "maml/lstm-sequences/5/mixed",
    "fomaml/mlp-sinusoid/5/momentum",
    "reptile/mlp/5",
    "imaml/mlp/5",
    "meta-sgd/mlp-batch-norm/5/mixed",
    "meta-sgd-first-order/mlp/5",
    "anil/mlp/5/mixed",
    "boil/mlp/5/mixed",
    "proto-maml/mlp/5/mixed",
    "proto-maml-first-order/mlp/5",
    "protonet/gru-sequences/5",
    "maml-plus-plus/mlp-batch-norm/5/mixed",
    "maml-plus-plus/mlp-sinusoid/1/mixed/100-updates",
    "cavia/mlp/5/mixed",
    "meta-curvature/mlp/5/mixed",
    "pretrained/mlp-sinusoid/5",
}


@pytest.mark.parametrize("cell", [c for c in CELLS if c.name in FAST], ids=lambda cell: cell.name)
def test_cell_is_within_the_bound(cell):
    errors = compare(cell)
    assert errors.passed, errors
    assert len(errors.weights) == (1 if cell.algorithm == "protonet" else cell.inner_steps + 1)


def test_matrix_is_complete():
    names = {cell.name for cell in CELLS}
    assert len(names) == len(CELLS)
    assert names >= FAST
    for name, algorithm in ALGORITHMS.items():
        mine = [cell for cell in CELLS if cell.algorithm == name]
        sensible = {m for m in MODELS if algorithm.regression or m != "mlp-sinusoid"}
        assert {cell.model for cell in mine} == sensible
        assert {cell.inner_steps for cell in mine} == {1, 5}
        assert any(cell.updates == 100 for cell in mine)
        kinds = {"sgd", "momentum", "adam"} if algorithm.optimizers else {"sgd"}
        assert {cell.optimizer for cell in mine} == kinds
    missing = set(mj.algorithms.__all__) - {name.replace("-", "_") for name in ALGORITHMS}
    assert missing == {"scratch"}  # whose meta-gradient is zero


def test_another_seed_is_another_problem_within_the_bound():
    cell = Cell("fomaml", "mlp-sinusoid", 1)
    first, second = compare(cell, seed=1), compare(cell, seed=2)
    assert first.passed
    assert second.passed
    assert first != second


def test_outer_updates_do_not_multiply_rounding():
    errors = compare(Cell("imaml", "mlp-sinusoid", 1, updates=100), seed=3)
    assert errors.outer < 1e-12  # 3e-7 where the damping leaves negative eigenvalues


def test_precision_stays_as_it_was():
    compare(Cell("fomaml", "mlp-sinusoid", 1))
    assert jnp.ones(1).dtype == jnp.float32


def test_cell_compiled_as_for_training_is_within_the_bound():
    assert compare(Cell("fomaml", "mlp-sinusoid", 1), as_trained=True).passed


def test_compile_option_that_xla_does_not_know_is_done_without(monkeypatch):
    monkeypatch.setattr(parity.sides, "_UNOPTIMIZED", {"no_such_option": True})
    assert compare(Cell("fomaml", "mlp-sinusoid", 1)).passed


BROKEN = Cell("maml", "mlp", 2, "mixed")
MODEL = MODELS[BROKEN.model]
SUPPORT_EXAMPLES = 10  # five ways, two shots


def torch_one_step_fewer(*problem, inner_steps, **options):
    return reference.maml(*problem, inner_steps=inner_steps - 1, **options)


def torch_inner_sum(*problem, inner_lr, **options):
    # A step along the gradient of the sum is a step along that of the mean, so many times longer.
    return reference.maml(*problem, inner_lr=inner_lr * SUPPORT_EXAMPLES, **options)


def torch_task_sum(*problem, **options):
    result = reference.maml(*problem, **options)
    return result._replace(
        meta_gradient={"params": {n: TASKS * g for n, g in result.meta_gradient["params"].items()}}
    )


def torch_nan(*problem, **options):
    result = reference.maml(*problem, **options)
    return result._replace(
        meta_gradient={
            "params": {n: g * torch.nan for n, g in result.meta_gradient["params"].items()}
        }
    )


def jax_loss_sum(outputs, y):
    return MODEL.loss.jax(outputs, y) * y.shape[0]


jax_maml = functools.partial(mj.maml, inner_lr=MODEL.inner_lr, loss=MODEL.loss.jax)
jax_fomaml = functools.partial(mj.fomaml, inner_lr=MODEL.inner_lr, loss=MODEL.loss.jax)


@pytest.mark.parametrize(
    ("side", "wrong"),
    [
        pytest.param(
            {"reference": torch_one_step_fewer},
            {"loss", "weights", "meta_gradient"},
            id="torch: one step fewer",
        ),
        pytest.param({"reference": reference.fomaml}, {"meta_gradient"}, id="torch: detached"),
        pytest.param(
            {"reference": torch_inner_sum},
            {"loss", "weights", "meta_gradient"},
            id="torch: sum over the support examples",
        ),
        pytest.param({"reference": torch_task_sum}, {"meta_gradient"}, id="torch: sum over tasks"),
        pytest.param({"reference": torch_nan}, {"meta_gradient"}, id="torch: NaN"),
        pytest.param(
            {"learner": functools.partial(jax_fomaml, inner_steps=2)},
            {"meta_gradient"},
            id="jax: fomaml",
        ),
        pytest.param(
            {"learner": functools.partial(jax_maml, inner_steps=1)},
            {"loss", "weights", "meta_gradient"},
            id="jax: one step fewer",
        ),
        pytest.param(
            {"learner": functools.partial(jax_maml, inner_steps=2, loss=jax_loss_sum)},
            {"loss", "weights", "meta_gradient"},
            id="jax: sum over the examples",
        ),
    ],
)
def test_breaking_either_side_fails(side, wrong):
    errors = compare(BROKEN, **side)
    assert not errors.passed
    found = {"loss": errors.loss, "weights": max(errors.weights)}
    found["meta_gradient"] = errors.meta_gradient
    assert {name for name, error in found.items() if not error <= BOUND} == wrong
    # Far above the bound, so that no rounding could explain it; NaN is beyond any.
    assert all(not found[name] < 1e-3 for name in wrong), found
    assert errors.weights[0] == 0


def test_unbroken_cell_passes():
    assert compare(BROKEN).passed


def torch_rates_never_move(*problem, **options):
    """Meta-SGD as it has been seen to go wrong: a copy of the rates is what steps are made with."""
    result = reference.meta_sgd(*problem, **options)
    rates = {name: 0 * slope for name, slope in result.meta_gradient["rates"].items()}
    return result._replace(meta_gradient={**result.meta_gradient, "rates": rates})


def torch_prototypes_detached(forward, loss, meta, tasks, **options):
    def constant(weights, x):
        features = forward(weights, x)
        return features if weights["head.bias"].any() else features.detach() + 0 * features

    return reference.proto_maml(constant, loss, meta, tasks, **options)


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        (Cell("meta-sgd", "mlp", 1, "mixed"), torch_rates_never_move),
        (Cell("proto-maml", "mlp", 1, "mixed"), torch_prototypes_detached),
        (Cell("anil", "mlp", 1, "mixed"), reference.maml),
        (Cell("boil", "mlp", 1, "mixed"), reference.anil),
        (Cell("imaml", "mlp", 5), reference.fomaml),
        (Cell("reptile", "mlp", 5), reference.fomaml),
    ],
    ids=lambda value: getattr(value, "__name__", getattr(value, "name", "")),
)
def test_another_algorithm_is_told(cell, wrong):
    errors = compare(cell, reference=wrong)
    assert not errors.passed
    assert errors.meta_gradient > 1e-4


def test_outer_updates_have_a_bound_of_their_own():
    cell = Cell("fomaml", "mlp-sinusoid", 1, updates=3)
    assert 0 < compare(cell).outer < 1e-12
    assert compare(cell, reference=reference.maml).outer > 1e-6
