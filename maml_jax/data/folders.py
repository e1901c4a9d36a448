"""Pictures that people have: a folder or zip with a folder for each class, or arrays in an .npz."""

import csv
import io
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from maml_jax.data import pictures
from maml_jax.data.archive import IMAGES, Files
from maml_jax.data.listing import Listing
from maml_jax.data.splits import PARTS
from maml_jax.errors import InputError

_PART_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def from_path(path: Path) -> Listing:
    """A folder, a zip or an `.npz`.

    In a folder or zip the class of an image is the folder it is in, with those around it, as in
    `Greek/character01`. Folders `train`, `val` and `test` at the top say what their classes are
    for; `train.csv`, `val.csv` and `test.csv` with the columns filename and label, as for
    mini-ImageNet (Ravi & Larochelle 2017), name the images of each class.

    Raises:
      InputError: there is no such thing, or it holds no such thing.
    """
    if path.suffix == ".npz":
        return from_npz(path)
    if not path.is_dir() and path.suffix != ".zip":
        raise InputError(f"`data` was {path}; a folder, a .zip or an .npz may be.")
    if not path.exists():
        raise InputError(f"`data` was {path}; there is no such file.")
    files = Files(path, (".csv",))
    tables = {PurePosixPath(name).name: name for name in files.names if name.endswith(".csv")}
    if {f"{part}.csv" for part in PARTS} <= set(tables):
        lists = {part: files.read(tables[f"{part}.csv"]).decode() for part in PARTS}
        return from_lists(path.stem, files, lists)
    return _by_folder(path, files)


def _by_folder(path: Path, files: Files) -> Listing:
    images = [PurePosixPath(name) for name in files.names if not name.endswith(".csv")]
    # What all have in common, such as the folder that was zipped, says nothing about a class.
    while images and len({name.parts[0] for name in images}) == 1 and len(images[0].parts) > 2:
        if any(len(name.parts) < 3 for name in images):
            break
        images = [PurePosixPath(*name.parts[1:]) for name in images]
    common = len(PurePosixPath(files.names[0]).parts) - len(images[0].parts) if images else 0
    top = {name.parts[0] for name in images if len(name.parts) > 1}
    says = bool(top) and top <= set(_PART_NAMES) and all(len(name.parts) > 2 for name in images)
    classes: dict[str, list[str]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in files.names:
        parts = PurePosixPath(name).parts[common:]
        if name.endswith(".csv"):
            continue
        if len(parts) < 2:
            raise InputError(f"`data` was {path}, whose image {name} is in no class's folder.")
        label = "/".join(parts[1 if says else 0 : -1])
        part = _PART_NAMES.get(parts[0], "")
        if says and label not in splits[part]:
            splits[part].append(label)
        classes[label].append(name)
    return Listing(
        path.stem,
        dict(sorted(classes.items())),
        lambda name: pictures.decode(name, files.read(name)),
        files.stamp(),
        splits if says else None,
    )


def from_lists(name: str, files: Files, lists: dict[str, str]) -> Listing:
    """Images by lists in CSV: the columns filename and label, a list for each split.

    Raises:
      InputError: a list of another form, or an image that is not there.
    """
    by_name = {PurePosixPath(n).name: n for n in files.names if _is_image(n)}
    classes: dict[str, list[str]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    for part, text in lists.items():
        for row in csv.DictReader(io.StringIO(text)):
            label, file = row.get("label"), row.get("filename")
            if not label or not file:
                raise InputError(
                    f"`data` was {name}, whose {part}.csv has not the columns filename and label."
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


def list_miniimagenet(data_dir: Path) -> Listing:
    """mini-ImageNet by the split of Ravi & Larochelle 2017: 64/16/20 classes of 600 images.

    Args:
      data_dir: the folder that holds `mini-imagenet`, `miniimagenet` or `mini-imagenet.zip` with
        the images, and there, or in `miniimagenet_ravi` or `splits/miniimagenet_ravi`, the lists
        `train.csv`, `val.csv` and `test.csv`.

    Raises:
      InputError: a part is missing, or the lists and the images do not fit.
    """
    names = ("mini-imagenet", "miniimagenet", "mini-imagenet.zip", "miniimagenet.zip")
    places = [data_dir / name for name in names if (data_dir / name).exists()]
    if not places:
        raise InputError(f"`data_dir` was {data_dir}; it must hold {names[0]}/ or {names[2]}.")
    files = Files(places[0], (".csv",))
    inside = {PurePosixPath(n).name: n for n in files.names if n.endswith(".csv")}
    lists = {}
    for part in PARTS:
        near = [
            folder / "miniimagenet_ravi" / f"{part}.csv"
            for folder in (data_dir, data_dir / "splits")
        ]
        found = [path for path in near if path.is_file()]
        if f"{part}.csv" in inside:
            lists[part] = files.read(inside[f"{part}.csv"]).decode()
        elif found:
            lists[part] = found[0].read_text()
        else:
            raise InputError(f"`data_dir` was {data_dir}; it must hold {near[0]} with the images.")
    return from_lists("mini-imagenet", files, lists)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGES


def from_npz(path: Path) -> Listing:
    """`images`, uint8 `[n, height, width]` or with 1 or 3 channels last, and `labels` `[n]`.

    With `images_train`, `labels_train` and the same for `val` and `test`, these are the splits.
    `x` and `y` are understood too.

    Raises:
      InputError: it cannot be read, or holds other arrays.
    """
    try:
        # Opened here, for NumPy leaves the file open when it finds that it is none of its own.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"`data` was {path}, which cannot be read: {error}.") from error
    classes: dict[str, list[tuple[str, int]]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    parts = [part for part in PARTS if _array(arrays, "images", f"_{part}") is not None]
    held_images: dict[str, np.ndarray] = {}
    for part in parts or [""]:
        end = f"_{part}" if part else ""
        images, labels = (_array(arrays, kind, end) for kind in ("images", "labels"))
        if images is None or labels is None:
            names = ", ".join(arrays) or "nothing"
            raise InputError(f"`data` was {path}, which holds {names}; it needs images and labels.")
        held_images[end] = images
        shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
        if images.dtype != np.uint8 or not shaped or labels.shape != images.shape[:1]:
            raise InputError(
                f"`data` was {path}, whose images are {images.dtype}{list(images.shape)} and "
                f"labels {list(labels.shape)}; uint8 [n, height, width] or with 1 or 3 channels "
                "last, and [n], may be."
            )
        if labels.dtype.kind not in "iuU":
            raise InputError(
                f"`data` was {path}, whose labels are {labels.dtype}; integers or text may be."
            )
        for label in np.unique(labels):
            name = str(label)
            if part:
                splits[part].append(name)
            classes[name] += [(end, int(i)) for i in np.flatnonzero(labels == label)]
    status = path.stat()
    return Listing(
        path.stem,
        dict(classes),
        lambda at: pictures.from_array(held_images[at[0]][at[1]]),
        [str(path.absolute()), status.st_size, status.st_mtime_ns],
        splits if parts else None,
    )


def _array(arrays: dict[str, np.ndarray], kind: str, end: str) -> np.ndarray | None:
    other = {"images": "x", "labels": "y"}[kind]
    return next((arrays[n + end] for n in (kind, other) if n + end in arrays), None)
