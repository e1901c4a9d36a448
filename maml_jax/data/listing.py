"""What a source of pictures says before any is read; and the reading, kept for the next time."""

import hashlib
import json
import mmap
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maml_jax.cache import cache_folder
from maml_jax.data import pictures
from maml_jax.errors import InputError
from maml_jax.extras import require

VERSION = 1  # of what is kept
_AT_ONCE = 256
_CHECKED = 2**30  # bytes whose digest is quick to take at each start


class Listing(NamedTuple):
    """A source of pictures."""

    name: str
    classes: Mapping[str, Sequence[Any]]
    """A reference to every picture of every class."""
    read: Callable[[Any], Any]
    """From a reference to the picture."""
    stamp: Any
    """What tells the source's content from another, as JSON."""
    splits: dict[str, list[str]] | None = None
    """The classes of `train`, `val` and `test`, where the source says."""


class Pixels(NamedTuple):
    """The pixels of a listing."""

    images: np.ndarray
    """`[images, size, size, channels]` uint8, class after class, mapped from the disk."""
    mapped: mmap.mmap
    """The mapping itself, which can be told to let go of what was read."""
    sha256: str


def read_pixels(listing: Listing, size: int | None, channels: int | None) -> Pixels:
    """All pictures of a listing as one array; read once, kept on disk, and mapped from there.

    Args:
      listing: the source.
      size: of the pictures' sides; None: their own, if all are square and alike.
      channels: 1 for grey, 3 for colour; None: their own, if all are alike.

    Raises:
      InputError: no picture, one that cannot be read, mixed ones, or nowhere to keep them.
    """
    counts = {name: len(references) for name, references in listing.classes.items()}
    if not counts or not all(counts.values()):
        empty = next((name for name, count in counts.items() if not count), None)
        what = "no image" if empty is None else f"no image of the class {empty!r}"
        raise InputError(f"`data` was {listing.name}, which holds {what}.")
    key = json.dumps([VERSION, listing.name, counts, listing.stamp, size, channels])
    folder = cache_folder()
    if folder is None:
        raise InputError("`MAML_JAX_CACHE` was not set, and the user has no home: name a folder.")
    kept = folder / "data" / hashlib.sha256(key.encode()).hexdigest()[:32]
    pixels = _open(kept)
    if pixels is None:
        try:
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as place:
                _write(listing, size, channels, Path(place, "new"))
                if not kept.exists():  # another process may have been faster
                    Path(place, "new").rename(kept)
        except OSError as error:
            raise InputError(
                f"`MAML_JAX_CACHE` was {folder}, where pictures are kept once they are "
                f"read; it cannot be written: {error}."
            ) from error
        pixels = _open(kept)
        if pixels is None:
            raise InputError(f"`MAML_JAX_CACHE` was {folder}; what is kept there changes.")
    return pixels


def _open(kept: Path) -> Pixels | None:
    """The pixels that are kept in that folder, unless they are missing or damaged."""
    try:
        facts = json.loads((kept / "images.json").read_text())
        sha256, shape = facts["sha256"], tuple(facts["shape"])
        images, mapped = map_pixels(kept / "images.npy", shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if images.nbytes <= _CHECKED and hashlib.sha256(images.data).hexdigest() != sha256:
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
                f"{picture.size[0]}×{picture.size[1]}: without it all must be square and alike, "
                f"here {side}×{side}."
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
    bar = require("tqdm", "cli").tqdm(
        total=len(references), unit="image", desc=f"reading {listing.name}", delay=2, leave=False
    )
    with bar, ThreadPoolExecutor() as threads:
        for start in range(0, len(references), _AT_ONCE):
            some = np.stack(list(threads.map(pixels, references[start : start + _AT_ONCE])))
            images[start : start + len(some)] = some
            digest.update(some.tobytes())
            bar.update(len(some))
    images.flush()
    facts = {"shape": list(shape), "sha256": digest.hexdigest()}
    (folder / "images.json").write_text(json.dumps(facts))


def map_pixels(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, mmap.mmap]:
    """The uint8 array of that shape in an .npy file, and its mapping."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint8, offset=file.tell()).reshape(shape), mapped
