"""Splits: which classes are for training, for validation and for testing."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from maml_jax.errors import InputError

PARTS = ("train", "val", "test")
SHARES = {"train": 0.64, "val": 0.16}  # as mini-ImageNet's 64, 16 and 20 of 100 classes


def sizes(count: int, least: int = 0) -> dict[str, int] | None:
    """How `count` classes, or images of a class, are split: 64, 16 and 20 %.

    Where that leaves a part fewer than `least`, it gets `least` and train the rest; where there are
    too few for three parts, there is no val; where there are too few for two, None.
    """
    val, train = (round(SHARES[part] * count) for part in ("val", "train"))
    test = count - train - val
    if min(train, val, test) < least:
        val, test = max(val, least), max(test, least)
        if count - val - test < least:
            val, test = 0, max(round((1 - SHARES["train"]) * count), least)
        train = count - val - test
    return None if min(train, test) < least else {"train": train, "val": val, "test": test}


def at_random(
    classes: Iterable[str], seed: int, counts: dict[str, int] | None = None
) -> dict[str, list[str]]:
    """A random split into parts of `counts` classes, or else of 64, 16 and 20 %.

    It is drawn by NumPy's legacy generator, whose streams are frozen: a seed gives the same split
    in every version.
    """
    names = list(classes)
    counts = counts or sizes(len(names)) or {}
    order = np.random.RandomState(seed).permutation(len(names))
    edges = np.cumsum([0, *counts.values()])
    return {
        part: [names[i] for i in sorted(order[start:stop])]
        for part, start, stop in zip(counts, edges, edges[1:], strict=False)
    }


def from_file(path: Path) -> dict[str, list[str]]:
    """The split in a JSON file, `{"train": ["cat", …], "val": […], "test": […]}`.

    Raises:
      InputError: the file cannot be read, or holds something else.
    """
    try:
        split = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"`class_split` was {path}, a JSON file that cannot be read: {error}."
        ) from error
    if not (
        isinstance(split, dict)
        and {"train", "test"} <= set(split) <= set(PARTS)
        and all(map(_are_names, split.values()))
    ):
        raise InputError(
            f'`class_split` was {path}; it must hold {{"train": [names of classes], "val": …, '
            '"test": …}, of which "val" may be left out.'
        )
    return {part: split.get(part, []) for part in PARTS}


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def indices(
    name: str, classes: Iterable[str], splits: dict[str, list[str]]
) -> dict[str, np.ndarray]:
    """The indices of each split's classes; a class that no split names is in none.

    Raises:
      InputError: a class is in two splits, or not in the data set.
    """
    index = {class_name: i for i, class_name in enumerate(classes)}
    part_of: dict[str, str] = {}
    for part, class_names in splits.items():
        for class_name in class_names:
            if class_name not in index:
                raise InputError(
                    f"`class_split` named {class_name!r}, which is no class of {name}."
                )
            if class_name in part_of:
                raise InputError(
                    f"`data` was {name}, whose class {class_name!r} is in {part_of[class_name]} "
                    f"and in {part}; a class has one split, or training sees what is tested "
                    "(`class_split` random puts all together and splits the classes anew)."
                )
            part_of[class_name] = part
    return {
        part: np.array(sorted(index[class_name] for class_name in splits.get(part, [])), np.int64)
        for part in PARTS
    }
