"""What `maml-jax data show` draws and says."""

import numpy as np
import pytest

from maml_jax.cli import main
from maml_jax.data import describe, from_arrays, load, preview


def noise(shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, *shape)) if dtype == np.uint8 else rng.normal(size=(60, *shape))
    return from_arrays(x.astype(dtype), np.repeat(np.arange(10), 6), name="noise")


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.float32), (3, np.uint8), (12, np.uint8), (12, np.float32)]
)
def test_images_are_drawn_as_strips(channels, dtype):
    data = noise((6, 6, channels), dtype)
    figure = preview.figure(data, ways=2, shots=2, queries=3)
    titles = [axes.get_ylabel() for axes in figure.axes]
    assert titles[:10] == list(data.class_names)
    assert titles[10:13] == ["episode 0\nclass 0", "class 1", "episode 1\nclass 0"]
    assert len(titles) == 10 + 3 * 2
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape == (6, 60) + (() if channels != 3 else (3,))  # room for ten images
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    expected = data.examples[:6] / (255 if dtype == np.uint8 else 1)
    if channels == 12:
        expected = expected.mean(-1)
    low, high = min(0, expected.min()), max(1, expected.max())
    expected = np.concatenate(list(expected.squeeze()), 1)  # side by side
    np.testing.assert_allclose(drawn[:, :36], (expected - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("kind", ["sequences", "vectors"])
def test_sequences_and_vectors_are_drawn_as_curves(kind):
    data = load("sequences") if kind == "sequences" else noise((8,), np.float32)
    figure = preview.figure(data, ways=2, shots=2, queries=3, seed=1)
    assert len(figure.axes) == 3 * 2
    lines = figure.axes[0].lines
    assert len(lines) == (2 + 3) * (2 if kind == "sequences" else 1)
    assert len(lines[0].get_xdata()) == data.input_shape[0]
    again = preview.figure(data, ways=2, shots=2, queries=3, seed=1)
    np.testing.assert_array_equal(again.axes[0].lines[0].get_ydata(), lines[0].get_ydata())


def test_regression_is_drawn_as_points():
    figure = preview.figure(load("sinusoid"), shots=6, queries=9)
    assert len(figure.axes) == 3
    queries, support = figure.axes[0].collections
    assert len(queries.get_offsets()) == 9
    assert len(support.get_offsets()) == 6
    assert np.abs(support.get_offsets()[:, 0]).max() <= 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "sequences",
            "sequences: sequences, each input 24×2\ntrain: 1024 classes\n  val: 256 classes\n"
            " test: 512 classes\n  all: 1792 classes\n",
        ),
        ("sinusoid", "sinusoid: regression, each input 1\n"),
    ],
)
def test_curves_are_shown_from_the_command_line(name, said, tmp_path, capsys):
    out = tmp_path / "shown.png"
    assert main(["data", "show", name, "--out", str(out), "--ways", "2"]) == 0
    assert capsys.readouterr().out == said
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_summary_tells_the_smallest_and_the_largest_class():
    x, y = np.zeros((7, 4, 4), np.uint8), [0, 0, 0, 1, 1, 2, 2]
    data = from_arrays(x, y, name="few", split={"train": [0, 1], "test": [2]})
    assert describe.summary(data) == (
        "few: images, each input 4×4×1\n"
        "train: 2 classes, 5 images, 2 to 3 in a class\n"
        "  val: 0 classes, 0 images\n"
        " test: 1 class, 2 images, 2 to 2 in a class\n"
        "  all: 3 classes, 7 images, 2 to 3 in a class"
    )
