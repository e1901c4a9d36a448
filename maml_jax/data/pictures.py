"""One picture: from a file or an array to the pixels that a data set keeps.

What counts as a picture is whatever Pillow reads by itself, by the ending of the file's name. It is
seen as people see it: turned as its EXIF orientation says, transparent pixels on white, 16 bits
scaled to 8, of several frames the first.
"""

import io
from functools import cache
from typing import Any

import numpy as np

from maml_jax.errors import InputError
from maml_jax.extras import require

FITS = ("squash", "crop", "pad")
"""How a picture that is not square is made so: `squash` ignores its proportions, as is usual for
mini-ImageNet; `crop` keeps its middle; `pad` adds white at both sides."""
LARGEST = 178_956_970
"""Pixels of one picture at most: Pillow's limit, above which it suspects a decompression bomb."""
WHITE = (255, 255, 255, 255)
_NO_PIXELS = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow knows but needs another program for, or only identifies."""


@cache
def suffixes() -> frozenset[str]:
    """The endings, such as `.png`, of the formats that Pillow reads by itself."""
    pillow = require("PIL.Image", "cli")
    pillow.init()
    readable = pillow.OPEN.keys() - _NO_PIXELS
    return frozenset(s for s, kind in pillow.registered_extensions().items() if kind in readable)


def decode(name: str, content: bytes) -> Any:
    """The picture in a file, as a `PIL.Image.Image` with the mode `L` or `RGB`.

    Args:
      name: of the file, for the error.
      content: its bytes.

    Raises:
      InputError: Pillow cannot read it, it is too large, or its values have no known scale.
    """
    pillow = require("PIL.Image", "cli")
    try:
        with pillow.open(io.BytesIO(content)) as picture:
            picture.load()
            return plain(name, picture)
    except InputError:  # which is a ValueError
        raise
    # Warnings are for users whose filters make them errors.
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise InputError(
            f"`data` held {name}, which is too large: at most {LARGEST} pixels may be."
        ) from error
    except (OSError, SyntaxError, ValueError, Warning) as error:
        raise InputError(f"`data` held {name}, which is not a readable image.") from error


def plain(name: str, picture: Any) -> Any:
    """The picture upright in 8 bits, grey or in colour, on white where it is transparent.

    Raises:
      InputError: its values have no known scale.
    """
    format_ = picture.format  # which the upright copy has not
    picture = require("PIL.ImageOps", "cli").exif_transpose(picture)
    grey = picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith("I;16")
    if picture.mode == "I" and format_ == "PNG":  # Pillow's older form of 16 bits
        grey = True
    if picture.mode in ("I", "F") and not grey:
        raise InputError(
            f"`data` held {name}, whose pixels are {picture.mode} (32 bits), a scale that is not "
            "known; convert it to 8 or 16 bits."
        )
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        eight = np.clip((values + 128) // 257, 0, 255).astype(np.uint8)  # 65535 is 255
        return require("PIL.Image", "cli").fromarray(eight)
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        paper = require("PIL.Image", "cli").new("RGBA", shown.size, WHITE)
        picture = require("PIL.Image", "cli").alpha_composite(paper, shown)
    return picture.convert("L" if grey else "RGB")


def from_array(pixels: np.ndarray) -> Any:
    """The picture of a uint8 array, `[height, width]` or with 1, 3 or 4 channels last."""
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return require("PIL.Image", "cli").fromarray(pixels)


def channels_of(picture: Any) -> int:
    """1 for a grey picture, 3 for one in colour."""
    return 1 if picture.mode in ("1", "L") else 3


def fit(picture: Any, size: int, channels: int, how: str = "squash") -> np.ndarray:
    """Its pixels, `[size, size, channels]` uint8, resized with Lanczos' filter if need be.

    Args:
      picture: a `PIL.Image.Image`.
      size: pixels a side.
      channels: 1 for grey, 3 for colour.
      how: what to do where it is not square, one of `FITS`.
    """
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        operations = require("PIL.ImageOps", "cli")
        lanczos = require("PIL.Image", "cli").Resampling.LANCZOS
        if how == "crop":
            picture = operations.fit(picture, (size, size), lanczos)
        elif how == "pad":
            white = WHITE[0] if channels == 1 else WHITE[:3]
            picture = operations.pad(picture, (size, size), lanczos, color=white)
        else:
            picture = picture.resize((size, size), lanczos)
    return np.asarray(picture).reshape(size, size, channels)
