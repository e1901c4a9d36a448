"""Omniglot (Lake et al. 2015): 1623 handwritten characters, each drawn by 20 people."""

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from maml_jax.data import pictures, splits
from maml_jax.data.archive import Files
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.reading import labelled_set
from maml_jax.data.request import Request
from maml_jax.errors import InputError, check_choice
from maml_jax.extras import require

PARTS = ("images_background", "images_evaluation")
CHARACTERS, DRAWINGS = 1623, 20
SIDE = 28
SPLITS = {"train": 1100, "val": 100, "test": 423}
VINYALS = "omniglot_vinyals"
CLASS_SPLITS = ("finn", "vinyals")


def load(request: Request) -> LabelledSet:
    """1623 characters of 20 drawings, 28×28; split by `finn`, `vinyals` or a file (`class_split`).

    By `vinyals` rotated characters are classes of their own; else episodes rotate characters.
    """
    known = request.class_split in CLASS_SPLITS
    which = str(request.class_split) if known else "finn"
    listing = list_omniglot(request.folder(), request.split_seed, which)
    if known:
        request = request._replace(class_split=None)
    return labelled_set(listing, request, image_size=SIDE, rotate=which == "finn")


def list_omniglot(data_dir: Path, split_seed: int = 1, class_split: str = "finn") -> Listing:
    """Omniglot with bright strokes on dark, its classes split as in one of two papers.

    `finn` (Finn et al. 2017): all 1623 characters are shuffled together and split 1100/100/423.
    `vinyals` (Vinyals et al. 2016, by the lists in common use): 1028/172/423 characters, each in
    four rotations, which are four classes.

    Args:
      data_dir: the folder that holds `images_background` and `images_evaluation`, as `.zip` or
        unpacked, in itself or in its folder `omniglot`; for `vinyals` also the lists `train.txt`,
        `val.txt` and `test.txt` in `omniglot_vinyals` or `splits/omniglot_vinyals`.
      split_seed: seeds the shuffle of `finn`.
      class_split: `finn` or `vinyals`.

    Raises:
      InputError: a part is missing or incomplete.
    """
    check_choice("class_split", class_split, CLASS_SPLITS)
    parts = [Files(_find(data_dir, part)) for part in PARTS]
    characters: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, files in enumerate(parts):
        for name in files.names:
            characters["/".join(PurePosixPath(name).parts[-3:-1])].append((number, name))
    sizes = {len(drawings) for drawings in characters.values()}
    if len(characters) != CHARACTERS or sizes != {DRAWINGS}:
        raise InputError(
            f"`data_dir` was {data_dir}, which holds {len(characters)} characters with "
            f"{min(sizes, default=0)} to {max(sizes, default=0)} drawings; "
            f"Omniglot has {CHARACTERS} with {DRAWINGS}."
        )
    characters = dict(sorted(characters.items()))
    stamp = [files.stamp() for files in parts]

    # In `vinyals` a drawing is in four classes, one after another: it is decoded once.
    @lru_cache(maxsize=128)
    def read(reference: tuple[int, str]) -> Any:
        number, name = reference
        picture = pictures.decode(name, parts[number].read(name)).convert("L")
        return require("PIL.ImageOps", "cli").invert(picture)

    if class_split == "finn":
        named = splits.at_random(characters, split_seed, SPLITS)
        return Listing("omniglot", characters, read, stamp, named)
    return _in_four_rotations(data_dir, characters, read, stamp)


def _in_four_rotations(
    data_dir: Path, characters: dict[str, Any], read: Callable[[Any], Any], stamp: Any
) -> Listing:
    """Every character in four rotations, such as `Greek/character01/rot090`, split by the lists."""
    classes = {
        f"{name}/rot{90 * turn:03}": [(turn, drawing) for drawing in drawings]
        for name, drawings in characters.items()
        for turn in range(4)
    }
    lists = {part: _read_list(data_dir, part) for part in splits.PARTS}
    return Listing(
        "omniglot-vinyals",
        classes,
        lambda reference: read(reference[1]).rotate(90 * reference[0]),
        stamp,
        lists,
    )


def _read_list(data_dir: Path, part: str) -> list[str]:
    for folder in (data_dir, data_dir / "splits"):
        path = folder / VINYALS / f"{part}.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8").split()
    raise InputError(
        f"`data_dir` was {data_dir}; class_split vinyals needs {VINYALS}/{part}.txt there or in "
        "splits/."
    )


def _find(data_dir: Path, part: str) -> Path:
    places = [
        folder / name
        for folder in (data_dir, data_dir / "omniglot")
        for name in (f"{part}.zip", part)
    ]
    for place in places:
        if place.exists():
            return place
    raise InputError(
        f"`data_dir` was {data_dir}; it must hold {part}.zip or {part}/, in itself or in omniglot/."
    )
