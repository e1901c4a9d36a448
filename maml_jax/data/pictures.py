"""One picture: from a file or an array to the pixels that a data set keeps."""

import io
from typing import Any

import numpy as np

from maml_jax.errors import InputError
from maml_jax.extras import require


def decode(name: str, content: bytes) -> Any:
    """The picture in a file, as a `PIL.Image.Image`.

    Args:
      name: of the file, for the error.
      content: its bytes.

    Raises:
      InputError: Pillow cannot read it.
    """
    pillow = require("PIL.Image", "cli")
    try:
        with pillow.open(io.BytesIO(content)) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise InputError(f"`data` held {name}, which is not a readable image.") from error


def from_array(pixels: np.ndarray) -> Any:
    """The picture of a uint8 array, `[height, width]` or with 1 or 3 channels last."""
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    return require("PIL.Image", "cli").fromarray(pixels)


def channels_of(name: str, picture: Any) -> int:
    """1 for a grey picture, 3 for one in colour.

    Raises:
      InputError: its pixels have more than 8 bits a channel.
    """
    if picture.mode in ("1", "L", "LA"):
        return 1
    if picture.mode in ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"):
        return 3
    raise InputError(f"`data` held {name}, whose pixels are {picture.mode}; they may have 8 bits.")


def fit(picture: Any, size: int, channels: int) -> np.ndarray:
    """Its pixels, `[size, size, channels]` uint8, resized with Lanczos' filter if need be."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = picture.resize((size, size), require("PIL.Image", "cli").Resampling.LANCZOS)
    return np.asarray(picture).reshape(size, size, channels)
