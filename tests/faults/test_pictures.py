"""FAULTS, part B: one group of tests for each row. `test_picture_trees.py` has them at random."""

import gzip
import io
import json
import shutil
import struct
import zipfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from maml_jax.cli import main
from maml_jax.data import folders, from_arrays, load, prepared, splits
from maml_jax.data.splitting import divide
from maml_jax.errors import InputError


def picture(shade=0, size=(6, 6), mode="L"):
    return Image.new(mode, size, shade)


def pets(place, classes=4, each=3, ending="png", **look):
    for number in range(classes):
        folder = place / f"c{number}"
        folder.mkdir(parents=True)
        for i in range(each):
            picture(10 * number + i, **look).save(folder / f"{i}.{ending}")
    return place


def classes_of(data):
    return dict(zip(data.class_names, data.counts.tolist(), strict=True))


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"])
def test_copies_in_hidden_folders_are_no_classes(tmp_path, hidden, caplog):
    """B1: 25 classes became 50, and test classes were in train too."""
    place = pets(tmp_path / "pets")
    for number in range(4):
        shutil.copytree(place / f"c{number}", place / f"c{number}" / hidden)
    data = load(str(place))
    assert classes_of(data) == {f"c{n}": 3 for n in range(4)}
    assert data.left_out == {"hidden": 4}
    assert "left out: 4 hidden" in caplog.text


def lists(place, rows):
    (place / "train.csv").write_text("filename,label\n" + "\n".join(rows) + "\n")
    for part in ("val", "test"):
        (place / f"{part}.csv").write_text("filename,label\n")
    return place


def test_lists_take_paths_and_refuse_names_of_several_files(tmp_path):
    """B2: every class got the last folder's pictures; relative paths were "not there"."""
    place = pets(tmp_path / "pets", classes=3, each=1)
    rows = [f"{ahead}c{n}/0.png,label{n}" for n, ahead in enumerate(("", "./", ""))]
    data = load(str(lists(place, rows)))
    assert classes_of(data) == {"label0": 1, "label1": 1, "label2": 1}
    assert data.examples[:, 0, 0, 0].tolist() == [0, 10, 20]
    with pytest.raises(InputError, match=r"lists 0.png, which may be c0/0.png, c1/0.png, c2/0.png"):
        load(str(lists(place, ["0.png,label0"])))
    with pytest.raises(InputError, match=r"name a picture twice: c0/0.png"):
        load(str(lists(place, ["c0/0.png,a", "c0/0.png,b"])))


@pytest.mark.parametrize(
    "names",
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN", "", "TEST")],
)
def test_folders_of_splits_by_their_usual_names(tmp_path, names):
    """B3: `Train/ Val/ Test` and `training/ …` were dealt at random."""
    for n, name in enumerate(names):
        if name:
            pets(tmp_path / "pets" / name, classes=1).rename(tmp_path / "x")
            (tmp_path / "x" / "c0").rename(tmp_path / f"k{n}")
            (tmp_path / "x").rmdir()
            (tmp_path / "pets" / name).mkdir()
            (tmp_path / f"k{n}").rename(tmp_path / "pets" / name / f"k{n}")
    data = load(str(tmp_path / "pets"))
    found = {part: [data.class_names[i] for i in of] for part, of in data.splits.items()}
    parts = {"train": "k0", "val": "k1", "test": "k2"}
    expected = {p: [parts[p]] if names[n] else [] for n, p in enumerate(parts)}
    assert found == expected


def test_half_recognised_splits_are_refused(tmp_path):
    """B3: a stray folder beside a correct `train/ val/ test` dealt test classes to train."""
    for part in ("train", "val", "test"):
        pets(tmp_path / "pets" / part, classes=2)
    pets(tmp_path / "pets" / "holiday", classes=2)
    with pytest.raises(InputError, match=r"test, train, val would be splits, .* stands holiday"):
        load(str(tmp_path / "pets"))
    shutil.rmtree(tmp_path / "pets" / "holiday")
    picture().save(tmp_path / "pets" / "test" / "unlabelled.png")  # Kaggle's way
    with pytest.raises(InputError, match="split test holds pictures in no class's folder"):
        load(str(tmp_path / "pets"))


