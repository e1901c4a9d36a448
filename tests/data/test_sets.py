"""The data sets: glyphs on any machine, Omniglot where its files are."""

import hashlib
import shutil
import unicodedata
import zipfile
from pathlib import PurePosixPath

import jax
import numpy as np
import pytest
from PIL import Image

from maml_jax.data import load, pixel_cache
from maml_jax.data.archive import Files
from maml_jax.data.sets import glyphs, omniglot
from maml_jax.data.sets.sequences import trace
from maml_jax.data.splits import indices
from maml_jax.errors import InputError


@pytest.fixture(scope="module")
def drawn():
    return load("glyphs")


def test_glyphs_hold_out_whole_scripts(drawn):
    for split, scripts in glyphs.SCRIPTS.items():
        names = {drawn.class_names[i].split(" ")[0] for i in drawn.splits[split]}
        assert names == set(scripts)
    assert drawn.examples.shape == (20 * len(drawn.class_names), 28, 28, 1)
    assert set(drawn.counts.tolist()) == {20}
    assert min(map(len, drawn.splits.values())) >= 100


def test_glyphs_are_different_letters_and_different_drawings(drawn):
    assert len(set(drawn.class_names)) == len(drawn.class_names)
    assert all(unicodedata.lookup(name) for name in drawn.class_names)
    pictures = {image.tobytes() for image in drawn.examples.reshape(-1, 28 * 28)}
    assert len(pictures) == len(drawn.examples)
    # Ink everywhere, and none of it cut off by the frame in more than a few drawings.
    assert drawn.examples.max((1, 2, 3)).min() > 60
    frame = np.concatenate(
        [drawn.examples[:, [0, -1]].ravel(), drawn.examples[:, :, [0, -1]].ravel()]
    )
    assert (frame > 60).mean() < 0.01


def test_glyphs_are_drawn_once(drawn, monkeypatch):
    """Another process finds them in the cache: their key has nothing of this process in it."""

    def never(*arguments):
        raise AssertionError("the pictures were drawn again")

    monkeypatch.setattr(pixel_cache, "_write", never)
    glyphs.list_glyphs.cache_clear()
    assert load("glyphs").fingerprint() == drawn.fingerprint()


@pytest.mark.slow  # it draws all of them anew
def test_glyphs_are_the_same_every_time(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path))
    glyphs.list_glyphs.cache_clear()
    assert load("glyphs").fingerprint() == drawn.fingerprint()


@pytest.mark.slow  # it reads 32,460 images
def test_omniglot_is_whole_and_split_as_finn_did(data_dir):
    data = load("omniglot", data_dir)
    assert data.examples.shape == (1623 * 20, 28, 28, 1)
    assert len(set(data.class_names)) == 1623
    assert set(data.counts.tolist()) == {20}
    assert {split: len(classes) for split, classes in data.splits.items()} == omniglot.SPLITS
    assert data.rotate
    # Strokes are bright and few.
    assert 0.03 < data.examples.mean() / 255 < 0.15
    other = load("omniglot", data_dir, split_seed=2)
    assert set(other.splits["test"]) != set(data.splits["test"])


def test_omniglot_is_its_authors_to_the_byte(data_dir):
    """The digest of all names and files, taken once from the original zips' content."""
    digest, count = hashlib.sha256(), 0
    for part in omniglot.PARTS:
        files = Files(omniglot._find(data_dir, part))
        for name in files.names:
            drawing = "/".join(PurePosixPath(name).parts[-3:])
            digest.update(drawing.encode() + b"\0" + files.read(name))
            count += 1
    assert count == 1623 * 20
    assert digest.hexdigest() == (
        "ef079833fc9db4e71b3da2a58cc69c5d62f5254a4829304c1a1c4bc1b395117e"
    )


