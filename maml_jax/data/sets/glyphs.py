"""The embedded data set: letters of six scripts, drawn from the fonts that matplotlib ships.

It has Omniglot's shape (28×28, 20 images a class) and needs no files. A class is a letter; its
images come from up to twelve DejaVu faces, each rotated, sheared, scaled and shifted at random.
Whole scripts are held out: a test task shows letters of a script that no training task has.
"""

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

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


class _Face(NamedTuple):
    """A font, and the letters that it has."""

    font: Any
    has: set[str]


class _Glyph(NamedTuple):
    """A letter of one face, and how it is distorted: what decides the picture, and nothing else.

    The key of the pixel cache is made of these.
    """

    letter: str
    face: str
    transform: tuple[float, ...]


@cache
def list_glyphs(seed: int = 0) -> Listing:
    """List the letters, once in a process; `seed` decides the distortions, never the classes."""
    faces, stamp = _faces()
    rng = np.random.RandomState(seed)  # its streams are frozen, unlike `default_rng`'s
    classes: dict[str, list[_Glyph]] = {}
    splits: dict[str, list[str]] = {split: [] for split in SCRIPTS}
    seen = set()
    for letter, split in _letters(faces):
        having = [name for name, face in faces.items() if letter in face.has]
        # Greek Α, Cyrillic А and Latin A look alike: as classes they would leak between splits.
        pixels = _draw(faces[having[0]].font, letter).tobytes()
        if pixels in seen:
            continue
        seen.add(pixels)
        order = rng.permutation(len(having))
        name = unicodedata.name(letter)
        classes[name] = [
            _Glyph(letter, having[order[i % len(order)]], transform)
            for i, transform in enumerate(_random_transforms(rng))
        ]
        splits[split].append(name)
    return Listing("glyphs", classes, _reader(faces), stamp, splits)


def _faces() -> tuple[dict[str, _Face], list[str]]:
    """The twelve text faces by file name, and what else decides how they are drawn."""
    matplotlib = require("matplotlib", "cli")
    fonts = require("PIL.ImageFont", "cli")
    features = require("PIL.features", "cli")
    charmap = require("matplotlib.ft2font", "cli").FT2Font
    stamp = [*map(str, map(features.version, ("pil", "freetype2", "raqm")))]
    faces = {}
    for path in sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*.ttf")):
        if "Display" not in path.name:
            font = fonts.truetype(str(path), _FONT_SIZE)
            faces[path.name] = _Face(font, set(map(chr, charmap(str(path)).get_charmap())))
            stamp.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return faces, stamp


def _letters(faces: Mapping[str, _Face]) -> Iterator[tuple[str, str]]:
    """The letters that enough faces have, in the order of their code points, with their splits."""
    split_of = {script: split for split, scripts in SCRIPTS.items() for script in scripts}
    letters = sorted(set.union(*(face.has for face in faces.values())))
    for letter in letters:
        if not unicodedata.category(letter).startswith("L"):
            continue
        script = unicodedata.name(letter, "").split(" ")[0]
        if (
            script in split_of
            and sum(letter in face.has for face in faces.values()) >= FEWEST_FACES
        ):
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


def _random_transforms(rng: np.random.RandomState) -> list[tuple[float, ...]]:
    """For each image of a class the six numbers of an affine transform, as Pillow takes them."""
    low = np.array([-0.25, -0.25, 0.8, 0.8, -4, -4])  # radians, a slope, scales, canvas's pixels
    high = np.array([0.25, 0.25, 1.15, 1.15, 4, 4])
    drawn = rng.uniform(low, high, (IMAGES_PER_CLASS, 6))
    return [_transform(*row) for row in drawn.tolist()]


def _transform(
    angle: float, shear: float, width: float, height: float, right: float, down: float
) -> tuple[float, ...]:
    cos, sin = math.cos(angle), math.sin(angle)
    # Pillow wants the inverse: where in the canvas each pixel of the result comes from.
    a, b = cos / width, (sin + shear) / width
    d, e = -sin / height, cos / height
    middle = _CANVAS / 2
    x = middle - a * (middle + right) - b * (middle + down)
    y = middle - d * (middle + right) - e * (middle + down)
    return a, b, x, d, e, y


def _reader(faces: Mapping[str, _Face]) -> Callable[[_Glyph], Any]:
    """From a glyph to its picture, `SIZE` pixels a side."""
    image_module = require("PIL.Image", "cli")
    one_by_one = Lock()  # a font draws for one thread at a time

    @lru_cache(maxsize=64)  # the images of a class, which are read together, share some canvases
    def canvas_of(letter: str, face: str) -> Any:
        with one_by_one:
            return _draw(faces[face].font, letter)

    def read(glyph: _Glyph) -> Any:
        canvas = canvas_of(glyph.letter, glyph.face)
        transformed = canvas.transform(
            canvas.size,
            image_module.Transform.AFFINE,
            glyph.transform,
            image_module.Resampling.BILINEAR,
        )
        return transformed.reduce(2)

    return read
