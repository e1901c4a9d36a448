"""Cells pass as they are, and fail once either side is broken."""

import functools
from pathlib import Path

import jax.numpy as jnp
import pytest
import torch
from shared_cells import errors_against

import maml_jax as mj
import maml_jax.algorithms
import maml_jax.models
import parity.compiling
import parity.models
import parity.reference
from parity.cells import CELLS, COMPARISONS, MODELS, Cell, select
from parity.compare import compare
from parity.episodes import TASKS
from parity.reference.anil import anil
from parity.reference.fomaml import fomaml
from parity.reference.maml import maml
from parity.reference.meta_sgd import meta_sgd
from parity.reference.proto_maml import proto_maml
from parity.relative_error import BOUND

FAST = {
    "maml/mlp/5/mixed",
    "maml/mlp-sinusoid/5/mixed/adam",
    "fomaml/mlp-sinusoid/5/momentum",
    "reptile/mlp/5",
    "imaml/mlp/5",
    "meta-sgd/mlp-batch-norm/5/mixed",
    "anil/mlp/5/mixed",
    "proto-maml/mlp/5/mixed",
}
SLOW = {
    "maml/conv4-stride/1/mixed",
    "maml-plus-plus/mlp-batch-norm/5/mixed",
    "meta-curvature/mlp/5/mixed",
    "fomaml/conv4-maxpool/5",
    "maml/article-cnn/1/reverse",
    "maml/mlp-batch-norm/5/reverse",
    "maml/mlp-sinusoid/5/mixed",
    "maml/lstm-sequences/5/mixed",
    "meta-sgd-first-order/mlp/5",
    "boil/mlp/5/mixed",
    "proto-maml-first-order/mlp/5",
    "protonet/gru-sequences/5",
    "maml-plus-plus/mlp-sinusoid/1/mixed/100-updates",
    "cavia/mlp/5/mixed",
    "pretrained/mlp-sinusoid/5",
}
"""Each compiles for seconds; `python -m parity --all` has all 252."""


def cells(names, *marks):
    return [pytest.param(c, id=c.name, marks=marks) for c in CELLS if c.name in names]


@pytest.mark.parametrize("cell", [*cells(FAST), *cells(SLOW, pytest.mark.slow)])
def test_cell_is_within_the_bound(cell):
    errors = errors_against(cell)
    assert errors.passed, errors
    assert len(errors.weights) == (1 if cell.algorithm == "protonet" else cell.inner_steps + 1)


def test_matrix_is_complete():
    names = {cell.name for cell in CELLS}
    assert len(names) == len(CELLS) >= 252
    assert names >= FAST | SLOW
    for name, comparison in COMPARISONS.items():
        of_algorithm = [cell for cell in CELLS if cell.algorithm == name]
        sensible = {m for m in MODELS if comparison.regression or m != "mlp-sinusoid"}
        assert {cell.model for cell in of_algorithm} == sensible
        assert {cell.inner_steps for cell in of_algorithm} == {1, 5}
        assert any(cell.updates == 100 for cell in of_algorithm)


# The signatures say which choices there are; an algorithm that loses one must not pass unnoticed.
WITH_OPERATORS = {
    *("anil", "boil", "cavia", "maml", "maml-plus-plus", "meta-curvature", "meta-sgd"),
    "proto-maml",
}
WITH_OPTIMIZERS = {
    *("anil", "boil", "cavia", "fomaml", "imaml", "maml", "meta-curvature", "pretrained"),
    *("proto-maml", "proto-maml-first-order", "reptile"),
}


def test_every_choice_of_an_algorithm_is_compared():
    for name in WITH_OPERATORS:
        assert "mixed" in {cell.differentiate for cell in CELLS if cell.algorithm == name}, name
    for name in WITH_OPTIMIZERS:
        optimizers = {cell.optimizer for cell in CELLS if cell.algorithm == name}
        assert optimizers == {"sgd", "momentum", "adam"}, name
    assert {cell.differentiate for cell in CELLS if cell.algorithm == "maml"} == {
        "mixed",
        "reverse",
    }


