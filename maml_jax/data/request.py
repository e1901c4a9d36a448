"""What a data set is asked for by `maml_jax.data.load`."""

import os
from pathlib import Path
from typing import NamedTuple

from maml_jax.errors import InputError

OF_IMAGES = (
    *("image_size", "channels", "class_split", "image_fit", "skip_unreadable", "min_images"),
)
"""What has a meaning for images alone."""


class Request(NamedTuple):
    """The arguments of `load`, as the user gave them; None where the data set decides."""

    name: str
    data_dir: Path | None = None
    """The folder of the files."""
    split_seed: int = 1
    """Seeds the random split of the classes, where nothing else says which split a class is in."""
    image_size: int | None = None
    """Pixels a side that images are resized to."""
    channels: int | None = None
    """1 for grey images, 3 for colour."""
    class_split: str | None = None
    """A JSON file that names the classes of each split, or a split that the data set knows."""
    image_fit: str = "squash"
    """How an image that is not square is made so, one of `maml_jax.data.pictures.FITS`."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read, instead of refusing the set."""
    min_images: int | None = None
    """Leave out classes with fewer images."""
    ways: int | None = None
    """Where classes are split at random: each split is to have that many. None: 64, 16 and 20 %."""
    shots: int = 1
    """Where there are too few classes, each class is to have more images than that in a split."""
    in_memory_gb: float | None = None
    """Splits larger than that many GiB stay on the host."""

    def folder(self) -> Path:
        """`data_dir`, or else what MAML_JAX_DATA names, for data sets that need it.

        Raises:
          InputError: neither was given, or it is no folder.
        """
        named = os.environ.get("MAML_JAX_DATA")
        folder = Path(named) if self.data_dir is None and named else self.data_dir
        if folder is None:
            raise InputError(
                f"`data_dir` was not given; {self.name} needs the folder of its files "
                "(or the environment variable MAML_JAX_DATA)."
            )
        if not folder.is_dir():
            raise InputError(f"`data_dir` was {folder}; it must be a folder.")
        return folder

    def refuse(self, *options: str, because: str) -> None:
        """Refuse options that the data set has no use for, rather than ignore them.

        Args:
          *options: names of fields of the request.
          because: what is said of the data set, as in "whose examples are no images".

        Raises:
          InputError: one of them was given.
        """
        for option in options:
            value = getattr(self, option)
            if value is not None and value != Request._field_defaults[option]:
                raise InputError(
                    f"`data` was {self.name!r}, {because}: leave out `{option}` (it was {value})."
                )
