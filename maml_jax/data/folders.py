"""Pictures in files: a folder or zip with a folder for each class, or with lists in CSV."""

import csv
import io
from collections import defaultdict
from pathlib import Path, PurePosixPath

from maml_jax.data import pictures
from maml_jax.data.archive import IMAGES, Files
from maml_jax.data.arrays import list_npz
from maml_jax.data.listing import Listing
from maml_jax.data.splits import PARTS
from maml_jax.errors import InputError

_PART_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def list_path(path: Path) -> Listing:
    """The pictures in a folder, a zip or an `.npz`.

    In a folder or zip the class of an image is the path of its folder, such as
    `Greek/character01`. Folders `train`, `val` and `test` at the top are the splits of the classes
    in them. `train.csv`, `val.csv` and `test.csv` with the columns filename and label, as for
    mini-ImageNet (Ravi & Larochelle 2017), name the class of each image instead.

    Raises:
      InputError: the path does not exist, or holds other things.
    """
    if path.suffix == ".npz":
        return list_npz(path)
    if not path.is_dir() and path.suffix != ".zip":
        raise InputError(f"`data` was {path}; it may be a folder, a .zip or an .npz.")
    if not path.exists():
        raise InputError(f"`data` was {path}, which does not exist.")
    files = Files(path, (".csv",))
    tables = {PurePosixPath(name).name: name for name in files.names if name.endswith(".csv")}
    if {f"{part}.csv" for part in PARTS} <= set(tables):
        lists = {part: files.read(tables[f"{part}.csv"]).decode() for part in PARTS}
        return list_by_csv(path.stem, files, lists)
    return _list_by_folder(path, files)


def _list_by_folder(path: Path, files: Files) -> Listing:
    names = [name for name in files.names if _is_image(name)]
    inside = [PurePosixPath(name).parts for name in names]
    # A folder around all others, such as the one that was zipped, is no part of a class's name.
    while inside and len({parts[0] for parts in inside}) == 1 and min(map(len, inside)) > 2:
        inside = [parts[1:] for parts in inside]
    stray = next((n for n, parts in zip(names, inside, strict=True) if len(parts) < 2), None)
    if stray is not None:
        raise InputError(f"`data` was {path}, whose image {stray} is in no class's folder.")
    top = {parts[0] for parts in inside}
    has_splits = bool(top) and top <= set(_PART_NAMES) and min(map(len, inside)) > 2
    classes: dict[str, list[str]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, parts in zip(names, inside, strict=True):
        label = "/".join(parts[1 if has_splits else 0 : -1])
        if has_splits and label not in splits[_PART_NAMES[parts[0]]]:
            splits[_PART_NAMES[parts[0]]].append(label)
        classes[label].append(name)
    return Listing(
        path.stem,
        dict(sorted(classes.items())),
        lambda name: pictures.decode(name, files.read(name)),
        files.stamp(),
        splits if has_splits else None,
    )


def list_by_csv(name: str, files: Files, lists: dict[str, str]) -> Listing:
    """Images by lists in CSV, one for each split, with the columns filename and label.

    Args:
      name: of the data set.
      files: the images.
      lists: the text of the list of each split.

    Raises:
      InputError: a list of another form, or an image that is not in `files`.
    """
    by_name = {PurePosixPath(n).name: n for n in files.names if _is_image(n)}
    classes: dict[str, list[str]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    for part, text in lists.items():
        for row in csv.DictReader(io.StringIO(text)):
            label, file = row.get("label"), row.get("filename")
            if not label or not file:
                raise InputError(
                    f"`data` was {name}, whose {part}.csv lacks the columns filename and label."
                )
            if file not in by_name:
                raise InputError(f"`data` was {name}, whose {part}.csv lists {file}, not there.")
            if label not in splits[part]:
                splits[part].append(label)
            classes[label].append(by_name[file])
    return Listing(
        name,
        dict(classes),
        lambda file: pictures.decode(file, files.read(file)),
        [files.stamp(), lists],
        splits,
    )


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGES
