"""MNIST (LeCun, Cortes, Burges): handwritten digits, from its four idx files or from TFDS."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from maml_jax.data import pictures
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.prepared import find_prepared, list_prepared
from maml_jax.data.reading import labelled_set
from maml_jax.data.request import Request
from maml_jax.errors import InputError

SIDE = 28
CLASSES = 10
PARTS = ("train", "t10k")


def load(request: Request) -> LabelledSet:
    """Ten classes, 28×28 in grey: what TFDS prepared, or else the idx files in `data_dir`."""
    folder = find_prepared("mnist", request.data_dir)
    listing = list_mnist(request.folder()) if folder is None else list_prepared("mnist", folder)
    return labelled_set(listing, request, image_size=SIDE)


def list_mnist(data_dir: Path) -> Listing:
    """All 70,000 digits, ten classes of 6313 to 7877 images, white on black.

    Raises:
      InputError: a file is missing, damaged, or not MNIST.
    """
    both = [read_digits(data_dir, part) for part in PARTS]
    images, labels = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
    return Listing(
        "mnist",
        {str(digit): np.flatnonzero(labels == digit).tolist() for digit in range(CLASSES)},
        lambda number: pictures.from_array(images[number]),
        [zlib.crc32(images.tobytes()), zlib.crc32(labels.tobytes())],
    )


def read_digits(data_dir: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `[digits, 28, 28]` and labels `[digits]`, uint8, from the idx files.

    Args:
      data_dir: the folder that holds `mnist/`, or torchvision's `MNIST/raw/`, with the four files,
        compressed with gzip or not.
      part: `train` or `t10k`.

    Raises:
      InputError: a file is missing, damaged, or not MNIST.
    """
    folder = _folder(data_dir)
    images = _read_idx(folder / f"{part}-images-idx3-ubyte", (SIDE, SIDE))
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte", ())
    if len(images) != len(labels):
        raise InputError(
            f"`data_dir` had {len(images)} {part} images and {len(labels)} labels for them; "
            "MNIST has as many of the one as of the other."
        )
    if labels.max() >= CLASSES:
        raise InputError(f"`data_dir` had the {part} label {labels.max()}; MNIST's are 0 to 9.")
    return images, labels


def _folder(data_dir: Path) -> Path:
    """Where the idx files lie: in `mnist/`, or in `MNIST/raw/`, as torchvision puts them."""
    places = [data_dir / "mnist", data_dir / "MNIST" / "raw", data_dir / "raw", data_dir]
    for place in places:
        if any(place.glob("train-images-idx3-ubyte*")):
            return place
    return places[0]


def _read_idx(place: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The entries of an idx file, each of `shape`, as `[entries, *shape]` of uint8."""
    content = _read(place)
    axes = 1 + len(shape)
    # The magic number: two zero bytes, 8 for unsigned bytes, and how many axes there are.
    magic = 0x0800 + axes
    start = 4 + 4 * axes
    found, entries, *rest = np.frombuffer(content[:start].ljust(start, b"\0"), ">u4").tolist()
    if found != magic or tuple(rest) != shape or entries < 1:
        size = "×".join(map(str, shape)) or "one byte"
        raise InputError(
            f"`data_dir` had a {place.name} that is not MNIST's: it must start with {magic}, "
            f"hold at least one entry, and each entry must be {size}."
        )
    body = content[start:]
    if len(body) != entries * math.prod(shape):
        raise InputError(
            f"`data_dir` had a {place.name} of {len(body)} bytes after its header; "
            f"{entries} entries take {entries * math.prod(shape)}."
        )
    return np.frombuffer(body, np.uint8).reshape(entries, *shape)


def _read(place: Path) -> bytes:
    packed = place.with_name(place.name + ".gz")
    try:
        if place.is_file():
            return place.read_bytes()
        if packed.is_file():
            return gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"`data_dir` had a {place.name} that cannot be read: {error}.") from error
    raise InputError(
        f"`data_dir` had no mnist/{place.name}, with .gz or without; it must hold the folder mnist "
        "(or MNIST/raw) with the four idx files."
    )
