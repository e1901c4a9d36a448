"""Random trees of pictures whose truth is known, with all the mess that real folders have.

A tree is drawn from a seed: some classes, some pictures of each, in some layout (folders, folders
of splits, lists in CSV), as a folder or a zip. Most mess must change nothing; some must be refused
by name. What is loaded is compared with the truth, pixel by pixel.
"""

import io
import os
import random
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from maml_jax.data import load
from maml_jax.errors import InputError

SIDE = 5
PARTS = {
    "train": ("train", "Train", "TRAINING", "training"),
    "val": ("val", "Val", "valid", "validation", "Dev"),
    "test": ("test", "Test", "testing"),
}
GREY_FORMATS = ("png", "bmp", "tif", "tiff", "pgm", "jp2")
COLOUR_FORMATS = ("png", "bmp", "tiff", "ppm", "webp", "jp2")
UPRIGHT = {  # what is stored so that the EXIF orientation turns it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class Tree:
    """A tree of pictures: files to write, and what is true of them."""

    def __init__(self, seed):
        self.rng = random.Random(seed)  # noqa: S311
        self.noise = np.random.default_rng(seed)
        self.channels = self.rng.choice((1, 3))
        self.files = {}  # path: content
        self.pictures = []  # the paths of those of the truth
        self.links = {}  # path: the name of a folder or file outside
        self.outside = {}  # path outside: content
        self.truth = {}  # class: pixels of its pictures
        self.splits = None
        self.refusal = None
        self.options = {}
        self.layout = self.rng.choice(("folders", "folders", "splits", "lists"))
        names = ["cat", "Dog", "a b", "naïve", "x.y", "train", "7", "deep/one", "deep/two", "猫"]
        if self.layout == "splits":
            names.remove("train")
        count = self.rng.randrange(2 if self.layout == "folders" else 3, 6)
        self.names = self.rng.sample(names, count)
        if all(name.startswith("deep/") for name in self.names):  # a folder around all is no part
            self.names[0] = "cat"
        {"folders": self.by_folders, "splits": self.by_splits, "lists": self.by_lists}[
            self.layout
        ]()
        for mess in self.rng.sample(HARMLESS, self.rng.randrange(4)):
            mess(self)
        if self.rng.random() < 0.3:
            self.rng.choice(REFUSED)(self)

    def picture(self, name):
        """Truth and content of one picture, in some format, by some mess."""
        shape = (SIDE, SIDE) if self.channels == 1 else (SIDE, SIDE, 3)
        truth = self.noise.integers(0, 256, shape, np.uint8)
        picture = Image.fromarray(truth)
        kind = self.rng.choice(GREY_FORMATS if self.channels == 1 else COLOUR_FORMATS)
        how = self.rng.random()
        options = {"lossless": True} if kind == "webp" else {}
        if how < 0.2 and kind in ("png", "tiff", "tif"):
            turned = self.rng.choice(list(UPRIGHT))
            picture = picture.transpose(UPRIGHT[turned])
            exif = Image.Exif()
            exif[0x0112] = turned
            options["exif"] = exif
            assert (np.asarray(ImageOps.exif_transpose(with_exif(picture, exif))) == truth).all()
        elif how < 0.4 and kind == "png":
            hidden = self.noise.random((SIDE, SIDE)) < 0.4
            alpha = Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8))
            picture.putalpha(alpha)
            truth = truth.copy()
            truth[hidden] = 255
        elif how < 0.55 and kind == "png" and self.channels == 1:
            picture = Image.fromarray(257 * truth.astype(np.uint16))
        content = io.BytesIO()
        formats = {"jp2": "JPEG2000", "tif": "TIFF", "pgm": "PPM"}
        picture.save(content, formats.get(kind, kind), **options)
        ending = self.rng.choice((kind, kind.upper()))
        return truth.reshape(SIDE, SIDE, self.channels), f"{name}.{ending}", content.getvalue()

    def add(self, label, folder, number):
        truth, name, content = self.picture(f"{number}")
        path = f"{folder}/{name}"
        self.files[path] = content
        self.pictures.append(path)
        self.truth.setdefault(label, []).append(truth)
        return path

    def by_folders(self):
        for label in self.names:
            for number in range(self.rng.randrange(1, 4)):
                self.add(label, label, number)

    def by_splits(self):
        folders = {part: self.rng.choice(names) for part, names in PARTS.items()}
        parts = ["train", "test", *(["val"] if self.rng.random() < 0.7 else [])]
        self.splits = {part: set() for part in PARTS}
        for n, label in enumerate(self.names):
            part = parts[n % len(parts)]
            self.splits[part].add(label)
            for number in range(self.rng.randrange(1, 4)):
                self.add(label, f"{folders[part]}/{label}", number)

    def by_lists(self):
        parts = ["train", "test", *(["val"] if self.rng.random() < 0.7 else [])]
        self.splits = {part: set() for part in PARTS}
        rows = {part: ["filename,label"] for part in parts}
        whole = self.rng.random() < 0.5
        for n, label in enumerate(self.names):
            part = parts[n % len(parts)]
            self.splits[part].add(label)
            for number in range(self.rng.randrange(1, 4)):
                path = self.add(label, f"images/{n}", f"{n}_{number}")
                listed = path if whole else self.rng.choice((path, Path(path).name))
                rows[part].append(f"{listed},{label}")
        mark = self.rng.choice(("", "\ufeff"))
        for part, lines in rows.items():
            name = self.rng.choice((f"{part}.csv", f"{part.title()}.csv"))
            self.files[name] = (mark + "\n".join(lines) + "\n").encode()

    def some_picture(self):
        """The path of a picture; one that is there and not behind a link, if any is left."""
        here = [path for path in self.pictures if path in self.files]
        return self.rng.choice(here or self.pictures)

    def write(self, place):
        """Write it; returns its path."""
        root = place / "set"
        inside = root / self.rng.choice(("", "", "around", "two/deep"))
        if self.layout == "lists":
            inside = root
        for path, content in self.outside.items():
            target = place / "elsewhere" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        for path, content in self.files.items():
            target = inside / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        for path, leads_to in self.links.items():
            target = inside / path
            target.parent.mkdir(parents=True, exist_ok=True)
            goal = (
                inside / leads_to[1:]
                if leads_to.startswith("/")
                else place / "elsewhere" / leads_to
            )
            target.symlink_to(goal)
        if self.links or self.rng.random() < 0.6:
            return root
        archive = place / self.rng.choice(("set.zip", "SET.ZIP", "set.Zip"))
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    zipped.write(path, path.relative_to(root))
        return archive


