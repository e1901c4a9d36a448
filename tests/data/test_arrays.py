"""Arrays in memory as a data set."""

import jax
import numpy as np
import pytest
from PIL import Image

from maml_jax.data import from_arrays, load
from maml_jax.errors import InputError

LABELS = np.repeat(np.arange(10), 4)


def tag(shape, dtype, labels=LABELS):
    """Examples of one value each, 4 · label + place: which class and which example it is."""
    order = np.argsort(labels, kind="stable")
    x = np.zeros((len(labels), *shape), dtype)
    x[order] = np.arange(len(labels)).reshape(-1, *[1] * len(shape))
    return x


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "input_shape", "scale", "found"),
    [
        ((6, 6), np.uint8, "images", (6, 6, 1), 255, np.float32),
        ((6, 6, 3), np.uint8, "images", (6, 6, 3), 255, np.float32),
        ((6, 6, 12), np.uint8, "images", (6, 6, 12), 255, np.float32),
        ((6, 6, 1), np.float32, "images", (6, 6, 1), 1, np.float32),
        ((6, 2), np.float64, "sequences", (6, 2), 1, np.float32),
        ((6, 2), np.int64, "sequences", (6, 2), 1, np.int32),
        ((7,), np.float16, "vectors", (7,), 1, np.float32),
        ((7,), np.int32, "vectors", (7,), 1, np.int32),
    ],
)
def test_what_an_example_is_follows_from_the_array(shape, dtype, kind, input_shape, scale, found):
    order = np.random.default_rng(0).permutation(len(LABELS))
    labels = LABELS[order]
    data = from_arrays(tag(shape, dtype, labels), labels)
    assert (data.kind, data.input_shape) == (kind, input_shape)
    source = data.tasks("all", ways=10, shots=1, queries=3, by_class=True)
    episode = jax.jit(source.sample)(source.store, jax.random.key(0))
    for x, y in episode:
        assert x.dtype == found
        assert x.shape[1:] == input_shape
        values = np.asarray(x).reshape(len(x), -1)
        assert (values == values[:, :1]).all()
        np.testing.assert_array_equal(np.round(values[:, 0] * scale) // 4, y)
    places = np.concatenate([np.asarray(part.x).reshape(len(part.x), -1)[:, 0] for part in episode])
    assert len(set(places.tolist())) == 40  # every example once


def test_classes_are_split_at_random_by_a_seed():
    data = from_arrays(tag((3,), float), LABELS)
    assert {part: len(classes) for part, classes in data.splits.items()} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }
    assert repr(data).startswith("<arrays: vectors, each input 3; train 6 classes, 24 examples; ")
    others = [from_arrays(tag((3,), float), LABELS, split_seed=seed) for seed in range(4)]
    assert len({tuple(other.splits["test"]) for other in others}) > 1


@pytest.mark.parametrize("kind", [int, str, object])
def test_classes_may_be_named_for_each_split(kind):
    labels = LABELS.astype(str).astype(object) if kind is object else LABELS.astype(kind)
    split = {"train": [3, 1, 2], "test": list(labels[-4:-3])}
    data = from_arrays(tag((3,), float), labels, name="mine", split=split)
    found = {part: [data.class_names[i] for i in data.splits[part]] for part in data.splits}
    assert found == {"train": ["1", "2", "3"], "val": [], "test": ["9"]}
    with pytest.raises(InputError, match="`ways` was 2; the test split of mine has 1 classes"):
        data.tasks("test", ways=2, queries=1)


def test_images_are_resized_as_those_of_a_file_are(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 9, 9, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=x, labels=LABELS)
    for size in (None, 5):
        ours, files = (
            from_arrays(x, LABELS, image_size=size),
            load(tmp_path / "a.npz", image_size=size),
        )
        assert ours.fingerprint() == files.fingerprint()
    tall = np.repeat(x, 2, axis=1)
    data = from_arrays(tall, LABELS, image_size=5)
    expected = Image.fromarray(tall[7]).resize((5, 5), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(data.examples[7], np.asarray(expected))


def test_fingerprints_tell_types_apart():
    x = np.zeros((40, 3), np.float32)
    prints = [from_arrays(a, LABELS).fingerprint() for a in (x, x.astype(np.int32), x + 1)]
    assert len({str(p) for p in prints}) == 3
    assert prints[0]["dtype"] == "float32"


X = np.zeros((4, 3), np.float32)
Y = np.array([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((4, 3), np.uint8), Y, {}, r"`x` was uint8\[4, 3\]; it may be uint8 images"),
        (np.zeros(4), Y, {}, r"`x` was float64\[4\]"),
        (np.zeros((4, 2, 2, 2, 1)), Y, {}, r"`x` was float64\[4, 2, 2, 2, 1\]"),
        (np.zeros((0, 3)), np.zeros(0, int), {}, r"`x` was float64\[0, 3\]"),
        (np.full((4, 3), 2**31), Y, {}, "`x` held integers up to 2147483648; they must fit 32"),
        (np.zeros((4, 6, 5, 1)), Y, {}, "`x` held images of 6×5; they must be square"),
        (X, Y[:3], {}, r"`y` had the shape \(3,\); `x` holds 4 examples: \(4,\)"),
        (X, np.eye(4, dtype=int), {}, r"`y` had the shape \(4, 4\)"),
        (X, Y / 2, {}, "`y` held labels that are float64; they must be integers or text"),
        (X, np.array([0, "a", 1, 2], object), {}, "`y` held labels that are object"),
        (X, Y, {"split": {"train": [2]}}, "`class_split` named '2', which is no class of arrays"),
        (X, Y, {"split": {"train": [1], "test": [1]}}, "class '1' is in train and in test"),
        (X, Y, {"split": {"tset": [1]}}, r"`split` was 'tset' \(did you mean 'test'\?\)"),
        (X, Y, {"split_seed": -1}, "`split_seed` was -1"),
        (X, Y, {"image_size": 3}, "`image_size` was 3; only uint8 images of 1 or 3 channels"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(x, y, options, message):
    with pytest.raises(InputError, match=message):
        from_arrays(x, y, **options)