def small_omniglot(folder, monkeypatch):
    """Twelve characters of three drawings, laid out as Omniglot is."""
    monkeypatch.setattr(omniglot, "CHARACTERS", 12)
    monkeypatch.setattr(omniglot, "DRAWINGS", 3)
    monkeypatch.setattr(omniglot, "SPLITS", {"train": 6, "val": 2, "test": 4})
    for part, alphabet in zip(omniglot.PARTS, ("Greek", "Tagalog"), strict=True):
        for character in range(6):
            place = folder / part / alphabet / f"character{character:02}"
            place.mkdir(parents=True)
            for i in range(3):
                image = Image.new("1", (105, 105), 1)
                image.putpixel((10 * character + 5, 50 + i), 0)
                image.save(place / f"{i}.png")


def zip_parts(folder):
    for part in omniglot.PARTS:
        shutil.make_archive(str(folder / part), "zip", folder, part)
        shutil.rmtree(folder / part)


def test_omniglot_from_folders_and_from_zips_is_the_same(tmp_path, monkeypatch):
    small_omniglot(tmp_path, monkeypatch)
    unpacked = load("omniglot", tmp_path)
    zip_parts(tmp_path)
    zipped = load("omniglot", tmp_path)
    assert zipped.fingerprint() == unpacked.fingerprint()
    assert zipped.class_names == unpacked.class_names
    assert len(zipped.class_names) == 12


def test_the_vinyals_split_makes_classes_of_rotations(tmp_path, monkeypatch):
    small_omniglot(tmp_path, monkeypatch)
    names = [f"Greek/character{n:02}/rot{90 * turn:03}" for n in range(6) for turn in range(4)]
    lists = tmp_path / "splits" / "omniglot_vinyals"
    lists.mkdir(parents=True)
    for part, some in {"train": names[:12], "val": names[12:16], "test": names[16:]}.items():
        (lists / f"{part}.txt").write_text("\n".join(some))
    data = load("omniglot", tmp_path, class_split="vinyals")
    assert data.name == "omniglot-vinyals"
    assert not data.rotate
    assert [data.class_names[i] for i in data.splits["train"]] == names[:12]
    assert {part: len(classes) for part, classes in data.splits.items()} == {
        "train": 12,
        "val": 4,
        "test": 8,
    }
    images = data.examples.reshape(12, 4, 3, 28, 28).astype(int)
    for turn in range(1, 4):  # rotated before they are resized, or after: they differ a little
        rotated = np.rot90(images[:, 0], turn, axes=(2, 3))
        assert rotated.max() > 8  # a stroke of one pixel in 105×105
        assert np.abs(rotated - images[:, turn]).max() <= 2
    (lists / "val.txt").unlink()
    with pytest.raises(InputError, match=r"vinyals needs omniglot_vinyals/val\.txt"):
        load("omniglot", tmp_path, class_split="vinyals")


def test_the_real_vinyals_split(data_dir):
    if not (data_dir / "splits" / "omniglot_vinyals").is_dir():
        pytest.skip("MAML_JAX_DATA holds no splits/omniglot_vinyals")
    listing = omniglot.list_omniglot(data_dir, class_split="vinyals")
    assert {part: len(names) for part, names in listing.splits.items()} == {
        "train": 4 * 1028,
        "val": 4 * 172,
        "test": 4 * 423,
    }
    indices(listing.name, listing.classes, listing.splits)  # all are there, and none is in two
    [first, *rotated] = list(listing.classes.values())[:4]
    drawings = np.stack([np.asarray(listing.read(reference)) for reference in first])
    for turn, references in enumerate(rotated, start=1):
        found = np.stack([np.asarray(listing.read(reference)) for reference in references])
        np.testing.assert_array_equal(found, np.rot90(drawings, turn, axes=(1, 2)))


def test_omniglot_with_a_drawing_missing_is_refused(tmp_path, monkeypatch):
    small_omniglot(tmp_path, monkeypatch)
    next((tmp_path / "images_background").rglob("*.png")).unlink()
    with pytest.raises(
        InputError, match="12 characters with 2 to 3 drawings; Omniglot has 12 with 3"
    ):
        load("omniglot", tmp_path)


