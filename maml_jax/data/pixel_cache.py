"""The pixels of pictures, decoded and resized once, then kept in the cache folder and mapped."""

import hashlib
import json
import mmap
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maml_jax.cache import cache_folder
from maml_jax.data import pictures
from maml_jax.data.listing import Listing
from maml_jax.errors import InputError
from maml_jax.extras import require

FORMAT = 1  # of the entries; another number makes old ones unused
_BLOCK = 256  # pictures decoded between two writes
_CHECK_BYTES = 2**30  # larger arrays are not digested at each start, for it takes seconds


class Pixels(NamedTuple):
    """The pixels of a listing."""

    images: np.ndarray
    """`[images, size, size, channels]` uint8, class after class, mapped from the disk."""
    mapped: mmap.mmap
    """The memory map behind `images`."""
    sha256: str
    """The digest of `images`."""


def read_pixels(listing: Listing, size: int | None, channels: int | None) -> Pixels:
    """All pictures of a listing as one array, from the cache or read now.

    Args:
      listing: the pictures.
      size: pixels a side to resize them to; None: their own, if all are square and of one size.
      channels: 1 for grey, 3 for colour; None: their own, if all are alike.

    Raises:
      InputError: a class without pictures, a picture that cannot be read, pictures of several
        sizes or colours, or a cache folder that cannot be written.
    """
    counts = {name: len(references) for name, references in listing.classes.items()}
    if not counts or not all(counts.values()):
        empty = next((name for name, count in counts.items() if not count), None)
        what = "no image" if empty is None else f"no image of the class {empty!r}"
        raise InputError(f"`data` was {listing.name}, which holds {what}.")
    key = json.dumps([FORMAT, listing.name, counts, listing.stamp, size, channels])
    folder = cache_folder()
    if folder is None:
        raise InputError(
            "`MAML_JAX_CACHE` was not set, and the user has no home folder; set it to a folder."
        )
    entry = folder / "data" / hashlib.sha256(key.encode()).hexdigest()[:32]
    pixels = _open(entry)
    if pixels is None:
        try:
            shutil.rmtree(entry, ignore_errors=True)
            entry.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=entry.parent) as temporary:
                _write(listing, size, channels, Path(temporary, "new"))
                if not entry.exists():  # another process may have been faster
                    Path(temporary, "new").rename(entry)
        except OSError as error:
            raise InputError(
                f"`MAML_JAX_CACHE` was {folder}, where the pixels of pictures are kept; "
                f"it cannot be written: {error}."
            ) from error
        pixels = _open(entry)
        if pixels is None:
            raise InputError(f"`MAML_JAX_CACHE` was {folder}, which another program changes.")
    return pixels


def _open(entry: Path) -> Pixels | None:
    """The pixels in a folder of the cache, unless they are missing or damaged."""
    try:
        written = json.loads((entry / "images.json").read_text(encoding="utf-8"))
        sha256, shape = written["sha256"], tuple(written["shape"])
        images, mapped = map_pixels(entry / "images.npy", shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if images.nbytes <= _CHECK_BYTES and hashlib.sha256(images.data).hexdigest() != sha256:
        return None
    return Pixels(images, mapped, sha256)


def _write(listing: Listing, size: int | None, channels: int | None, folder: Path) -> None:
    folder.mkdir()
    references = [r for of_class in listing.classes.values() for r in of_class]
    first = listing.read(references[0])
    side = first.size[0] if size is None else size
    depth = pictures.channels_of(listing.name, first) if channels is None else channels

    def pixels(reference: Any) -> np.ndarray:
        picture = listing.read(reference)
        found = pictures.channels_of(listing.name, picture)
        if size is None and picture.size != (side, side):
            raise InputError(
                f"`image_size` was not given; {listing.name} held an image of "
                f"{picture.size[0]}×{picture.size[1]}: without it all must be square and of one "
                f"size, here {side}×{side}."
            )
        if channels is None and found != depth:
            raise InputError(
                f"`channels` was not given; {listing.name} held images in grey and in colour: "
                "1 makes all grey, 3 makes all colour."
            )
        return pictures.fit(picture, side, depth)

    shape = (len(references), side, side, depth)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    digest = hashlib.sha256()
    bar = require("tqdm.auto", "cli").tqdm(
        total=len(references), unit="image", desc=f"reading {listing.name}", delay=2, leave=False
    )
    with bar, ThreadPoolExecutor() as threads:
        for start in range(0, len(references), _BLOCK):
            block = np.stack(list(threads.map(pixels, references[start : start + _BLOCK])))
            images[start : start + len(block)] = block
            digest.update(block.tobytes())
            bar.update(len(block))
    images.flush()
    written = {"shape": list(shape), "sha256": digest.hexdigest()}
    (folder / "images.json").write_text(json.dumps(written), encoding="utf-8")


def map_pixels(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, mmap.mmap]:
    """The uint8 array of that shape in an .npy file, and its memory map."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint8, offset=file.tell()).reshape(shape), mapped
