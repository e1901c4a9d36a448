"""Data sets by name."""

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maml_jax.data import splits
from maml_jax.data.folders import from_path, list_miniimagenet
from maml_jax.data.images import ImageSet
from maml_jax.data.listing import Listing, read_pixels
from maml_jax.data.prepared import find, from_prepared, superclasses
from maml_jax.data.sets.cifar import list_cifar
from maml_jax.data.sets.glyphs import list_glyphs
from maml_jax.data.sets.mnist import list_mnist
from maml_jax.data.sets.omniglot import CLASS_SPLITS, list_omniglot
from maml_jax.data.sets.sequences import Sequences
from maml_jax.data.sets.sinusoid import Sinusoid
from maml_jax.data.tasks import DataSet, TaskSource
from maml_jax.errors import InputError, check_count

__all__ = [
    "DATA_SETS",
    "DataSet",
    "ImageSet",
    "Listing",
    "Sequences",
    "Sinusoid",
    "TaskSource",
    "load",
]

DATA_SETS = (
    "cifar-fs",
    "fc100",
    "glyphs",
    "mini-imagenet",
    "mnist",
    "omniglot",
    "sequences",
    "sinusoid",
)
_SIZES = {"glyphs": 28, "mini-imagenet": 84, "mnist": 28, "omniglot": 28}
_CHANNELS = {"mini-imagenet": 3, "cifar-fs": 3, "fc100": 3}


def load(
    name: str,
    data_dir: Path | None = None,
    split_seed: int = 1,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    class_split: str | None = None,
    in_memory_gb: float | None = None,
) -> DataSet:
    """The data set of that name.

    Args:
      name: one of `DATA_SETS`; a folder, zip or `.npz` of images; or a data set that TFDS prepared.
      data_dir: where files are; all but `glyphs`, `sequences`, `sinusoid` and files need it, or,
        for TFDS, look where TFDS puts them.
      split_seed: which random split of the classes, where nothing else says.
      image_size: images are resized to that many pixels a side; None: the set's usual size, or
        their own.
      channels: 1 makes images grey, 3 gives them colours; None: as they are.
      class_split: `finn` or `vinyals` for Omniglot; else a JSON file of class names (`splits.py`);
        None: the set's own, or at random.
      in_memory_gb: a split larger than that many GB stays on the host; None: than a quarter of the
        device's memory.

    Raises:
      InputError: an unknown name, a missing folder, or files that are not the data set.
    """
    if name in ("sequences", "sinusoid"):
        for option, value in (("image_size", image_size), ("class_split", class_split)):
            if value is not None:
                raise InputError(f"`{option}` was {value}; {name} has no images.")
        return Sequences() if name == "sequences" else Sinusoid()
    if image_size is not None:
        check_count("image_size", image_size)
    if channels not in (None, 1, 3):
        raise InputError(f"`channels` was {channels}; 1 or 3 may be.")
    listing = _listing(name, data_dir, split_seed, class_split)
    if class_split is not None and class_split not in CLASS_SPLITS:
        listing = listing._replace(splits=splits.from_file(Path(class_split)))
    dealt = listing.splits or splits.at_random(listing.classes, split_seed)
    parts = splits.indices(listing.name, listing.classes, dealt)
    pixels = read_pixels(listing, image_size or _SIZES.get(name), channels or _CHANNELS.get(name))
    return ImageSet(
        name=listing.name,
        images=pixels.images,
        counts=np.array([len(images) for images in listing.classes.values()], np.int32),
        class_names=tuple(listing.classes),
        splits=parts,
        rotate=name == "omniglot" and class_split != "vinyals",
        mapped=pixels.mapped,
        sha256=pixels.sha256,
        in_memory=None if in_memory_gb is None else int(in_memory_gb * 2**30),
    )


def _listing(name: str, data_dir: Path | None, split_seed: int, class_split: str | None) -> Listing:
    if class_split in CLASS_SPLITS and name != "omniglot":
        raise InputError(f"`class_split` was {class_split!r}, which is for omniglot.")
    if name == "glyphs":
        return list_glyphs()
    if name not in DATA_SETS and (Path(name).exists() or "/" in name or Path(name).suffix):
        return from_path(Path(name))
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"`data_dir` was {data_dir}; it must be a folder.")
    own: dict[str, Callable[[Path], Listing]] = {
        "omniglot": lambda folder: list_omniglot(
            folder, split_seed, class_split if class_split in CLASS_SPLITS else "finn"
        ),
        "mini-imagenet": list_miniimagenet,
        "mnist": list_mnist,
    }
    prepared = "cifar100" if name in ("cifar-fs", "fc100") else name
    there = find(prepared, data_dir)
    # MNIST and Omniglot go by the same names there; what TFDS prepared is taken if it is found.
    if name in own and (there is None or name == "omniglot"):
        if data_dir is None:
            raise InputError(
                f"`data_dir` was not given; {name} needs the folder of its files "
                "(or the environment variable MAML_JAX_DATA)."
            )
        return own[name](data_dir)
    if there is None:
        raise InputError(_not_found(name, prepared))
    listing = from_prepared(prepared, there)
    if prepared == name:
        return listing
    if data_dir is None:
        raise InputError(f"`data_dir` was not given; {name} needs the folder with its class lists.")
    return list_cifar(name, listing, superclasses(there), data_dir)


def _not_found(name: str, prepared: str) -> str:
    near = difflib.get_close_matches(name, DATA_SETS, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near and near[0] != name else ""
    return (
        f"`data` was {name!r}{hint}; it may be one of {', '.join(DATA_SETS)}; a folder, zip or "
        f".npz of images; or what TFDS prepared: maml-jax data prepare {prepared}."
    )
