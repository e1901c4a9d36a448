"""From a listing of pictures to the data set that was asked for."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maml_jax.data import splits
from maml_jax.data.archive import in_words
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.pixel_cache import read_pixels
from maml_jax.data.request import Request
from maml_jax.data.splitting import split_classes

RANDOM = "random"
"""The `class_split` that splits all classes at random, whatever the set itself says."""
_log = logging.getLogger("maml_jax")


def labelled_set(
    listing: Listing,
    request: Request,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    rotate: bool = False,
) -> LabelledSet:
    """The data set of a listing: its pictures read as the request asks, its classes split.

    Args:
      listing: the pictures.
      request: what the user asked for. Its `class_split`, if given, is a JSON file or `random`.
      image_size: the data set's usual size, where the request names none.
      channels: its usual channels, where the request names none.
      rotate: whether episodes rotate each class by a random multiple of 90°.

    Raises:
      InputError: pictures that cannot be read or do not go together, or a split that does not fit.
    """
    left_out = Counter(listing.left_out)
    named = _named_splits(listing, request)
    kept = _large_classes(listing.classes, request.min_images, left_out)
    pixels = None
    while pixels is None or pixels.unreadable:  # what cannot be read may leave a class too small
        if pixels is not None:
            left_out["unreadable"] += len(pixels.unreadable)
            kept = _without(kept, pixels.unreadable)
            kept = _large_classes(kept, request.min_images, left_out)
        if named is not None:
            named = {part: [n for n in names if n in kept] for part, names in named.items()}
        seed, ways, shots = request.split_seed, request.ways, request.shots
        classes, indices, ranges = split_classes(listing.name, kept, named, seed, ways, shots)
        pixels = read_pixels(
            listing._replace(classes=classes),
            request.image_size or image_size,
            request.channels or channels,
            how=request.image_fit,
            skip_unreadable=request.skip_unreadable,
        )
    if left_out:
        _log.warning("%s: left out: %s", listing.name, in_words(left_out))
    limit = request.in_memory_gb
    return LabelledSet(
        name=listing.name,
        examples=pixels.images,
        counts=np.array([len(images) for images in classes.values()], np.int32),
        class_names=tuple(classes),
        splits=indices,
        rotate=rotate,
        mapped=pixels.mapped,
        sha256=pixels.sha256,
        in_memory=None if limit is None else int(limit * 2**30),
        ranges=ranges,
        left_out=dict(left_out),
    )


def _named_splits(listing: Listing, request: Request) -> dict[str, list[str]] | None:
    """The classes of each split where a file or the set itself says; None: split at random."""
    if request.class_split is None:
        named = listing.splits
    elif request.class_split == RANDOM:
        return None
    else:
        named = splits.from_file(Path(request.class_split))
    if named is not None:
        splits.indices(listing.name, listing.classes, named)  # whether they fit
    return named


def _large_classes(
    classes: Mapping[str, Sequence[Any]], least: int | None, left_out: Counter[str]
) -> Mapping[str, Sequence[Any]]:
    if least is None:
        return classes
    large = {name: images for name, images in classes.items() if len(images) >= least}
    if len(large) < len(classes):
        left_out[f"classes of fewer than {least} images"] += len(classes) - len(large)
    return large


def _without(
    classes: Mapping[str, Sequence[Any]], unreadable: Collection[Any]
) -> Mapping[str, Sequence[Any]]:
    kept = {n: [image for image in of if image not in unreadable] for n, of in classes.items()}
    return {name: images for name, images in kept.items() if images}
