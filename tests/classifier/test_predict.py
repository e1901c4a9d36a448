"""`maml-jax predict`: folders of pictures to labels, as a table, CSV, JSON or a page."""

import csv
import io
import json

import pytest
from test_estimator import SHAPES, picture

from maml_jax.cli import main

pytestmark = pytest.mark.xdist_group("classifier")  # one process trains the run


@pytest.fixture
def folders(tmp_path):
    """Five labelled folders, with a hidden file, and ten pictures."""
    for kind in SHAPES[:5]:
        folder = tmp_path / "support" / kind
        folder.mkdir(parents=True)
        for n in range(2):
            picture(kind, n).save(folder / f"{n}.png")
    (tmp_path / "support" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "new" / "inner").mkdir(parents=True)
    for kind in SHAPES[:5]:
        picture(kind, 10).save(tmp_path / "new" / f"{kind}.png")
        picture(kind, 11).convert("RGB").save(tmp_path / "new" / "inner" / f"{kind}.jpg")
    (tmp_path / "new" / "notes.txt").write_text("no picture")
    return tmp_path


def predict(run, folders, *options, capsys):
    capsys.readouterr()
    words = ["--support", str(folders / "support"), "--images", str(folders / "new"), *options]
    code = main(["predict", str(run), *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_forms(run, folders, capsys):
    code, out, said = predict(run, folders, "--json", capsys=capsys)
    assert code == 0, said
    rows = json.loads(out)
    assert "left out: 1 hidden" in said
    assert "left out: 1 .txt" in said
    assert len(rows) == 10
    for row in rows:
        assert set(row) == {"file", "label", "probability", "probabilities"}
        assert row["probability"] == max(row["probabilities"].values())
        assert sum(row["probabilities"].values()) == pytest.approx(1)

    _, out, _ = predict(run, folders, "--csv", capsys=capsys)
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in table] == [row["label"] for row in rows]
    assert set(SHAPES[:5]) < set(table[0])

    _, out, _ = predict(run, folders, capsys=capsys)
    assert [line.split()[1] for line in out.splitlines()[1:]] == [row["label"] for row in rows]


def test_pictures_in_folders_of_labels_are_counted(run, folders, capsys):
    """Of ten in such folders one lies in another's; two lie in none."""
    for kind in SHAPES[:5]:
        (folders / "new" / kind).mkdir()
        for n in range(2):
            (folders / "support" / kind / f"{n}.png").rename(folders / "new" / kind / f"{n}.png")
        picture(kind, 0).save(folders / "support" / kind / "0.png")
    first, second = (folders / "new" / kind / "0.png" for kind in SHAPES[:2])
    second.with_name("1.png").write_bytes(first.read_bytes())
    code, out, said = predict(run, folders, "--json", capsys=capsys)
    assert code == 0, said
    named = [
        row for row in json.loads(out) if row["file"].count("/") and "inner" not in row["file"]
    ]
    right = sum(row["file"].split("/")[0] == row["label"] for row in named)
    assert len(named) == 10
    assert right < 10
    assert f"{right} of 10 are right, where the folder is a label's" in said


def test_the_page_needs_no_other_file(run, folders, capsys):
    page = folders / "page.html"
    code, _, said = predict(run, folders, "--html", str(page), capsys=capsys)
    assert code == 0, said
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure>") == 10
    assert text.count("data:image/png;base64") == 20
    assert "http" not in text
    code, _, said = predict(run, folders, "--html", str(page), capsys=capsys)
    assert (code, said.count("\n")) == (2, 1)
    assert "--html was" in said


def test_what_was_learned_is_kept(run, folders, capsys):
    kept = folders / "kept"
    _, expected, _ = predict(run, folders, "--save", str(kept), "--json", capsys=capsys)
    assert main(["predict", str(kept), "--images", str(folders / "new"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(expected)
    code, _, said = predict(kept, folders, capsys=capsys)
    assert code == 2
    assert "has learned its own pictures already: leave it out" in said


def test_one_picture(run, folders, capsys):
    one = ["--images", str(folders / "new" / "bar.png"), "--calibrate", "--json"]
    assert main(["predict", str(run), "--support", str(folders / "support"), *one]) == 0
    assert [row["file"] for row in json.loads(capsys.readouterr().out)] == ["bar.png"]


def test_bad_input_is_one_line(run, folders, capsys):
    new, support = str(folders / "new"), str(folders / "support")
    (folders / "empty").mkdir()
    (folders / "broken").mkdir()
    (folders / "broken" / "a.png").write_text("no picture")
    cases = [
        ([str(run), "--images", new], "--support is missing"),
        ([str(run), "--support", support], "--images"),
        ([str(run), "--images", str(folders / "x"), "--support", support], "which is not there"),
        ([str(run), "--images", new, "--support", new], "--support was"),
        ([str(run), "--images", str(folders / "empty"), "--support", support], "no picture"),
        ([str(run), "--images", str(folders / "broken"), "--support", support], "a.png"),
        ([str(run), "--images", new, "--support", support, "--json", "--csv"], "one may be"),
        ([new, "--images", new, "--support", support], "config.json"),
        (["pretrained:no", "--images", new, "--support", support], "pretrained:omniglot-5w1s"),
    ]
    for words, said in cases:
        assert main(["predict", *words]) == 2
        found = capsys.readouterr()
        assert found.out == ""
        assert said in found.err
        assert found.err.splitlines()[-1].startswith("maml-jax predict: ")