def test_one_folder_called_train_is_a_class(tmp_path):
    """B3: a train is a vehicle."""
    place = pets(tmp_path / "vehicles", classes=2)
    (place / "c0").rename(place / "train")
    assert classes_of(load(str(place))) == {"c1": 3, "train": 3}


@pytest.mark.parametrize("ending", ["jpg", "tif", "webp", "png"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_stand_upright(tmp_path, orientation, ending):
    """B4: EXIF orientations were ignored, so that pictures lay on their side."""
    corners = np.zeros((16, 16, 3), np.uint8)
    corners[:8, :8] = 250, 20, 20
    corners[:8, 8:] = 20, 250, 20
    corners[8:, :8] = 20, 20, 250
    # The definition of each orientation, by what is at the stored top left and top right.
    stored = {
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.swapaxes(0, 1),
        6: np.rot90(corners, 1),
        7: np.rot90(corners, 2).swapaxes(0, 1),
        8: np.rot90(corners, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        image = Image.fromarray(np.ascontiguousarray(stored))
        image.save(tmp_path / "pets" / name / f"0.{ending}", exif=exif)
    found = load(str(tmp_path / "pets")).examples[0].astype(int)
    assert abs(found[3, 3] - corners[3, 3]).max() < 30
    assert abs(found[3, 12] - corners[3, 12]).max() < 30
    assert abs(found[12, 3] - corners[12, 3]).max() < 30


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    """B5: the colours hidden behind transparency appeared."""
    seen = Image.new("RGBA", (6, 6), (10, 10, 10, 255))
    seen.paste((200, 0, 0, 0), (0, 0, 3, 6))
    if mode == "P":
        picture = Image.new("P", (6, 6), 1)
        picture.putpalette([200, 0, 0, 10, 10, 10])
        picture.paste(0, (0, 0, 3, 6))
        picture.info["transparency"] = 0
    else:
        picture = seen.convert(mode)
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        picture.save(tmp_path / "pets" / name / "0.png")
    found = load(str(tmp_path / "pets")).examples[0]
    assert (found[:, :3] == 255).all()
    assert (found[:, 3:] == 10).all()


@pytest.mark.parametrize(
    "ending", ["tif", "avif", "jfif", "ppm", "jp2", "bmp", "JPG", "tga", "pcx"]
)
def test_whatever_pillow_reads_is_read(tmp_path, ending):
    """B6: classes of .tif, .avif, … were missing without a word."""
    if f".{ending.lower()}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow has no .{ending}")
    assert load(str(pets(tmp_path / "pets", ending=ending))).counts.tolist() == [3] * 4


def test_what_is_not_read_is_said_and_counted(tmp_path, caplog, capsys):
    """B6: a class of .heic files was missing without a word; links to folders too."""
    place = pets(tmp_path / "pets", classes=6)
    (place / "c0").rename(tmp_path / "elsewhere")
    (place / "c0").symlink_to(tmp_path / "elsewhere")
    for path in (place / "c1").iterdir():
        path.rename(path.with_suffix(".heic"))
    (place / "c6" / "deeper").mkdir(parents=True)
    data = load(str(place))
    assert classes_of(data) == dict.fromkeys(("c0", "c2", "c3", "c4", "c5"), 3)
    assert data.left_out == {".heic": 3, "folders without a picture (c1, c6)": 2}
    assert "left out: 3 .heic, 2 folders without a picture (c1, c6)" in caplog.text
    out = str(tmp_path / "sheet.png")
    assert main(["data", "show", str(place), "--ways", "2", "--out", out]) == 0
    assert "left out: 3 .heic" in capsys.readouterr().out


def test_zips_of_the_finder(tmp_path):
    """B7: `__MACOSX/…/._x.png` was "not a readable image"."""
    place = pets(tmp_path / "pets")
    with zipfile.ZipFile(tmp_path / "PETS.ZIP", "w") as archive:
        for path in sorted(place.rglob("*.png")):
            name = path.relative_to(tmp_path).as_posix()
            archive.write(path, name)
            folder, _, file = name.rpartition("/")
            archive.writestr(f"__MACOSX/{folder}/._{file}", b"\x00\x05\x16\x07")
    assert load(str(tmp_path / "PETS.ZIP")).counts.tolist() == [3] * 4


def test_sixteen_bits_are_scaled(tmp_path):
    """B8: refused by the set's name; `test_own_pictures.py` has the refusal of 32 bits."""
    place = pets(tmp_path / "pets", classes=2)
    (place / "c0" / "1.png").unlink()
    ramp = np.linspace(0, 65535, 36).reshape(6, 6).astype(np.uint16)
    Image.fromarray(ramp).save(place / "c0" / "0.png")
    Image.fromarray(ramp).save(place / "c0" / "1.tif")
    found = load(str(place)).examples[:2, :, :, 0]
    assert abs(found - ramp / 257).max() <= 0.5


def test_what_is_wrong_is_named_all_at_once(tmp_path):
    """B9: the first damaged picture ended the run; small classes were not named."""
    place = pets(tmp_path / "pets", classes=5)
    for name in ("c0/0.png", "c1/2.png", "c2/1.png", "c3/0.png"):
        (place / name).write_bytes(b"\x89PNG")
    with pytest.raises(InputError) as caught:
        load(str(place))
    said = str(caught.value)
    assert said.startswith("`data` held 4 pictures that cannot be read: c0/0.png, which is not")
    assert "c1/2.png" in said
    assert "`skip_unreadable` leaves them out" in said
    data = load(str(place), skip_unreadable=True)
    assert data.counts.tolist() == [2, 2, 2, 2, 3]
    assert data.left_out == {"unreadable": 4}
    data = load(str(place), skip_unreadable=True, min_images=3)
    assert classes_of(data) == {"c4": 3}
    assert data.left_out == {"unreadable": 4, "classes of fewer than 3 images": 4}
    shutil.rmtree(place / "c0")
    with pytest.raises(InputError, match="a class of pets has 2 images, c1 in the all split"):
        load(str(place), skip_unreadable=True).tasks("all", ways=2, shots=1, queries=2)


@pytest.mark.parametrize(
    ("how", "left", "middle"), [("squash", 0, 200), ("crop", 200, 200), ("pad", 255, 200)]
)
def test_pictures_that_are_not_square(tmp_path, how, left, middle):
    """B10: they were squashed, which was documented nowhere, with no other choice."""
    wide = Image.new("L", (24, 8), 0)
    wide.paste(200, (8, 0, 16, 8))
    if how == "pad":
        wide = Image.new("L", (8, 24), 200)
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        wide.save(tmp_path / "pets" / name / "0.png")
    found = load(str(tmp_path / "pets"), image_size=8, image_fit=how).examples[0, :, :, 0]
    assert abs(int(found[4, 0]) - left) < 20  # Lanczos' filter overshoots
    assert abs(int(found[4, 4]) - middle) < 20
    with pytest.raises(InputError, match="`image_fit` was 'stretch'"):
        load(str(tmp_path / "pets"), image_fit="stretch")


def test_encodings_of_lists_and_splits(tmp_path):
    """B11: byte-order marks, latin-1, UTF-16 and semicolons were tracebacks."""
    place = pets(tmp_path / "pets", classes=3, each=1)
    rows = "filename,label\nc0/0.png,é\n"
    lists(place, [])
    for encoding, message in {
        "utf-8-sig": None,
        "latin-1": "train.csv, which is not in UTF-8",
        "utf-16": "train.csv, which is not in UTF-8",
    }.items():
        (place / "train.csv").write_text(rows, encoding=encoding)
        if message is None:
            assert load(str(place)).class_names == ("é",)
            continue
        with pytest.raises(InputError, match=message):
            load(str(place))
    (place / "train.csv").write_text(rows.replace(",", ";"))
    with pytest.raises(InputError, match="separated by a comma; it begins with 'filename;label'"):
        load(str(place))
    for part in ("train", "val", "test"):
        (place / f"{part}.csv").unlink()
    split = tmp_path / "split.json"
    named = {"train": ["c0", "c1"], "test": ["c2"]}
    split.write_text(json.dumps(named), encoding="utf-8-sig")
    data = load(str(place), class_split=split)
    assert [len(data.splits[part]) for part in splits.PARTS] == [2, 0, 1]
    split.write_bytes(json.dumps(named).encode("utf-16"))
    with pytest.raises(InputError, match="a JSON file that cannot be read"):
        load(str(place), class_split=split)


SMALL = ["--filters", "2", "--tasks", "2", "--updates", "2", "--evaluation-steps", "1"]


@pytest.mark.parametrize(
    ("classes", "each", "ways", "split"),
    [
        (8, 12, 2, (4, 2, 2)),  # each split has two classes
        (8, 12, 4, (4, 0, 4)),  # no validation
        (8, 12, 5, (8, 8, 8)),  # within classes
        (3, 2, 3, (3, 3, 3)),  # the same in all
    ],
)
@pytest.mark.slow  # four trainings
def test_few_classes_are_trained_on_and_evaluated(
    tmp_path, monkeypatch, capsys, caplog, classes, each, ways, split
):
    """B12, B13: 8 classes × 12 photos could not be trained on, nor evaluated as printed."""
    monkeypatch.chdir(tmp_path)
    pets(tmp_path / "pets", classes=classes, each=each, size=(16, 16))
    command = ["train", "--data", "pets", "--ways", str(ways), "--queries", "3", "--out", "run"]
    assert main([*command, *SMALL, "--validate-every", "1"]) == 0
    printed = capsys.readouterr().err.split("now: maml-jax ")[1].splitlines()[0].split()
    assert main([*printed, "--tasks", "3"]) == 0
    data = load("pets", ways=ways)
    assert tuple(len(data.splits[part]) for part in splits.PARTS) == split
    record = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    # Of 12 pictures split within their class, 2 are for test: one to learn from, one to ask about.
    assert record["config"]["queries"] == (3 if split[0] == 4 else 1)
    assert ("known classes" in caplog.text) == (split == (8, 8, 8))
    assert ("training sees what is tested" in caplog.text) == (split == (3, 3, 3))


@pytest.mark.parametrize("least", [2, 3])
def test_splits_within_classes_share_no_example(least):
    """B12: what is held out is held out."""
    counts = [3 * least, 4 * least + 1, 30]
    found = divide(counts, least)
    starts = np.cumsum(counts) - counts
    for number, (start, count) in enumerate(zip(starts, counts, strict=True)):
        taken = Counter()
        for part in splits.PARTS:
            first, size = found.ranges[part].firsts[number], found.ranges[part].counts[number]
            assert size >= least
            taken.update(range(first, first + size))
        assert taken == Counter(range(start, start + count))


def test_too_few_classes_say_what_to_do():
    """B12: the message named no remedy."""
    x, y = np.zeros((8 * 4, 3), np.float32), np.repeat(np.arange(8), 4)
    with pytest.raises(InputError, match="load it with `ways` 5, or give `class_split` a JSON"):
        from_arrays(x, y).tasks("test", ways=5, shots=1, queries=1)
    within = from_arrays(x, y, ways=5)
    within.tasks("test", ways=5, shots=1, queries=1)
    with pytest.raises(InputError, match="all splits together 8"):
        within.tasks("test", ways=9, shots=1, queries=1)


def test_arrays_as_keras_and_others_write_them(tmp_path):
    """B14: `x_train, y_train, x_test, y_test`, labels as whole floats or of shape (n, 1)."""
    x = np.arange(10 * 4 * 4 * 4, dtype=np.uint8).reshape(40, 4, 4)
    y = np.repeat(np.arange(10), 4)
    for labels in (y, y.astype(np.float32), y[:, None]):
        np.savez(tmp_path / "a.npz", x_train=x[::2], y_train=labels[::2], x_test=x, y_test=labels)
        data = load(str(tmp_path / "a.npz"))
        assert classes_of(data) == {str(n): 6 for n in range(10)}
        assert from_arrays(x, labels).counts.tolist() == [4] * 10
    with pytest.raises(InputError, match="labels that are float64"):
        from_arrays(x, y + 0.5)


@pytest.mark.parametrize("packed", [False, True])
def test_torchvisions_folder_of_mnist(tmp_path, packed):
    """B14: `MNIST/raw/` was not found."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        labels = np.repeat(np.arange(10, dtype=np.uint8), 2)
        images = np.zeros((20, 28, 28), np.uint8)
        for name, header, body in (
            ("images-idx3", struct.pack(">4I", 2051, 20, 28, 28), images.tobytes()),
            ("labels-idx1", struct.pack(">2I", 2049, 20), labels.tobytes()),
        ):
            content, path = header + body, raw / f"{part}-{name}-ubyte"
            if packed:
                content, path = gzip.compress(content), raw / f"{path.name}.gz"
            path.write_bytes(content)
    assert load("mnist", tmp_path).counts.tolist() == [4] * 10


def stand_in(monkeypatch, place, name, feature, labels):
    """TFDS with one data set that is prepared, in the folder `name`."""

    class Source(list):
        def __getitems__(self, numbers):
            return [self[i] for i in numbers]

    content = io.BytesIO()
    picture(size=(4, 4)).save(content, "png")
    examples = Source({"image": content.getvalue(), "label": label} for label in labels)
    builder = SimpleNamespace(
        info=SimpleNamespace(
            splits={"train": SimpleNamespace(num_examples=len(labels))},
            features={"image": None, "label": feature},
            full_name=name,
        ),
        as_data_source=lambda split, decoders: examples,
    )
    tfds = SimpleNamespace(
        builder_from_directory=lambda folder: builder,
        decode=SimpleNamespace(SkipDecoding=lambda: None),
    )
    monkeypatch.setattr(prepared, "require", lambda name, extra: tfds)
    (place / name).mkdir(parents=True)
    (place / name / "dataset_info.json").write_text("{}")


def test_hidden_labels_of_tfds_are_left_out(tmp_path, monkeypatch):
    """B15: −1, which marks hidden labels, became the last class."""
    feature = SimpleNamespace(names=["a", "b"])
    stand_in(monkeypatch, tmp_path, "secret/1.0.0", feature, [0, 1, -1, 1, -1, -1])
    data = load("secret", tmp_path)
    assert classes_of(data) == {"a": 1, "b": 2}
    assert data.left_out == {"without a label": 3}


def test_names_of_tfds(tmp_path, monkeypatch):
    """B16: configs, versions and integer labels."""
    number = SimpleNamespace(shape=(), np_dtype=np.int64)
    stand_in(monkeypatch, tmp_path, "many/large/1.0.0", number, [7, 3, 7, 10])
    assert classes_of(load("many/large", tmp_path)) == {"3": 1, "7": 2, "10": 1}
    for name in ("many", "many:1.0.0", "many/large:1.0.0"):
        assert load(name, tmp_path).counts.tolist() == [1, 2, 1]
    with pytest.raises(InputError, match="which is not there"):
        load("many/large:2.0.0", tmp_path)
    (tmp_path / "many" / "small" / "1.0.0").mkdir(parents=True)
    (tmp_path / "many" / "small" / "1.0.0" / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="say which: many/large, many/small"):
        load("many", tmp_path)
    stand_in(monkeypatch, tmp_path, "odd/1.0.0", SimpleNamespace(shape=(3,), np_dtype=None), [0])
    with pytest.raises(InputError, match="whose labels are SimpleNamespace; they must be whole"):
        load("odd", tmp_path)


def test_the_command_after_prepare_runs(tmp_path, monkeypatch, capsys):
    """B17: "now: maml-jax data show NAME" failed as printed."""
    feature = SimpleNamespace(names=["a", "b", "c", "d", "e", "f"])
    stand_in(monkeypatch, tmp_path, "letters/1.0.0", feature, list(range(6)) * 2)
    monkeypatch.setattr(prepared, "prepare", lambda name, place, manual: place / name / "1.0.0")
    assert main(["data", "prepare", "letters", "--data-dir", str(tmp_path)]) == 0
    words = capsys.readouterr().err.split("now: maml-jax ")[1].split()
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0


def test_paths_that_are_no_data(tmp_path, monkeypatch):
    """B18: what does not exist, `UPPER.ZIP`, and a picture too large."""
    for name in ("no/where", "/no/where", "./here", "photos.rar", "gone.npz", "gone.zip"):
        with pytest.raises(InputError, match="which is not there"):
            load(name, tmp_path)
    place = pets(tmp_path / "pets", classes=2)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"c0/0.png, which is too large"):
        load(str(place))


def test_all_names_of_splits_are_lower_case():
    """The look-up is by `name.lower()`."""
    assert all(name == name.lower() for name in folders.PART_NAMES)
