"""The photos that are made are those of a class, and both commands take them as they are."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.own_photos import CLASSES, NEW_CLASSES, TO_LABEL, make_photos, photo, whole_way


def test_photos_are_coloured_and_of_many_sizes(tmp_path):
    make_photos(tmp_path / "photos", range(2), 3)
    files = sorted((tmp_path / "photos").rglob("*.jpg"))
    assert [file.parent.name for file in files] == ["thing-00"] * 3 + ["thing-01"] * 3
    seen = set()
    for file in files:
        with Image.open(file) as picture:
            seen.add((picture.format, picture.mode, picture.size))
    assert {(form, mode) for form, mode, _ in seen} == {("JPEG", "RGB")}
    assert len(seen) == 6


def test_a_number_and_a_generator_decide_a_photo():
    one, same, other = (photo(n, np.random.default_rng(0)) for n in (3, 3, 4))
    assert one.tobytes() == same.tobytes()
    assert one.size == other.size
    assert one.tobytes() != other.tobytes()


@pytest.mark.slow  # it trains and predicts with conv4, in processes of their own
def test_both_commands_need_no_other_option(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    short = ("--updates", "4", "--tasks", "2", "--validate-every", "4", "--validation-tasks", "2")
    found = whole_way(folder, 2, Path(os.environ["MAML_JAX_CACHE"]), *short)
    said = found["train"]["stderr"]
    assert "made 28×28 and grey (where colours matter, train without --init)" in said
    assert "validation after 4 updates: accuracy " in said
    assert "or label pictures: maml-jax predict run --support LABELLED --images NEW" in said
    assert len(list((folder / "photos").iterdir())) == CLASSES
    assert found["pictures"] == NEW_CLASSES * TO_LABEL
    assert 0 <= found["right"] <= found["pictures"]
    assert found["predict"]["processor_seconds"] > 0
