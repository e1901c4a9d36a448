"""Learners compared with libraries that others wrote, where these are installed."""

import json
import sys

import pytest
import torch
from problems import all_but_slow
from shared_cells import errors_against

from parity.__main__ import main
from parity.cells import CELLS, Cell
from parity.compare import compare
from parity.oracles import ORACLES

FAST = (
    Cell("maml", "mlp-batch-norm", 5, "mixed"),
    Cell("maml", "mlp-sinusoid", 5, "mixed"),
    Cell("maml", "mlp-sinusoid", 5, "mixed", "momentum"),
    Cell("maml", "mlp-sinusoid", 5, "mixed", "adam"),
    Cell("fomaml", "mlp-batch-norm", 5),
    Cell("anil", "mlp-sinusoid", 5, "mixed"),
    Cell("boil", "mlp-sinusoid", 5, "mixed"),
    Cell("reptile", "mlp-sinusoid", 5),
    Cell("imaml", "mlp-sinusoid", 5),
    Cell("meta-sgd", "mlp-sinusoid", 5, "mixed"),
)


@pytest.mark.parametrize(
    ("name", "cell"),
    [(name, cell) for cell in FAST for name, oracle in ORACLES.items() if oracle.expresses(cell)],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.slow  # each compiles for seconds
def test_cell_is_within_the_bound(name, cell):
    pytest.importorskip(name)
    before = torch.get_default_dtype()
    errors = errors_against(cell, ORACLES[name].reference(cell.algorithm))
    assert errors.passed, errors
    assert len(errors.weights) == cell.inner_steps + 1
    assert torch.get_default_dtype() == before


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("tested", "wrong"), [("maml", "fomaml"), ("anil", "boil")])
def test_another_algorithm_is_detected(name, tested, wrong):
    pytest.importorskip(name)
    cell = Cell(tested, "mlp-sinusoid", 5, "mixed")
    errors = errors_against(cell, ORACLES[name].reference(wrong))
    assert not errors.passed
    assert errors.meta_gradient > 1e-4


@pytest.mark.slow  # the cell is compiled in both precisions
def test_float32_too():
    pytest.importorskip("torchopt")
    cell = Cell("maml", "mlp-sinusoid", 5, "mixed", "adam")
    adam = ORACLES["torchopt"].reference("maml")
    assert compare(cell, reference=adam, float32=True).float32.passed


def test_what_each_can_express():
    """As in the table of `parity/oracles/__init__.py`."""
    expressed = {
        name: {(c.algorithm, c.optimizer) for c in CELLS if oracle.expresses(c)}
        for name, oracle in ORACLES.items()
    }
    both = {
        (a, o) for a in ("maml", "fomaml", "anil", "boil", "reptile") for o in ("sgd", "momentum")
    }
    assert expressed["higher"] == both | {("meta-sgd", "sgd")}
    adam = {(a, "adam") for a in ("maml", "fomaml", "anil", "boil", "reptile", "imaml")}
    assert expressed["torchopt"] == both | adam | {("imaml", "sgd"), ("imaml", "momentum")}


@pytest.mark.parametrize("name", all_but_slow(ORACLES, "higher"))
def test_command_names_the_library(name, capsys):
    pytest.importorskip(name)
    options = ["--only", "fomaml/mlp-sinusoid/1", "--against", name, "--json"]
    assert main(options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["against"] == f"{name} {ORACLES[name].version()}"
    assert [cell["name"] for cell in report["cells"]] == [
        "fomaml/mlp-sinusoid/1",
        "fomaml/mlp-sinusoid/1/100-updates",
    ]


def test_command_without_a_cell_that_it_can_express(capsys):
    pytest.importorskip("higher")
    assert main(["--only", "cavia", "--against", "higher"]) == 2
    message = capsys.readouterr().err
    assert "--only was 'cavia'" in message
    assert "anil, boil, fomaml, maml, meta-sgd, reptile" in message


@pytest.mark.parametrize("name", ORACLES)
def test_command_without_the_library(name, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["--only", "maml/mlp/1", "--against", name]) == 2
    message = f"{name} is not installed, which this needs: pip install 'maml-jax[oracles]'."
    assert capsys.readouterr().err == f"parity: {message}\n"
