"""Pictures in files: a folder or zip with a folder for each class, or with lists in CSV."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from maml_jax.data import pictures
from maml_jax.data.archive import Files
from maml_jax.data.arrays import list_npz
from maml_jax.data.listing import Listing
from maml_jax.data.splits import PARTS, indices
from maml_jax.errors import InputError

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What folders of splits are called, in whatever case."""
_SHOWN = 3


def list_path(path: Path) -> Listing:
    """The pictures in a folder, a zip or an `.npz`.

    In a folder or zip the class of an image is the path of its folder, such as
    `Greek/character01`. Folders at the top with the names of `PART_NAMES` are the splits of the
    classes in them. `train.csv`, `val.csv` and `test.csv` with the columns filename and label, as
    for mini-ImageNet (Ravi & Larochelle 2017), name the class of each image instead; `val` may be
    missing in both.

    Raises:
      InputError: the path does not exist, or holds other things.
    """
    if not path.exists():
        raise InputError(f"`data` was {path}, which is not there.")
    suffix = path.suffix.lower()
    if suffix == ".npz" and path.is_file():
        return list_npz(path)
    if not path.is_dir() and suffix != ".zip":
        raise InputError(f"`data` was {path}; it may be a folder, a .zip or an .npz.")
    files = Files(path, (".csv",))
    tables = {PurePosixPath(name).name.lower(): name for name in _endings(files, ".csv")}
    lists = {part: tables[f"{part}.csv"] for part in PARTS if f"{part}.csv" in tables}
    if {"train", "test"} <= lists.keys():
        texts = {part: decode_list(files, name) for part, name in lists.items()}
        return list_by_csv(path.stem, files, texts)
    return _list_by_folder(path, files)


def decode_list(files: Files, name: str) -> str:
    """The text of a list, in UTF-8 with or without a byte-order mark.

    Raises:
      InputError: it is in another encoding.
    """
    try:
        return files.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"`data` held {name}, which is not in UTF-8 ({error.reason}); save it as UTF-8."
        ) from error


def _endings(files: Files, suffix: str) -> list[str]:
    return [name for name in files.names if PurePosixPath(name).suffix.lower() == suffix]


