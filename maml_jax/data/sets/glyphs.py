"""The embedded data set: letters of six scripts, drawn from the fonts that matplotlib ships.

It has Omniglot's shape (28×28, 20 images a class) and needs no files. A class is a letter; its
images come from up to twelve DejaVu faces, each rotated, sheared, scaled and shifted at random.
Whole scripts are held out: a test task shows letters of a script that no training task has.
"""

import hashlib
import math
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.reading import labelled_set
from maml_jax.data.request import Request
from maml_jax.extras import require

SCRIPTS = {
    "train": ("LATIN", "CYRILLIC"),
    "val": ("ARMENIAN", "LAO"),
    "test": ("GREEK", "GEORGIAN"),
}
IMAGES_PER_CLASS = 20
FEWEST_FACES = 6
SIZE = 28
_CANVAS = 2 * SIZE  # drawn at twice the size, then averaged
_FONT_SIZE = 40


def load(request: Request) -> LabelledSet:
    """About 1600 letters, 28×28 in grey, split by script (`SCRIPTS`)."""
    return labelled_set(list_glyphs(), request, image_size=SIZE)


_Faces: TypeAlias = Mapping[str, tuple[Any, set[str]]]
"""Pillow's font of each file, and the letters that it has."""


class _Glyph(NamedTuple):
    """A letter of one face, and how it is distorted."""

    canvas: Any
    transform: tuple[float, ...]


@cache
def list_glyphs(seed: int = 0) -> Listing:
    """Draw the letters, once in a process; `seed` decides the distortions, never the classes."""
    faces = _faces()
    rng = np.random.RandomState(seed)  # its streams are frozen, unlike `default_rng`'s
    classes: dict[str, list[_Glyph]] = {}
    splits: dict[str, list[str]] = {split: [] for split in SCRIPTS}
    seen = set()
    stamp = hashlib.sha256()
    for letter, split in _letters(faces):
        drawn = [_draw(font, letter) for font, has in faces.values() if letter in has]
        # Greek Α, Cyrillic А and Latin A look alike: as classes they would leak between splits.
        pixels = [canvas.tobytes() for canvas in drawn]
        if pixels[0] in seen:
            continue
        seen.add(pixels[0])
        order = rng.permutation(len(drawn))
        name = unicodedata.name(letter)
        classes[name] = [
            _Glyph(drawn[order[i % len(order)]], _random_transform(rng))
            for i in range(IMAGES_PER_CLASS)
        ]
        splits[split].append(name)
        transforms = [glyph.transform for glyph in classes[name]]
        stamp.update(b"".join(pixels) + np.array(transforms).tobytes() + order.tobytes())
    return Listing("glyphs", classes, _distort, stamp.hexdigest(), splits)


def _faces() -> _Faces:
    """The twelve text faces by file name: each with the letters that it has."""
    matplotlib = require("matplotlib", "cli")
    fonts = require("PIL.ImageFont", "cli")
    charmap = require("matplotlib.ft2font", "cli").FT2Font
    paths = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf"))
    return {
        path.name: (
            fonts.truetype(str(path), _FONT_SIZE),
            set(map(chr, charmap(str(path)).get_charmap())),
        )
        for path in paths
        if "Display" not in path.name
    }


def _letters(faces: _Faces) -> Iterator[tuple[str, str]]:
    """The letters that enough faces have, in the order of their code points, with their splits."""
    split_of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    letters = sorted(set.union(*(has for _, has in faces.values())))
    for letter in letters:
        if not unicodedata.category(letter).startswith("L"):
            continue
        script = unicodedata.name(letter, "").split(" ")[0]
        if script in split_of and sum(letter in has for _, has in faces.values()) >= FEWEST_FACES:
            yield letter, split_of[script]


def _draw(font: Any, letter: str) -> Any:
    """The letter, white on black, its ink in the middle of the canvas."""
    image_module, draw_module = require("PIL.Image", "cli"), require("PIL.ImageDraw", "cli")
    canvas = image_module.new("L", (_CANVAS, _CANVAS))
    draw = draw_module.Draw(canvas)
    left, top, right, bottom = draw.textbbox((0, 0), letter, font=font)
    corner = ((_CANVAS - left - right) / 2, (_CANVAS - top - bottom) / 2)
    draw.text(corner, letter, font=font, fill=255)
    return canvas


def _random_transform(rng: np.random.RandomState) -> tuple[float, ...]:
    """The six numbers of a random affine transform, as Pillow takes them."""
    angle, shear = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)  # radians, and a slope
    width, height = rng.uniform(0.8, 1.15, 2)
    shift = rng.uniform(-4, 4, 2)  # pixels of the canvas
    cos, sin = math.cos(angle), math.sin(angle)
    # Pillow wants the inverse: where in the canvas each pixel of the result comes from.
    a, b = cos / width, (sin + shear) / width
    d, e = -sin / height, cos / height
    middle = _CANVAS / 2
    x = middle - a * (middle + shift[0]) - b * (middle + shift[1])
    y = middle - d * (middle + shift[0]) - e * (middle + shift[1])
    return a, b, x, d, e, y


def _distort(glyph: _Glyph) -> Any:
    """The picture of a glyph, `SIZE` pixels a side."""
    image_module = require("PIL.Image", "cli")
    transformed = glyph.canvas.transform(
        glyph.canvas.size,
        image_module.Transform.AFFINE,
        glyph.transform,
        image_module.Resampling.BILINEAR,
    )
    return transformed.reduce(2)