def stems(package):
    return sorted(p.stem for p in Path(package.__path__[0]).glob("*.py") if p.stem[0] != "_")


@pytest.mark.parametrize("name", stems(maml_jax.algorithms))
def test_every_algorithm_has_a_reference(name):
    assert name in stems(parity.reference), f"parity/reference/{name}.py is missing"


@pytest.mark.parametrize("name", stems(parity.reference))
def test_every_reference_has_an_algorithm(name):
    assert name in stems(maml_jax.algorithms)


def test_only_training_from_scratch_has_nothing_to_compare():
    compared = {name.replace("-", "_") for name in COMPARISONS}
    assert set(stems(maml_jax.algorithms)) - compared == {"scratch"}


def test_only_selects_by_whole_parts():
    def selected(pattern):
        return {cell.name for cell in select(CELLS, pattern)}

    assert selected("maml/mlp") == {
        "maml/mlp/1/mixed",
        "maml/mlp/1/reverse",
        "maml/mlp/5/mixed",
        "maml/mlp/5/reverse",
        "maml/mlp/5/mixed/momentum",
        "maml/mlp/5/mixed/adam",
        "maml/mlp/1/mixed/100-updates",
    }
    assert selected("mlp") == {cell.name for cell in CELLS if cell.model == "mlp"}
    assert selected("/5/") == {cell.name for cell in CELLS if cell.inner_steps == 5}
    assert selected("gru-sequences/1") == {"maml/gru-sequences/1/mixed"} | {
        f"{a}/gru-sequences/1{rest}"
        for a, rest in (("maml", "/reverse"), ("maml", "/mixed/100-updates"), ("fomaml", ""))
    }
    with pytest.raises(mj.InputError, match=r"`only` was 'mpl' \(did you mean 'mlp'"):
        select(CELLS, "maml/mpl")
    with pytest.raises(mj.InputError, match="which no cell's name contains"):
        select(CELLS, "protonet/mlp-sinusoid")


def test_another_seed_is_another_problem_within_the_bound():
    cell = Cell("fomaml", "mlp-sinusoid", 1)
    first, second = compare(cell, seed=1), compare(cell, seed=2)
    assert first.passed
    assert second.passed
    assert first != second


def test_outer_updates_do_not_multiply_rounding():
    errors = errors_against(Cell("imaml", "mlp-sinusoid", 1, updates=100), seed=3)
    assert errors.outer < 1e-12  # 3e-7 where the damping leaves negative eigenvalues


def test_precision_is_restored():
    errors_against(Cell("fomaml", "mlp-sinusoid", 1))
    assert jnp.ones(1).dtype == jnp.float32


def test_cell_compiled_as_for_training_is_within_the_bound():
    assert compare(Cell("fomaml", "mlp-sinusoid", 1), as_trained=True).passed


def test_a_compile_option_that_xla_does_not_know_is_left_out(monkeypatch):
    monkeypatch.setattr(parity.compiling, "UNOPTIMIZED", {"no_such_option": True})
    assert compare(Cell("fomaml", "mlp-sinusoid", 1)).passed


BROKEN = Cell("maml", "mlp", 2, "mixed")
MODEL = MODELS[BROKEN.model]
SUPPORT_EXAMPLES = 10  # five ways, two shots


def torch_one_step_fewer(*problem, inner_steps, **options):
    return maml(*problem, inner_steps=inner_steps - 1, **options)


def torch_inner_sum(*problem, inner_lr, **options):
    # The gradient of a sum is that of the mean, scaled by the number of examples.
    return maml(*problem, inner_lr=inner_lr * SUPPORT_EXAMPLES, **options)


def scaled(result, factor):
    gradients = {n: factor * g for n, g in result.meta_gradient["params"].items()}
    return result._replace(meta_gradient={"params": gradients})


def torch_task_sum(*problem, **options):
    return scaled(maml(*problem, **options), TASKS)