def with_exif(picture, exif):
    content = io.BytesIO()
    picture.save(content, "png", exif=exif)
    return Image.open(content)


def copies_in_hidden_folders(tree):
    for path in [p for p in tree.files if not p.endswith(".csv")][:3]:
        hidden = tree.rng.choice((".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"))
        folder, name = os.path.split(path)
        tree.files[f"{folder}/{hidden}/{name}"] = tree.files[path]


def hidden_files(tree):
    folder = os.path.dirname(tree.some_picture())
    tree.files[f"{folder}/._0.png"] = b"\x00\x05\x16\x07"
    tree.files[".DS_Store"] = b"x"


def what_is_no_picture(tree):
    tree.files["notes.txt"] = b"x"
    tree.files["extra/labels.json"] = b"{}"
    tree.files[f"{os.path.dirname(tree.some_picture())}/IMG_1.HEIC"] = b"x"


def a_class_behind_a_link(tree):
    if tree.layout != "folders":
        return
    free = [n for n in tree.names if "/" not in n and not any(n in path for path in tree.links)]
    if not free:
        return
    label = tree.rng.choice(free)
    for path in [path for path in tree.files if path.startswith(f"{label}/")]:
        tree.outside[path] = tree.files.pop(path)
    tree.links[label] = label


def a_picture_behind_a_link(tree):
    path = tree.some_picture()
    if path not in tree.files or any(path.startswith(f"{link}/") for link in tree.links):
        return
    tree.outside[f"store/{os.path.basename(path)}"] = tree.files.pop(path)
    tree.links[path] = f"store/{os.path.basename(path)}"


def a_link_to_nowhere(tree):
    tree.links["gone"] = "nowhere/at/all"


HARMLESS = [
    copies_in_hidden_folders,
    hidden_files,
    what_is_no_picture,
    a_class_behind_a_link,
    a_picture_behind_a_link,
    a_link_to_nowhere,
]


def a_stray_picture(tree):
    if tree.layout == "lists":
        return
    tree.files["stray.png"] = tree.picture("x")[2]
    # In a folder around the whole set it looks like a picture of a class that is so called.
    tree.refusal = r"stray.png .*in no class's folder|holds either pictures or classes"


def a_stray_folder(tree):
    if tree.layout != "splits":
        return
    tree.files["holiday/beach/1.png"] = tree.picture("x")[2]
    tree.refusal = r"beside them stands holiday"