def _list_by_folder(path: Path, files: Files) -> Listing:
    unused = _endings(files, ".csv")
    names = [name for name in files.names if name not in unused]
    inside = [PurePosixPath(name).parts for name in names]
    # A folder around all others, such as the one that was zipped, is no part of a class's name.
    while inside and len({parts[0] for parts in inside}) == 1 and min(map(len, inside)) > 2:
        inside = [parts[1:] for parts in inside]
    stray = [name for name, parts in zip(names, inside, strict=True) if len(parts) < 2]
    if stray:
        raise InputError(
            f"`data` was {path}, whose image {stray[0]} is in no class's folder"
            f"{_and_more(len(stray))}."
        )
    part_of = _split_folders(path, inside)
    classes: dict[str, list[str]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, parts in zip(names, inside, strict=True):
        label = "/".join(parts[1 if part_of else 0 : -1])
        if part_of and label not in splits[part_of[parts[0]]]:
            splits[part_of[parts[0]]].append(label)
        classes[label].append(name)
    _check_classes(path, classes)
    return Listing(
        path.stem,
        dict(sorted(classes.items())),
        lambda name: pictures.decode(name, files.read(name)),
        files.stamp(),
        splits if part_of else None,
        files.left_out + Counter({".csv": len(unused)}) + _empty(files),
    )


def _empty(files: Files) -> Counter[str]:
    """The folders without a picture, counted, and some of them named: each may be a lost class."""
    folders = files.without_data()
    noun = "folder" if len(folders) == 1 else "folders"
    return Counter({f"{noun} without a picture ({_some(folders)})": len(folders)})


def _split_folders(path: Path, inside: list[tuple[str, ...]]) -> Mapping[str, str]:
    """The split of each folder at the top; none where the folders are classes.

    One folder with the name of a split is a class where it holds pictures itself: `train` is also a
    vehicle. Two are splits, and then nothing may stand beside them.

    Raises:
      InputError: some folders are splits and others not, or a split holds pictures in no class.
    """
    top = sorted({parts[0] for parts in inside})
    part_of = {name: PART_NAMES[name.lower()] for name in top if name.lower() in PART_NAMES}
    bare = sorted({p[0] for p in inside if p[0] in part_of and len(p) == 2})
    if not part_of or (len(part_of) == 1 and bare):
        return {}
    others = [name for name in top if name not in part_of]
    if others:
        raise InputError(
            f"`data` was {path}, where {_some(list(part_of))} would be splits, but beside them "
            f"stands {_some(others)}; move what is no split out of the folder."
        )
    if bare:
        raise InputError(
            f"`data` was {path}, whose split {bare[0]} holds pictures in no class's folder; each "
            "class of a split has a folder in it."
        )
    twice = [name for name, part in part_of.items() if list(part_of.values()).count(part) > 1]
    if twice:
        raise InputError(
            f"`data` was {path}, where {_some(twice)} would be the same split; put them together."
        )
    return part_of


def _check_classes(path: Path, classes: Mapping[str, list[str]]) -> None:
    """Whether the folders of classes can be told from others.

    Raises:
      InputError: a class's folder is in another one's, or splits are in the folders of classes.
    """
    for label in classes:
        parts = label.split("/")
        for n in range(1, len(parts)):
            around = "/".join(parts[:n])
            if around in classes:
                raise InputError(
                    f"`data` was {path}, whose folder {around} holds pictures and the folder "
                    f"{label} with more; a folder holds either pictures or classes."
                )
    places: dict[int, dict[str, str]] = defaultdict(dict)
    for label in classes:
        for place, name in enumerate(label.split("/")):
            if place and name.lower() in PART_NAMES:
                places[place].setdefault(PART_NAMES[name.lower()], label)
    for found in places.values():
        if len(found) > 1:
            raise InputError(
                f"`data` was {path}, whose folders {_some(list(found.values()))} are splits within "
                "classes; folders of splits stand at the top, with those of classes in them."
            )


def list_by_csv(name: str, files: Files, lists: dict[str, str]) -> Listing:
    """Images by lists in CSV, one for each split, with the columns filename and label.

    A filename is the image's path, or the end of its path where only one image's ends so.

    Args:
      name: of the data set.
      files: the images.
      lists: the text of the list of each split; one that is missing has no classes.

    Raises:
      InputError: a list of another form, or an image that is not in `files`, or is listed twice.
    """
    find = _Finder(name, files)
    classes: dict[str, list[str]] = defaultdict(list)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    listed: dict[str, str] = {}
    twice: list[str] = []
    for part, text in lists.items():
        for label, file in _rows(name, part, text):
            path = find(part, file)
            if path in listed:
                twice.append(f"{path} (in {listed[path]} and in {part}.csv)")
            listed[path] = f"{part}.csv"
            if label not in splits[part]:
                splits[part].append(label)
            classes[label].append(path)
    indices(name, classes, splits)  # a class in two splits is the graver fault
    if twice:
        raise InputError(
            f"`data` was {name}, whose lists name a picture twice: {_some(twice)}; list it once."
        )
    unlisted = len(files.names) - len(_endings(files, ".csv")) - len(listed)
    return Listing(
        name,
        dict(classes),
        lambda file: pictures.decode(file, files.read(file)),
        [files.stamp(), lists],
        splits,
        files.left_out + Counter({"in no list": unlisted}),
    )


def _rows(name: str, part: str, text: str) -> list[tuple[str, str]]:
    """The label and the filename of each line."""
    rows = csv.DictReader(io.StringIO(text))
    found = []
    try:
        columns = rows.fieldnames or ()
        if not {"filename", "label"} <= set(columns):
            raise InputError(
                f"`data` was {name}, whose {part}.csv lacks the columns filename and label, "
                f"separated by a comma; it begins with {', '.join(columns)[:80]!r}."
            )
        for row in rows:
            if not row["label"] or not row["filename"]:
                raise InputError(
                    f"`data` was {name}, whose {part}.csv lacks the columns filename and label in "
                    f"line {rows.line_num}."
                )
            found.append((row["label"], row["filename"]))
    except csv.Error as error:
        raise InputError(f"`data` was {name}, whose {part}.csv is no CSV: {error}.") from error
    return found


class _Finder:
    """From a name in a list to the image's path."""

    def __init__(self, data: str, files: Files):
        self._data = data
        self._paths: dict[str, list[str]] = defaultdict(list)
        for path in files.names:
            parts = PurePosixPath(path).parts
            for n in range(len(parts)):
                self._paths["/".join(parts[n:])].append(path)

    def __call__(self, part: str, file: str) -> str:
        wanted = PurePosixPath(file.replace("\\", "/")).as_posix().removeprefix("./")
        found = self._paths.get(wanted, [])
        if wanted in found:
            return wanted
        if not found:
            raise InputError(f"`data` was {self._data}, whose {part}.csv lists {file}, not there.")
        if len(found) > 1:
            raise InputError(
                f"`data` was {self._data}, whose {part}.csv lists {file}, which may be "
                f"{_some(found)}; list the path."
            )
        return found[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + _and_more(len(names), _SHOWN)


def _and_more(count: int, shown: int = 1) -> str:
    return f" and {count - shown} more" if count > shown else ""
