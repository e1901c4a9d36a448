"""The pixels of pictures, decoded and resized once, then kept in the cache folder and mapped."""

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maml_jax.cache import cache_folder
from maml_jax.data import pictures
from maml_jax.data.listing import Listing
from maml_jax.errors import InputError
from maml_jax.extras import require

FORMAT = 2  # of the entries; another number makes old ones unused
_BLOCK = 256  # pictures decoded between two writes
_SHARE = 16  # pictures that a thread decodes at a time: small ones cost less than their dispatch
_CHECK_BYTES = 2**30  # larger arrays are not digested at each start, for it takes seconds


class Pixels(NamedTuple):
    """The pixels of a listing."""

    images: np.ndarray
    """`[images, size, size, channels]` uint8, class after class, mapped from the disk."""
    mapped: mmap.mmap
    """The memory map behind `images`."""
    sha256: str
    """The digest of `images`."""
    unreadable: frozenset[Any] = frozenset()
    """The references of pictures that could not be read; then there are no `images`."""


def read_pixels(
    listing: Listing,
    size: int | None,
    channels: int | None,
    *,
    how: str = "squash",
    skip_unreadable: bool = False,
) -> Pixels:
    """All pictures of a listing as one array, from the cache or read now.

    Args:
      listing: the pictures.
      size: pixels a side to resize them to; None: their own, if all are square and of one size.
      channels: 1 for grey, 3 for colour; None: their own, if all are alike.
      how: what to do with pictures that are not square, one of `pictures.FITS`.
      skip_unreadable: return which pictures cannot be read, instead of refusing them.

    Raises:
      InputError: a class without pictures, pictures that cannot be read or are of several sizes or
        colours, or a cache folder that cannot be written.
    """
    counts = {name: len(references) for name, references in listing.classes.items()}
    if not counts or not all(counts.values()):
        empty = next((name for name, count in counts.items() if not count), None)
        what = "no image" if empty is None else f"no image of the class {empty!r}"
        raise InputError(f"`data` was {listing.name}, which holds {what}.")
    references = [r for of_class in listing.classes.values() for r in of_class]
    key = json.dumps([FORMAT, listing.name, counts, listing.stamp, size, channels, how])
    key += hashlib.sha256(repr(references).encode()).hexdigest()
    folder = cache_folder()
    entry = folder / "data" / hashlib.sha256(key.encode()).hexdigest()[:32]
    pixels = _open(entry)
    if pixels is None:
        try:
            shutil.rmtree(entry, ignore_errors=True)
            entry.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=entry.parent) as temporary:
                unreadable = _write(listing, size, channels, how, Path(temporary, "new"))
                if unreadable and skip_unreadable:
                    return Pixels(np.empty(0), mmap.mmap(-1, 1), "", frozenset(unreadable))
                if unreadable:
                    raise InputError(_refusal(list(unreadable.values())))
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


def _refusal(reasons: list[InputError]) -> str:
    """One line for all pictures that cannot be read."""
    if len(reasons) == 1:
        return f"{str(reasons[0]).rstrip('.')} (`skip_unreadable` leaves such out)."
    some = "; ".join(str(reason).removeprefix("`data` held ").rstrip(".") for reason in reasons[:3])
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"`data` held {len(reasons)} pictures that cannot be read: {some}{more} "
        "(`skip_unreadable` leaves them out)."
    )


def _write(
    listing: Listing, size: int | None, channels: int | None, how: str, folder: Path
) -> dict[Any, InputError]:
    """Write an entry; returns why pictures cannot be read, by their references."""
    folder.mkdir()
    references = [r for of_class in listing.classes.values() for r in of_class]
    first = None
    unreadable: dict[Any, InputError] = {}
    for reference in references:
        try:
            first = listing.read(reference)
            break
        except InputError as error:
            unreadable[reference] = error
    if first is None:
        return unreadable
    side = first.size[0] if size is None else size
    depth = pictures.channels_of(first) if channels is None else channels
    nothing = np.zeros((side, side, depth), np.uint8)
    seen: Counter[tuple[int, int]] = Counter()
    depths: Counter[int] = Counter()

    def pixels(reference: Any) -> tuple[np.ndarray, tuple[int, int], int] | InputError:
        """The pixels, the size and the channels of a picture; no pixels of what is refused below,
        with all others.
        """
        try:
            picture = listing.read(reference)
        except InputError as error:
            return error
        found = pictures.channels_of(picture)
        wrong = size is None and picture.size != (side, side)
        return nothing if wrong else pictures.fit(picture, side, depth, how), picture.size, found

    shape = (len(references), side, side, depth)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    digest = hashlib.sha256()
    bar = require("tqdm.auto", "cli").tqdm(
        total=len(references), unit="image", desc=f"reading {listing.name}", delay=2, leave=False
    )
    with bar, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(references), _BLOCK):
            some = references[start : start + _BLOCK]
            block = np.empty((len(some), side, side, depth), np.uint8)
            shares = (some[n : n + _SHARE] for n in range(0, len(some), _SHARE))
            results = chain.from_iterable(threads.map(lambda share: [*map(pixels, share)], shares))
            for n, result in enumerate(results):
                if isinstance(result, InputError):
                    unreadable[some[n]] = result
                    continue
                block[n], picture_size, picture_depth = result
                seen[picture_size] += 1
                depths[picture_depth] += 1
            images[start : start + len(block)] = block
            digest.update(block.tobytes())
            bar.update(len(block))
    if unreadable:
        return unreadable
    others = [pair for pair in seen.most_common() if pair[0] != (side, side)]
    if size is None and others:
        (width, height), _ = others[0]
        more = f" (and {seen.total() - 1} others)" if seen.total() > 1 else ""
        raise InputError(
            f"`image_size` was not given; {listing.name} held an image of {width}×{height}{more}: "
            f"give it, such as 84, or make all square and of one size; there are {len(seen)}."
        )
    if channels is None and len(depths) > 1:
        raise InputError(
            f"`channels` was not given; {listing.name} held images in grey and in colour, "
            f"{depths[1]} and {depths[3]}: 1 makes all grey, 3 makes all colour."
        )
    images.flush()
    written = {"shape": list(shape), "sha256": digest.hexdigest()}
    (folder / "images.json").write_text(json.dumps(written), encoding="utf-8")
    return unreadable


def map_pixels(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, mmap.mmap]:
    """The uint8 array of that shape in an .npy file, and its memory map."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint8, offset=file.tell()).reshape(shape), mapped