def a_folder_of_more(tree):
    if tree.layout == "lists":
        return
    folder = os.path.dirname(tree.some_picture())
    tree.files[f"{folder}/more/1.png"] = tree.picture("x")[2]
    tree.refusal = r"more with more; a folder holds either pictures or classes"


def a_damaged_picture(tree):
    path = tree.some_picture()
    if path not in tree.files:
        return
    tree.files[path] = tree.files[path][:10]
    tree.refusal = re.escape(path.split("/")[-1]) + ".* not a readable image"


def a_class_in_two_splits(tree):
    if tree.layout != "splits":
        return
    label = tree.names[0]  # in train
    test = next(top for top in PARTS["test"] if any(f"{top}/" in p for p in tree.pictures))
    tree.files[f"{test}/{label}/9.png"] = tree.picture("x")[2]
    tree.refusal = r"is in train and in test"


def an_ambiguous_name(tree):
    if tree.layout != "lists":
        return
    for folder in ("one", "two"):
        tree.files[f"images/{folder}/same.png"] = tree.picture("x")[2]
    name = next(p for p in tree.files if p.lower() == "train.csv")
    tree.files[name] += b"same.png,cat\n"
    tree.refusal = r"same.png, which may be images/one/same.png, images/two/same.png"


def a_list_in_latin_1(tree):
    if tree.layout != "lists":
        return
    name = next(p for p in tree.files if p.lower() == "train.csv")
    tree.files[name] += "é".encode("latin-1") + b".png,cat\n"
    tree.refusal = r"(?i)train.csv, which is not in UTF-8"


def a_link_to_a_class(tree):
    if tree.layout != "folders":
        return
    first = os.path.dirname(tree.some_picture())
    tree.links["latest"] = f"/{first}"
    tree.refusal = r"link .*latest, which leads to .*taken twice"


def splits_within_classes(tree):
    shallow = [path for path in tree.pictures if path in tree.files and path.count("/") == 1]
    if tree.layout != "folders" or tree.links or len(shallow) < len(tree.pictures):
        return
    for n, path in enumerate(shallow):
        label, name = path.split("/")
        tree.files[f"{label}/{('train', 'test')[n % 2]}/{name}"] = tree.files.pop(path)
    # A class that is called train looks like a split beside the other classes.
    tree.refusal = r"are splits within classes|would be splits, but beside them"


REFUSED = [
    a_stray_picture,
    a_stray_folder,
    a_folder_of_more,
    a_damaged_picture,
    a_class_in_two_splits,
    an_ambiguous_name,
    a_list_in_latin_1,
    a_link_to_a_class,
    splits_within_classes,
]


def loaded(path, **options):
    """Pixels by class, and the classes of each split, as the data set has them."""
    data = load(str(path), **options)
    parts = np.split(data.examples, np.cumsum(data.counts)[:-1])
    pixels = {
        name: sorted(image.tobytes() for image in part)
        for name, part in zip(data.class_names, parts, strict=True)
    }
    splits = {part: {data.class_names[i] for i in of} for part, of in data.splits.items()}
    return data, pixels, splits


def check(seed, place):
    tree = Tree(seed)
    path = tree.write(place)
    if tree.refusal:
        with pytest.raises(InputError, match=tree.refusal) as caught:
            loaded(path)
        assert "\n" not in str(caught.value)
        return "refused"
    data, pixels, splits = loaded(path)
    truth = {n: sorted(image.tobytes() for image in of) for n, of in tree.truth.items()}
    assert pixels == truth
    if tree.splits is not None:
        assert splits == tree.splits
    else:
        assert sorted(n for of in splits.values() for n in of) == sorted(truth)
    return "left out" if data.left_out else "whole"


@pytest.mark.parametrize(
    "seeds",
    [
        range(60),
        pytest.param(range(60, 2060), marks=pytest.mark.slow),  # a minute or two
    ],
)
def test_what_is_loaded_is_the_truth(seeds, tmp_path, monkeypatch):
    """FAULTS B: hidden copies, splits, lists, orientation, transparency, formats, links, zips."""
    monkeypatch.setenv("MAML_JAX_CACHE", str(tmp_path / "cache"))
    found = []
    for seed in seeds:
        place = tmp_path / "trees" / str(seed)
        place.mkdir(parents=True)
        try:
            found.append(check(seed, place))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        shutil.rmtree(place)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert {"refused", "left out", "whole"} <= set(found)