def test_omniglot_with_a_broken_image_is_refused(tmp_path, monkeypatch):
    small_omniglot(tmp_path, monkeypatch)
    next((tmp_path / "images_background").rglob("*.png")).write_bytes(b"not an image")
    with pytest.raises(InputError, match="which is not a readable image"):
        load("omniglot", tmp_path)


def test_omniglot_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("MAML_JAX_DATA", raising=False)
    with pytest.raises(InputError, match=r"must hold images_background.zip or images_background/"):
        load("omniglot", tmp_path)
    with pytest.raises(InputError, match="`data_dir` was not given; omniglot needs"):
        load("omniglot")
    with pytest.raises(InputError, match="it must be a folder"):
        load("omniglot", tmp_path / "none")


@pytest.mark.parametrize(
    "name", ["../outside.png", "/outside.png", "a/../../outside.png", "..\\outside.png"]
)
def test_zips_that_leave_their_folder_are_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="leaves its folder"):
        load(str(tmp_path / "x.zip"))


def test_zips_that_unpack_too_large_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(17 * 2**20))
    with pytest.raises(InputError, match="unpacks to 17825792 bytes"):
        load(str(tmp_path / "x.zip"))


def test_damaged_zips_are_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="a damaged zip"):
        load(str(tmp_path / "x.zip"))


def test_unknown_data_is_refused():
    with pytest.raises(InputError, match=r"`data` was 'omnigolt' \(did you mean 'omniglot'\?\)"):
        load("omnigolt")


def test_sequences_are_told_apart_by_their_curves():
    source = load("sequences").tasks("test", ways=5, shots=2, queries=3)
    episode = jax.jit(source.sample)(source.store, jax.random.key(0))
    assert episode.support.x.shape == (10, 24, 2)
    assert episode.query.y.tolist() == [n for n in range(5) for _ in range(3)]
    # The same class again traces the same curve: fewer than 1 in 100 of its points is further than
    # five deviations of the noise from the curve, while another class's often are.
    keys = jax.random.split(jax.random.key(1), 40)
    traces = jax.jit(jax.vmap(trace, (None, 0)))
    own, other = (np.asarray(traces(n, keys)) for n in (1300, 1301))
    points = own[:20].reshape(-1, 2)

    def far(traces):
        gaps = np.linalg.norm(traces[20:].reshape(-1, 1, 2) - points, axis=-1).min(1)
        return float((gaps > 0.5).mean())

    assert far(own) < 0.01
    assert far(other) > 0.05


def test_sequences_by_class_have_numbers_within_their_split():
    source = load("sequences").tasks("val", ways=20, shots=1, queries=1, by_class=True)
    episode = jax.jit(source.sample)(source.store, jax.random.key(0))
    assert len(set(episode.support.y.tolist())) == 20
    assert 0 <= min(episode.support.y.tolist()) <= max(episode.support.y.tolist()) < 256
    np.testing.assert_array_equal(episode.support.y, episode.query.y)
    with pytest.raises(InputError, match="`ways` was 300; the val split has 256"):
        load("sequences").tasks("val", ways=300, shots=1, queries=1)


def test_mnist_is_ten_classes(mnist_dir):
    data = load("mnist", mnist_dir)
    # As its authors count them: 60,000 and 10,000.
    assert data.counts.tolist() == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
    assert data.examples.shape == (70_000, 28, 28, 1)
    assert data.examples[:, 10:18, 10:18].max() == 255  # white ink
    assert data.examples[:, 0].mean() < 0.1
    assert {split: len(classes) for split, classes in data.splits.items()} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }
    source = data.tasks("all", ways=10, shots=1, queries=15)
    episode = jax.eval_shape(source.sample, source.store, jax.random.key(0))
    assert episode.query.x.shape == (150, 28, 28, 1)
    with pytest.raises(InputError, match="`ways` was 7; the train split of mnist has 6 classes"):
        data.tasks("train", ways=7, shots=1, queries=1)
