"""From a listing of pictures to the data set that was asked for."""

from pathlib import Path

import numpy as np

from maml_jax.data import splits
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.pixel_cache import read_pixels
from maml_jax.data.request import Request


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
      request: what the user asked for. Its `class_split`, if given, is a JSON file.
      image_size: the data set's usual size, where the request names none.
      channels: its usual channels, where the request names none.
      rotate: whether episodes rotate each class by a random multiple of 90°.

    Raises:
      InputError: pictures that cannot be read or do not go together, or a split that does not fit.
    """
    named = listing.splits
    if request.class_split is not None:
        named = splits.from_file(Path(request.class_split))
    named = named or splits.at_random(listing.classes, request.split_seed)
    indices = splits.indices(listing.name, listing.classes, named)
    pixels = read_pixels(listing, request.image_size or image_size, request.channels or channels)
    limit = request.in_memory_gb
    return LabelledSet(
        name=listing.name,
        examples=pixels.images,
        counts=np.array([len(images) for images in listing.classes.values()], np.int32),
        class_names=tuple(listing.classes),
        splits=indices,
        rotate=rotate,
        mapped=pixels.mapped,
        sha256=pixels.sha256,
        in_memory=None if limit is None else int(limit * 2**30),
    )
