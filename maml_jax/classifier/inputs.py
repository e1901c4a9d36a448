"""Pictures as users have them, to the examples that a network takes."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maml_jax.data import pictures
from maml_jax.errors import InputError, shown


class Scale(NamedTuple):
    """What black and white are in arrays of numbers."""

    black: float
    white: float


BY_TYPE = {
    np.dtype(bool): Scale(0.0, 1.0),
    np.dtype(np.uint8): Scale(0.0, 255.0),
    np.dtype(np.uint16): Scale(0.0, 65535.0),
}
"""Of types that say what white is."""


def fit_scale(arrays: Sequence[np.ndarray]) -> Scale | None:
    """The scale of the numbers of `fit`, from 0 to 1 or else from least to greatest.

    None where their types say it, or there are none.
    """
    numbers = [x for x in arrays if x.dtype not in BY_TYPE and x.size]
    if not numbers:
        return None
    least, most = float(min(x.min() for x in numbers)), float(max(x.max() for x in numbers))
    return _usual(numbers, least, most) or Scale(least, most if most > least else least + 1.0)


def scale_of(x: np.ndarray, fitted: Scale | None) -> Scale:
    """The scale of an array: by its type, else that of `fit`, else as is usual.

    Raises:
      InputError: its numbers have no usual scale, and `fit` saw none.
    """
    scale = BY_TYPE.get(x.dtype) or fitted
    if scale is None and x.size:
        scale = _usual([x], float(x.min()), float(x.max()))
    if scale is None:
        raise InputError(
            f"`X` held {x.dtype} from {x.min():.4g} to {x.max():.4g}, and `fit` saw no such "
            "numbers: scale them to 0 … 1, or pass bytes."
        )
    return scale


def _usual(arrays: Sequence[np.ndarray], least: float, most: float) -> Scale | None:
    """0 to 255 of integers up to there, 0 to 1 of fractions; None of others."""
    whole = all(np.issubdtype(x.dtype, np.integer) for x in arrays)
    white = 255.0 if whole else 1.0
    return Scale(0.0, white) if least >= 0 and most <= white else None


def is_listing(x: Any) -> bool:
    """Whether `x` is a sequence of paths or of pictures, and no array of numbers.

    Raises:
      InputError: it is a single path.
    """
    if isinstance(x, str | PathLike):
        raise InputError(
            f"`X` was {str(x)!r}; it must be a sequence of pictures: pass [{str(x)!r}]."
        )
    if isinstance(x, np.ndarray):
        return x.ndim == 1 and x.dtype.kind in "OU" and len(x) > 0 and _is_picture(x[0])
    return isinstance(x, Sequence) and len(x) > 0 and _is_picture(x[0])


def arrays_in(listing: Iterable[Any]) -> list[np.ndarray]:
    """The arrays among the pictures, checked."""
    return [_checked(n, x) for n, x in enumerate(listing) if _is_array(x)]


def _is_picture(x: Any) -> bool:
    # Arrays of one size each are pictures too, each of its own size.
    return isinstance(x, str | PathLike) or _is_pillow(x) or (_is_array(x) and x.ndim in (2, 3))


def _is_pillow(x: Any) -> bool:
    return hasattr(x, "getbands") and hasattr(x, "convert")


def _is_array(x: Any) -> bool:
    return hasattr(x, "ndim") and hasattr(x, "dtype")


def from_listing(
    listing: Iterable[Any], shape: tuple[int, ...], fit: str, fitted: Scale | None
) -> np.ndarray:
    """The pictures of paths, Pillow's images and arrays as `[n, size, size, channels]` in 0 … 1.

    Args:
      listing: the pictures, of whatever sizes.
      shape: of one example of the network.
      fit: how pictures are made square, one of `pictures.FITS`.
      fitted: the scale of numbers in `fit`.

    Raises:
      InputError: one cannot be read, or is none.
    """
    size, _, channels = _of_images(shape)
    made = [pictures.fit(_open(n, x, fitted), size, channels, fit) for n, x in enumerate(listing)]
    return np.stack(made).astype(np.float32) / 255


def from_array(x: np.ndarray, shape: tuple[int, ...], fit: str, fitted: Scale | None) -> np.ndarray:
    """The examples in an array of numbers, as `[n, *shape]`.

    Rows `[n, values]` are pictures too: as square as their length allows (64 values are 8×8).

    Args:
      x: `[n, height, width]` or `[n, height, width, channels]`, of any size, or rows.
      shape: of one example of the network.
      fit: as in `from_listing`.
      fitted: the scale of numbers in `fit`.
    """
    if len(shape) != 3:
        if x.shape[1:] != shape and x[0].size != np.prod(shape):
            raise InputError(f"`X` was {x.shape}; the network takes {('n', *shape)}.")
        return x.reshape(-1, *shape).astype(np.float32)
    grey = _unit(x, scale_of(x, fitted))
    if x.shape[1:] == shape or (x[0].size == np.prod(shape) and x.ndim == 2):
        return grey.reshape(-1, *shape).astype(np.float32)
    if x.ndim == 2:
        height = _most_square(x.shape[1])
        grey = grey.reshape(len(x), height, -1)
    if x.ndim not in (2, 3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3, 4)):
        raise InputError(
            f"`X` was {x.shape}; pictures are [n, height, width] or, with 1, 3 or 4 channels, "
            "[n, height, width, channels]."
        )
    return from_listing(grey, shape, fit, Scale(0.0, 1.0))


def _most_square(length: int) -> int:
    """The greatest divisor up to the root: the height of the squarest picture of so many pixels."""
    return max(d for d in range(1, int(length**0.5) + 1) if length % d == 0)


def _of_images(shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise InputError(f"`X` held pictures; the network takes arrays {('n', *shape)}.")
    return shape


def _unit(x: np.ndarray, scale: Scale) -> np.ndarray:
    """From black at 0 to white at 1."""
    return np.clip((x.astype(np.float64) - scale.black) / (scale.white - scale.black), 0, 1)


def _checked(number: int, x: Any) -> np.ndarray:
    """An array that is a picture of finite numbers."""
    x = np.asarray(x)
    if not (x.ndim == 2 or (x.ndim == 3 and x.shape[-1] in (1, 3, 4))) or not x.size:
        raise InputError(
            f"`X` held an array {x.shape} as picture {number}; a picture is [height, width] or, "
            "with 1, 3 or 4 channels, [height, width, channels]."
        )
    if x.dtype.kind not in "biuf" or not np.isfinite(x).all():
        raise InputError(
            f"`X` held {x.dtype} that are no finite real numbers in picture {number}; replace "
            "them, or leave it out."
        )
    return x


def _open(number: int, x: Any, fitted: Scale | None) -> Any:
    """One picture by Pillow, grey or in colour, upright, on white where it is transparent."""
    if isinstance(x, str | PathLike):
        try:
            content = Path(x).read_bytes()
        except OSError as error:
            raise InputError(f"`X` held {x}, which cannot be read: {error.strerror}.") from error
        return pictures.decode(str(x), content)
    if _is_pillow(x):
        return pictures.plain(f"picture {number}", x)
    if not _is_array(x):
        raise InputError(f"`X` held {shown(x, 60)}; it must be a path, a picture or an array.")
    x = _checked(number, x)
    eight = np.round(255 * _unit(x, scale_of(x, fitted))).astype(np.uint8)
    if eight.ndim == 3 and eight.shape[-1] == 4:
        return pictures.plain(f"picture {number}", pictures.from_array(eight))
    return pictures.from_array(eight)
