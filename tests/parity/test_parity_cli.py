"""`python -m parity`."""

import json
import time

import pytest

import parity.compare
from parity.__main__ import main
from parity.cells import CELLS
from parity.compare import Errors
from parity.rounding import Rounding


@pytest.fixture
def fake(monkeypatch):
    """Every comparison yields the errors that the returned function was given last."""
    given = {"loss": 0.0, "weights": (0.0, 1e-16), "meta_gradient": 1e-15, "worst": "loss"}
    monkeypatch.setattr(parity.compare, "compare", lambda cell, **_: Errors(cell, **given))
    return given.update


def test_all_within_the_bound(fake, capsys):
    assert main(["--all"]) == 0
    output = capsys.readouterr()
    assert f"{len(CELLS)} of {len(CELLS)} cells within the bound" in output.out
    assert "maml/conv4-stride/1/mixed" in output.out
    assert "FAIL" not in output.out
    assert "\033" not in output.out
    assert output.err == ""


@pytest.mark.parametrize("error", [1e-9, float("inf"), float("nan")])
def test_one_above_the_bound(fake, capsys, error):
    fake(meta_gradient=error, worst="meta-gradient head/kernel")
    assert main(["--only", "fomaml/mlp/1"]) == 1
    output = capsys.readouterr().out
    assert "FAIL  meta-gradient head/kernel" in output
    assert "0 of 1 cells within the bound" in output


def test_columns_are_aligned(fake, capsys):
    main([])
    rows = [row for row in capsys.readouterr().out.splitlines() if "/" in row]
    assert len({row.index("  ok  ") for row in rows}) == 1


def test_float32_has_columns_of_its_own(fake, capsys):
    assert main(["--only", "fomaml/mlp/1", "--float32"]) == 0
    assert "jax float32" not in capsys.readouterr().out  # these have none
    fake(float32=Rounding(jax=1.5e-7, torch=2.5e-7, difference=3.5e-7))
    assert main(["--only", "fomaml/mlp/1", "--float32"]) == 0
    output = capsys.readouterr().out
    title, row = (line for line in output.splitlines() if line.startswith(("cell ", "fomaml")))
    for name, figure in (("jax float32", "1.5e-07"), ("torch float32", "2.5e-07")):
        assert title.index(name) + len(name) == row.index(figure) + len(figure)
    assert "3.5e-07" in row
    fake(float32=Rounding(jax=1.5e-7, torch=1.0, difference=1.0))
    assert main(["--only", "fomaml/mlp/1", "--float32", "--json"]) == 1
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert cell["passed"] is False
    figures = {"jax": 1.5e-7, "torch": 1.0, "apart": 1.0, "jump": 0.0, "bound": 1.5e-6}
    assert cell["float32"] == figures | {"passed": False}


def test_real_cell_end_to_end(capsys):
    assert main(["--only", "fomaml/mlp-sinusoid/5/momentum", "--json", "--float32"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is True
    assert report["bound"] == 1e-10
    assert report["versions"].keys() == {"maml-jax", "jax", "flax", "torch"}
    (cell,) = report["cells"]
    assert cell["name"] == "fomaml/mlp-sinusoid/5/momentum"
    assert len(cell["weights"]) == 6
    assert 0 < cell["meta_gradient"] < 1e-10
    assert 1e-9 < cell["float32"]["jax"] < 1e-5
    assert cell["passed"] is True


def test_out_is_a_file_of_the_same(fake, tmp_path, capsys):
    file = tmp_path / "found.json"
    options = ["--only", "maml/mlp/1/mixed", "--json", "--as-trained", "--out", str(file)]
    assert main(options) == 0
    found = json.loads(file.read_text())
    assert found == json.loads(capsys.readouterr().out)
    assert found["command"] == "python -m parity --as-trained --only maml/mlp/1/mixed"
    assert main(["--out", str(tmp_path / "missing" / "found.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_has_null_for_what_is_no_number(fake, capsys):
    fake(meta_gradient=float("nan"), weights=(0.0, float("inf")))
    assert main(["--only", "maml/mlp/1/mixed", "--json"]) == 1
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert report["passed"] is False
    cells = {cell["name"]: cell for cell in report["cells"]}
    assert cells["maml/mlp/1/mixed"]["meta_gradient"] is None
    assert cells["maml/mlp/1/mixed"]["weights"] == [0.0, None]


def test_list_prints_names_and_computes_nothing(capsys, monkeypatch):
    monkeypatch.setattr(parity.compare, "compare", None)
    assert main(["--list"]) == 0
    default = capsys.readouterr().out.splitlines()
    assert default == [cell.name for cell in CELLS if cell.by_default]
    assert main(["--list", "--all"]) == 0
    assert capsys.readouterr().out.splitlines() == [cell.name for cell in CELLS]
    assert main(["--list", "--only", "protonet/mlp", "reptile/resnet12"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "protonet/mlp/1",
        "protonet/mlp/5",
        "protonet/mlp/1/100-updates",
        "reptile/resnet12/5",
    ]


def test_only_that_matches_nothing(capsys):
    assert main(["--only", "resnet50"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "parity: --only was 'resnet50' (did you mean 'resnet12'?)" in output.err
    assert "conv4-maxpool" in output.err


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--seed", "x"], ["--onyl", "mlp"]])
def test_wrong_arguments(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_colour_and_progress_are_for_terminals(fake, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["--only", "fomaml/mlp/1"]) == 0
    output = capsys.readouterr()
    assert "\033[32mok\033[0m" in output.out
    assert "1/1 cells, about 0 s left, last fomaml/mlp/1" in output.err


def test_progress_of_a_long_run_is_lines_in_a_file(fake, capsys, monkeypatch):
    monkeypatch.setattr("parity.progress.EVERY", 0.0)
    assert main(["--only", "fomaml/mlp"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(
        f"{len(lines)}/{len(lines)} cells, about 0 s left, last fomaml/mlp/"
    )
    assert "\r" not in "".join(lines)


def test_an_interruption_ends_it(fake, capsys, monkeypatch):
    started = []

    def interrupted(cell, **_):
        started.append(cell)
        if len(started) == 1:
            raise KeyboardInterrupt
        time.sleep(0.1)

    monkeypatch.setattr(parity.compare, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        main(["--all"])
    assert len(started) < len(CELLS)


def test_help_names_the_exit_status(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "exit status: 0 if every error is within its bound" in capsys.readouterr().out


def test_the_default_is_a_part_in_which_nothing_is_missing(fake, capsys):
    assert main(["--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert len(cells) < len(CELLS)
    assert {cell["algorithm"] for cell in cells} == {cell.algorithm for cell in CELLS}
    assert {cell["model"] for cell in cells} == {cell.model for cell in CELLS} - {"resnet12"}
