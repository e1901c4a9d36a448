"""Data sets: by name, from files, from arrays in memory."""

import difflib
from pathlib import Path

from maml_jax import registry
from maml_jax.data.arrays import from_arrays
from maml_jax.data.folders import list_path
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.pictures import FITS
from maml_jax.data.prepared import find_prepared, is_prepared, list_prepared
from maml_jax.data.reading import labelled_set
from maml_jax.data.request import Request
from maml_jax.data.sources import DataSet, TaskSource
from maml_jax.errors import InputError, check_choice, check_count, check_seed

__all__ = [
    "DataSet",
    "LabelledSet",
    "Listing",
    "Request",
    "TaskSource",
    "from_arrays",
    "labelled_set",
    "load",
]


def load(
    name: str | Path,
    data_dir: str | Path | None = None,
    split_seed: int = 1,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    class_split: str | Path | None = None,
    image_fit: str = "squash",
    skip_unreadable: bool = False,
    min_images: int | None = None,
    ways: int | None = None,
    shots: int = 1,
    in_memory_gb: float | None = None,
) -> DataSet:
    """The data set of that name.

    Args:
      name: a name in `maml_jax.registry.names("data")`, such as `omniglot`; else a folder, `.zip`
        or `.npz` of images; else the name of a data set that TensorFlow Datasets (TFDS) prepared.
      data_dir: the folder of the data set's files; None, for TFDS: where TFDS puts them.
      split_seed: seeds the random split of the classes, where nothing else says which split a
        class is in.
      image_size: pixels a side that images are resized to; None: the data set's usual size, or
        their own.
      channels: 1 makes images grey, 3 gives them colour; None: as they are.
      class_split: `finn` or `vinyals` for Omniglot; else a JSON file that names the classes of
        `train`, `val` and `test`, or `random`; None: the data set's own split, or a random one.
      image_fit: how images that are not square are made so: `squash` ignores their proportions,
        `crop` keeps their middle, `pad` adds white.
      skip_unreadable: leave out images that cannot be read, instead of refusing the set.
      min_images: leave out classes with fewer images.
      ways: where classes are split at random, each split gets at least that many; where there are
        too few classes for that, the images of each class are split instead, and the log says so.
        None: 64, 16 and 20 % of the classes, however few that is.
      shots: then each class gets more images than that in a split, where it has them.
      in_memory_gb: splits larger than that many GiB stay on the host; None: larger than a quarter
        of the device's memory.

    Raises:
      InputError: an unknown name, a missing folder, or files that are not the data set.
    """
    name = str(name)
    check_seed("split_seed", split_seed)
    if image_size is not None:
        check_count("image_size", image_size)
    if channels not in (None, 1, 3):
        raise InputError(f"`channels` was {channels!r}; it may be 1 or 3.")
    check_choice("image_fit", image_fit, FITS)
    if min_images is not None:
        check_count("min_images", min_images)
    if ways is not None:
        check_count("ways", ways, least=2)
    check_count("shots", shots)
    request = Request(
        name,
        None if data_dir is None else Path(data_dir),
        split_seed,
        image_size,
        channels,
        None if class_split is None else str(class_split),
        image_fit,
        skip_unreadable,
        min_images,
        ways,
        shots,
        in_memory_gb,
    )
    if name in registry.names("data"):
        return registry.find("data", name)(request)
    path = Path(name).expanduser()
    if name and path.exists() and not is_prepared(path):
        return labelled_set(list_path(path), request)
    if request.data_dir is not None:
        request.folder()
    prepared = find_prepared(name, request.data_dir)
    if prepared is not None:
        return labelled_set(list_prepared(name, prepared), request)
    if is_path(name):
        raise InputError(
            f"`data` was {name}, which is not there (and TFDS prepared no data set of that name)."
        )
    raise InputError(_unknown(name))


def is_path(name: str) -> bool:
    """Whether a name of data that is neither known nor prepared was meant as a path."""
    return (
        "/" in name
        or "\\" in name
        or name[:1] in ".~"
        or bool(Path(name).suffix.strip(".0123456789"))
    )


def _unknown(name: str) -> str:
    known = registry.names("data")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"`data` was {name!r}{hint}; it may be one of {', '.join(known)}; a folder, .zip or .npz "
        f"of images; or a data set that TFDS prepared: maml-jax data prepare {name}."
    )
