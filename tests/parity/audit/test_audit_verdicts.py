"""Planted errors are found, right operations are not accused, reproducers show what was found."""

import io
from contextlib import redirect_stdout

import pytest
import torch
from problems import all_but_slow
from torch.autograd import Function

from parity.audit import audit_report, kinks
from parity.audit.__main__ import main
from parity.audit.backends import INNER, Mode, Runner
from parity.audit.cells import RIGHT, UNSUPPORTED, WRONG, Truth, cells, judged, transformations_of
from parity.audit.operations import OPERATIONS, STACKS
from parity.audit.plan import plan
from parity.audit.planted import FAULTS, audit_fault
from parity.audit.reproducer import MOST_LINES, reproducer
from parity.audit.transformations import TRANSFORMATIONS
from parity.audit.trials import summary, trial

BY_NAME = {operation.name: operation for operation in OPERATIONS}
WIDE = Mode("func", "float64")
FUNCTION = {t.name: t for t in TRANSFORMATIONS}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
@pytest.mark.parametrize("name", all_but_slow(["dense", "group_norm", "softmax"], "group_norm"))
def test_planted_errors_are_caught_in_pytorch(name, fault):
    found = audit_fault(BY_NAME[name], "torch", fault)
    assert found.wrong == ["grad∘grad", "jvp∘grad"]
    assert found.first_order_right


@pytest.mark.slow  # XLA compiles a program for each
@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_planted_errors_are_caught_in_jax(fault):
    found = audit_fault(BY_NAME["group_norm"], "jax", fault)
    assert found.wrong == ["grad∘grad", "jvp∘grad"]
    assert found.first_order_right


def test_a_right_operation_is_right_in_both_precisions():
    modes = [(WIDE, ()), (Mode("autograd", "float64"), ()), (Mode("func", "float32"), ())]
    found = list(cells(BY_NAME["group_norm"], "torch", modes))
    assert {cell.verdict for cell in found} == {RIGHT}
    assert len(found) == 2 * len(TRANSFORMATIONS) + 3
    assert all(cell.error <= cell.bound for cell in found)


def test_what_a_framework_refuses_is_not_supported():
    embedding_bag = BY_NAME["embedding_bag"]
    found = list(cells(embedding_bag, "torch", [(WIDE, ("grad", "jvp∘grad"))]))
    assert [cell.verdict for cell in found] == [RIGHT, UNSUPPORTED]
    assert "embedding_bag" in found[1].message


def test_an_accusation_needs_both_references():
    """An error beyond rounding that values do not confirm is undecided."""
    operation = BY_NAME["silu"]

    class Doubtful(Truth):
        def expected(self, transformation):
            return tuple(2 * a for a in super().expected(transformation))

    truth = Doubtful(operation, "torch", 0, 1.0)
    runner = Runner.of(operation, "torch", WIDE)
    cell = judged(runner, FUNCTION["grad"], truth, "silu", "")
    assert cell.verdict == "undecided"


def wrong_cells():
    """Cells of PyTorch that some versions get wrong, and one that none does."""
    every = [
        ("layer_norm", "jvp∘jvp"),
        ("layer_norm", "grad∘grad∘grad"),
        ("batch_norm", "grad∘vmap∘grad"),
        ("batch_norm", "grad∘vmap∘grad, shared"),
        ("weight_norm", "grad∘grad"),
        ("dense", "vmap∘grad∘grad"),
        ("hardsigmoid", "grad"),
    ]
    return all_but_slow(every, ("layer_norm", "jvp∘jvp"), ("dense", "vmap∘grad∘grad"))


@pytest.mark.parametrize(("name", "transformation"), wrong_cells())
def test_a_reproducer_shows_what_the_verdict_says(name, transformation):
    """By itself, without this package: both numbers differ if and only if the cell is wrong."""
    operation = BY_NAME[name]
    truth = Truth(operation, "jax", 0, 1.0)  # the reference by PyTorch, which compiles nothing
    runner = Runner.of(operation, "torch", WIDE)
    cell = judged(runner, FUNCTION[transformation], truth, name, operation.kind)
    found, expected = run(reproducer(name, "torch", "func", "float64", transformation))
    apart = abs(found - expected) / abs(expected)
    assert (apart > 1e-8) == (cell.verdict == WRONG), (apart, cell)


