"""Pictures that people have: folders, zips, arrays, lists; and where they are kept."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from maml_jax.cache import cache_folder
from maml_jax.data import load
from maml_jax.errors import InputError

NAMES = [f"{kind}/{colour}" for kind in ("bird", "fish") for colour in ("blue", "green", "red")]


def shade(number, i):
    return 20 * number + i


def picture(number, i, size=8, mode="L"):
    grey = Image.new("L", (size, size), shade(number, i))
    return grey.convert(mode)


def folder(place, names=NAMES, each=3, **look):
    """A folder a class; class `n` has `each + n` images, one shade each."""
    for number, name in enumerate(names):
        (place / name).mkdir(parents=True)
        for i in range(each + number):
            picture(number, i, **look).save(place / name / f"{i}.png")
    return place


def shades(data):
    """The shades of every class's images, from the pixels."""
    assert (data.examples == data.examples[:, :1, :1]).all()
    parts = np.split(data.examples[:, 0, 0, 0], np.cumsum(data.counts)[:-1])
    return {name: part.tolist() for name, part in zip(data.class_names, parts, strict=True)}


EXPECTED = {
    name: [shade(number, i) for i in range(3 + number)] for number, name in enumerate(NAMES)
}


def test_a_folder_of_nested_classes(tmp_path):
    data = load(str(folder(tmp_path / "pets")))
    assert data.name == "pets"
    assert shades(data) == EXPECTED
    assert data.examples.shape[1:] == (8, 8, 1)
    # 64, 16 and 20 % of six classes.
    assert {split: len(classes) for split, classes in data.splits.items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    other = load(str(tmp_path / "pets"), split_seed=5)
    assert other.splits["test"] != data.splits["test"]


@pytest.mark.parametrize("inside", [".", "pets"])
def test_a_zip_of_it_is_the_same(tmp_path, inside):
    folder(tmp_path / "pets")
    base = {".": tmp_path / "pets", "pets": tmp_path}[inside]
    shutil.make_archive(str(tmp_path / "zipped"), "zip", base, inside)
    data = load(str(tmp_path / "zipped.zip"))
    assert shades(data) == EXPECTED


def test_folders_may_say_the_splits(tmp_path):
    for part, names in {"train": NAMES[:3], "valid": NAMES[3:5], "test": NAMES[5:]}.items():
        folder(tmp_path / "pets" / part, names)
    data = load(str(tmp_path / "pets"))
    found = {
        split: {data.class_names[i] for i in classes} for split, classes in data.splits.items()
    }
    assert found == {"train": set(NAMES[:3]), "val": set(NAMES[3:5]), "test": set(NAMES[5:])}


def test_a_class_in_two_splits_is_refused(tmp_path):
    for part in ("train", "test"):
        folder(tmp_path / "pets" / part)
    with pytest.raises(InputError, match="class 'bird/blue' is in train and in test"):
        load(str(tmp_path / "pets"))


def test_a_split_may_be_written_down(tmp_path):
    folder(tmp_path / "pets")
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": NAMES[1:4], "val": NAMES[:1], "test": NAMES[4:5]}))
    data = load(str(tmp_path / "pets"), class_split=str(path))
    assert [data.class_names[i] for i in data.splits["train"]] == NAMES[1:4]
    assert len(data.splits["test"]) == 1  # and one class is in none
    for content, message in {
        '{"train": []}': "it must hold",
        "[": "cannot be read",
        json.dumps(
            {"train": ["cow"], "val": [], "test": []}
        ): "named 'cow', which is no class of pets",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            load(str(tmp_path / "pets"), class_split=str(path))


def test_sizes_and_colours_are_as_they_are_or_as_asked(tmp_path):
    place = str(folder(tmp_path / "pets", mode="RGB", size=10))
    assert load(place).input_shape == (10, 10, 3)
    small = load(place, image_size=5, channels=1)
    assert small.input_shape == (5, 5, 1)
    assert shades(small) == EXPECTED


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_usual_kind_of_pixel_is_read(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    for name in "ab":
        (tmp_path / "x" / name).mkdir(parents=True)
        picture(12, 0, mode=mode).save(tmp_path / "x" / name / f"0.{suffix}")
    for channels in (1, 3):
        data = load(str(tmp_path / "x"), channels=channels)
        assert data.input_shape == (8, 8, channels)
        assert abs(int(data.examples.mean()) - (255 if mode == "1" else 240)) <= 20


def test_mixed_sizes_are_refused_unless_a_size_is_asked_for(tmp_path):
    place = folder(tmp_path / "pets")
    picture(0, 0, size=9).save(place / NAMES[2] / "0.png")
    with pytest.raises(InputError, match=r"pets held an image of 9×9.*give it, such as 84"):
        load(str(place))
    assert load(str(place), image_size=8).input_shape == (8, 8, 1)


def test_mixed_colours_are_refused_unless_channels_are_asked_for(tmp_path):
    place = folder(tmp_path / "pets")
    picture(0, 0, mode="RGB").save(place / NAMES[2] / "0.png")
    with pytest.raises(InputError, match="`channels` was not given; pets held images in grey and"):
        load(str(place))
    assert load(str(place), channels=3).input_shape == (8, 8, 3)


def test_sixteen_bits_are_scaled_to_eight_and_thirty_two_refused(tmp_path):
    place = folder(tmp_path / "pets")
    deep = np.full((8, 8), 257 * shade(2, 0), np.uint16)
    Image.fromarray(deep).save(place / NAMES[2] / "0.png")
    assert shades(load(str(place))) == EXPECTED
    Image.new("F", (8, 8)).save(place / NAMES[2] / "1.tif")
    with pytest.raises(InputError, match=r"bird/red/1.tif, whose pixels are F \(32 bits\)"):
        load(str(place))


def test_images_outside_of_any_class_are_refused(tmp_path):
    place = folder(tmp_path / "pets")
    picture(0, 0).save(place / "stray.png")
    with pytest.raises(InputError, match=r"image stray.png is in no class's folder"):
        load(str(place))


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="which holds no image"):
        load(str(tmp_path))


@pytest.mark.parametrize("extra", [(), (1,), (3,)])
def test_arrays_by_labels(tmp_path, extra):
    labels = np.repeat(np.arange(6), np.arange(6) + 3)
    order = np.random.default_rng(0).permutation(len(labels))
    images = np.zeros((len(labels), 8, 8, *extra), np.uint8)
    firsts = np.repeat(np.cumsum(np.arange(6) + 3) - np.arange(6) - 3, np.arange(6) + 3)
    places = np.arange(len(labels)) - firsts
    images[:] = shade(labels, places).reshape(-1, *[1] * (images.ndim - 1))
    np.savez(tmp_path / "a.npz", images=images[order], labels=labels[order])
    data = load(str(tmp_path / "a.npz"))
    assert data.input_shape == (8, 8, *(extra or (1,)))
    found = {name: sorted(values) for name, values in shades(data).items()}
    assert found == {str(n): EXPECTED[name] for n, name in enumerate(NAMES)}


def test_arrays_in_splits(tmp_path):
    x = np.zeros((4, 8, 8), np.uint8)
    names = np.array(["a", "b", "a", "b"])
    np.savez(
        tmp_path / "a.npz", x_train=x, y_train=names, x_val=x[:2], y_val=names[:2] + "v",
        x_test=x[:2], y_test=names[:2] + "t",
    )  # fmt: skip
    data = load(str(tmp_path / "a.npz"))
    assert [data.class_names[i] for i in data.splits["test"]] == ["at", "bt"]
    np.savez(tmp_path / "b.npz", x_train=x, y_train=names, x_test=x, y_test=np.array(list("acac")))
    with pytest.raises(InputError, match="class 'a' is in train and in test"):
        load(str(tmp_path / "b.npz"))
    # Where all classes are in both, as in Keras' files, they are put together.
    np.savez(tmp_path / "c.npz", x_train=x, y_train=names, x_test=x, y_test=names)
    assert load(str(tmp_path / "c.npz")).counts.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros(3)}, "holds pictures; it needs images and labels"),
        ({"images": np.zeros((2, 8, 8), np.uint8)}, "it needs images and labels"),
        ({"x": np.zeros((2, 8, 8)), "y": np.zeros(2, int)}, r"images are float64\[2, 8, 8\]"),
        ({"x": np.zeros((2, 8, 8, 2), np.uint8), "y": np.zeros(2, int)}, "or with 1 or 3 channels"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.zeros(3, int)}, r"labels \[3\]"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.ones(2) / 2}, "labels are float64"),
        ({"x": np.zeros((2, 8, 8), np.uint8), "y": np.array([{}, 1])}, "cannot be read"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        load(str(tmp_path / "a.npz"))


def ravi(place, listed=lambda part, rows: rows):
    """mini-ImageNet's layout: all images in one folder, a list for each split."""
    (place / "images").mkdir(parents=True)
    for part, numbers in {"train": (0, 1), "val": (2,), "test": (3,)}.items():
        rows = []
        for number in numbers:
            for i in range(3):
                picture(number, i, size=12, mode="RGB").save(place / "images" / f"n{number}{i}.png")
                rows.append(f"n{number}{i}.png,n{number}")
        lines = ["filename,label", *listed(part, rows)]
        (place / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return place


def test_mini_imagenet_by_its_name_and_as_a_folder(tmp_path):
    ravi(tmp_path / "mini-imagenet")
    by_name = load("mini-imagenet", tmp_path)
    assert by_name.input_shape == (84, 84, 3)
    as_it_is = load(str(tmp_path / "mini-imagenet"))
    assert as_it_is.input_shape == (12, 12, 3)
    for data in (by_name, as_it_is):
        assert [data.class_names[i] for i in data.splits["train"]] == ["n0", "n1"]
        assert [data.class_names[i] for i in data.splits["test"]] == ["n3"]
        assert data.counts.tolist() == [3, 3, 3, 3]
    for part in ("train", "val", "test"):
        lists = tmp_path / "splits" / "miniimagenet_ravi"
        lists.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mini-imagenet" / f"{part}.csv").rename(lists / f"{part}.csv")
    assert load("mini-imagenet", tmp_path).fingerprint() == by_name.fingerprint()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (lambda part, rows: [*rows, "nowhere.png,n0"], "lists nowhere.png, not there"),
        (lambda part, rows: ["n00.png"], "train.csv lacks the columns filename and label"),
        (lambda part, rows: [*rows, "n00.png,n0"], "class 'n0' is in train and in val"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, listed, message):
    with pytest.raises(InputError, match=message):
        load(str(ravi(tmp_path / "mini", listed)))


def test_the_real_lists_of_mini_imagenet_are_64_16_20(data_dir):
    folder = data_dir / "splits" / "miniimagenet_ravi"
    if not folder.is_dir():
        pytest.skip("MAML_JAX_DATA holds no splits/miniimagenet_ravi")
    for part, classes in {"train": 64, "val": 16, "test": 20}.items():
        rows = (folder / f"{part}.csv").read_text().split()[1:]
        assert len(rows) == 600 * classes
        assert len({row.split(",")[1] for row in rows}) == classes


def test_pictures_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "cache"))
    place = folder(tmp_path / "pets")
    first = load(str(place))
    monkeypatch.setattr("maml_jax.data.pictures.fit", None)
    assert load(str(place)).fingerprint() == first.fingerprint()
    monkeypatch.undo()
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "cache"))
    picture(9, 0).save(place / NAMES[0] / "0.png")  # a changed file is read again
    assert load(str(place)).fingerprint() != first.fingerprint()
    assert cache_folder() == tmp_path / "cache"


def test_what_is_kept_and_was_damaged_is_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "cache"))
    place = folder(tmp_path / "pets")
    expected = load(str(place)).fingerprint()
    for damage in (
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x01" + path.read_bytes()[-8:]),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
    ):
        for name in ("images.npy", "images.json"):
            [path] = (tmp_path / "cache").rglob(name)
            damage(path)
            assert load(str(place)).fingerprint() == expected
            assert shades(load(str(place))) == EXPECTED


def test_nowhere_to_keep_pictures_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"`MAML_JAX_CACHE` was .*; it cannot be written"):
        load(str(folder(tmp_path / "pets")))