def torch_nan(*problem, **options):
    return scaled(maml(*problem, **options), torch.nan)


def jax_loss_sum(outputs, y):
    return MODEL.loss.jax(outputs, y) * y.shape[0]


jax_maml = functools.partial(mj.maml, inner_lr=MODEL.inner_lr, loss=MODEL.loss.jax)
jax_fomaml = functools.partial(mj.fomaml, inner_lr=MODEL.inner_lr, loss=MODEL.loss.jax)
EVERYTHING = {"loss", "weights", "meta_gradient"}


@pytest.mark.parametrize(
    ("reference", "wrong"),
    [
        pytest.param(torch_one_step_fewer, EVERYTHING, id="one step fewer"),
        pytest.param(fomaml, {"meta_gradient"}, id="detached"),
        pytest.param(torch_inner_sum, EVERYTHING, id="sum over the support examples"),
        pytest.param(torch_task_sum, {"meta_gradient"}, id="sum over tasks"),
        pytest.param(torch_nan, {"meta_gradient"}, id="NaN"),
    ],
)
def test_breaking_pytorch_fails(reference, wrong):
    check_wrong(errors_against(BROKEN, reference), wrong)


@pytest.mark.parametrize(
    ("learner", "wrong"),
    [
        pytest.param(functools.partial(jax_fomaml, inner_steps=2), {"meta_gradient"}, id="fomaml"),
        pytest.param(functools.partial(jax_maml, inner_steps=1), EVERYTHING, id="one step fewer"),
        pytest.param(
            functools.partial(jax_maml, inner_steps=2, loss=jax_loss_sum),
            EVERYTHING,
            id="sum over the examples",
        ),
    ],
)
def test_breaking_jax_fails(learner, wrong):
    check_wrong(compare(BROKEN, learner=learner), wrong)


def check_wrong(errors, wrong):
    assert not errors.passed
    found = {"loss": errors.loss, "weights": max(errors.weights)}
    found["meta_gradient"] = errors.meta_gradient
    assert {name for name, error in found.items() if not error <= BOUND} == wrong
    # Far above the bound, so that no rounding could explain it; NaN is beyond any.
    assert all(not found[name] < 1e-3 for name in wrong), found
    assert errors.weights[0] == 0


def test_unbroken_cell_passes():
    assert compare(BROKEN).passed
    assert errors_against(BROKEN) == compare(BROKEN)


def torch_rates_never_move(*problem, **options):
    """Meta-SGD as it has been seen to go wrong: the steps are made with a copy of the rates."""
    result = meta_sgd(*problem, **options)
    rates = {name: 0 * slope for name, slope in result.meta_gradient["rates"].items()}
    return result._replace(meta_gradient={**result.meta_gradient, "rates": rates})


def torch_prototypes_detached(forward, *problem, **options):
    def constant(weights, x):
        features = forward(weights, x)
        return features if weights["head.bias"].any() else features.detach() + 0 * features

    return proto_maml(constant, *problem, **options)


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        (Cell("meta-sgd", "mlp", 1, "mixed"), torch_rates_never_move),
        (Cell("proto-maml", "mlp", 1, "mixed"), torch_prototypes_detached),
        (Cell("anil", "mlp", 5, "mixed"), maml),
        (Cell("boil", "mlp", 5, "mixed"), anil),
        (Cell("imaml", "mlp", 5), fomaml),
        (Cell("reptile", "mlp", 5), fomaml),
    ],
    ids=lambda value: getattr(value, "__name__", getattr(value, "name", "")),
)
def test_another_algorithm_is_detected(cell, wrong):
    errors = errors_against(cell, wrong)
    assert not errors.passed
    assert errors.meta_gradient > 1e-4


def test_outer_updates_have_a_bound_of_their_own():
    cell = Cell("fomaml", "mlp-sinusoid", 1, updates=3)
    assert 0 < errors_against(cell).outer < 1e-12
    assert errors_against(cell, maml).outer > 1e-6