def run(text):
    """The two numbers that a reproducer prints."""
    before = torch.get_default_dtype()
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            exec(text, {})  # noqa: S102 - it is what this package prints
    finally:
        torch.set_default_dtype(before)
    _, found, _, expected = out.getvalue().split()
    return float(found), float(expected)


@pytest.mark.parametrize("stack", all_but_slow(STACKS, "torch"))
def test_every_reproducer_is_short_and_is_python(stack):
    for operation in OPERATIONS:
        if operation.call(stack) is None:
            continue
        for mode, _ in plan(operation, stack, everything=True):
            for transformation in transformations_of(operation, stack):
                if mode.name in ("autograd", INNER) and not transformation.reverse_only:
                    continue
                text = reproducer(
                    operation.name, stack, mode.name, mode.precision, transformation.name
                )
                assert len(text.splitlines()) <= MOST_LINES, text
                compile(text, operation.name, "exec")


class Flipped(Function):
    """The gradient of x·sigmoid(x) with a second derivative of the wrong sign."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * torch.sigmoid(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        x = 2 * x.detach() - x
        s = torch.sigmoid(x)
        return cotangent * (s + x * s * (1 - s))


def test_the_command_on_a_wrong_operation(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.nn.functional, "silu", Flipped.apply)
    out = tmp_path / "found.json"
    assert main(["--stack", "torch", "--only", "silu", "--out", str(out)]) == 1
    said = capsys.readouterr().out
    assert "WRONG torch silu, grad∘grad, func, float64" in said
    assert "y = F.silu(x)" in said
    assert '"wrong_from_order": {\n   "torch silu": 2\n  }' in out.read_text("utf-8")


def test_the_command_on_a_right_operation(capsys):
    assert main(["--stack", "torch", "--only", "tanh"]) == 0
    assert "1 operations are right under every transformation." in capsys.readouterr().out


def test_bad_arguments(capsys, tmp_path):
    assert main(["--only", "layernorm"]) == 2
    assert "--only was 'layernorm'; --list shows the operations." in capsys.readouterr().err
    assert main(["--my-function", "mine"]) == 2
    assert "--my-function was 'mine'; it must be module:function." in capsys.readouterr().err
    assert main(["--my-function", "no_such_module:f"]) == 2
    assert "there is no module no_such_module" in capsys.readouterr().err
    assert main(["--only", "tanh", "--out", str(tmp_path / "a" / "b.json")]) == 2
    assert "its folder must exist" in capsys.readouterr().err


def test_names_are_listed(capsys):
    assert main(["--list", "--stack", "torch", "jax", "--only", "norm"]) == 0
    listed = capsys.readouterr().out.split("\n")
    assert "torch layer_norm" in listed
    assert "jax layer_norm" in listed


def test_a_trial_counts_alarms_and_planted_errors():
    found = trial("torch", "softplus", seeds=range(2), scales=(1 / 3, 3.0))
    assert found.verdicts == 2 * 2 * 5
    assert found.alarms == []
    assert (found.planted, found.missed) == (4, [])
    assert summary([found])["false_alarms"] == 0


def test_an_operation_that_is_wrong_somewhere_is_not_known_to_be_right():
    """The third derivative of this one is NaN."""
    found = trial("torch", "logcumsumexp", seeds=range(2), scales=(1.0,))
    assert (found.verdicts, found.planted) == (0, 4)
    assert summary([found])["known_to_be_right"] == 0


@pytest.mark.slow  # five seeds of three scales; `python -m parity.audit.trials` has twenty
@pytest.mark.parametrize("name", ["conv2d", "group_norm", "attention_mask", "max_pool", "inverse"])
def test_no_false_alarms(name):
    found = trial("torch", name, range(5))
    assert found.verdicts > 0
    assert found.alarms == []
    assert found.missed == []


def test_a_convention_is_told_from_an_error():
    relu, wrong = kinks.conventions(
        [
            kinks.Kink("relu", 0, "F.relu(x)", None),
            kinks.Kink("three", 0, "F.relu(x) + 3 * (x - x.detach())", None),
        ]
    )
    assert (relu.left, relu.right, relu.torch, relu.jax) == (0, 1, "0", "—")
    assert relu.outside == []
    assert wrong.torch == "3"
    assert "torch" in wrong.outside


def test_the_tables_name_the_mode():
    found = list(cells(BY_NAME["embedding_bag"], "torch", [(WIDE, ("grad", "jvp∘grad"))]))
    assert "not supported" in audit_report.table(found)
    assert audit_report.to_json(found, [])["summary"]["not_supported"] == 1
