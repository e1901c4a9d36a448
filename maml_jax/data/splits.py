"""Which classes are for training, for validation and for testing."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from maml_jax.errors import InputError

PARTS = ("train", "val", "test")
SHARES = {"train": 0.64, "val": 0.16}  # of the classes; as mini-ImageNet's 64, 16 and 20


def at_random(
    classes: Iterable[str], seed: int, counts: dict[str, int] | None = None
) -> dict[str, list[str]]:
    """Deal the classes out, in parts of `counts` or else of 64, 16 and 20 %.

    The legacy generator deals, for its streams are frozen: a seed is the same split for ever.
    """
    names = list(classes)
    if counts is None:
        counts = {part: round(share * len(names)) for part, share in SHARES.items()}
        counts["test"] = len(names) - sum(counts.values())
    order = np.random.RandomState(seed).permutation(len(names))
    edges = np.cumsum([0, *counts.values()])
    return {
        part: [names[i] for i in sorted(order[start:stop])]
        for part, start, stop in zip(counts, edges, edges[1:], strict=False)
    }


def from_file(path: Path) -> dict[str, list[str]]:
    """A split written down: JSON, `{"train": ["cat", …], "val": […], "test": […]}`.

    Raises:
      InputError: it cannot be read, or is no such thing.
    """
    try:
        held = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"`class_split` was {path}, which cannot be read: {error}.") from error
    if not (isinstance(held, dict) and set(held) == set(PARTS) and all(map(_names, held.values()))):
        raise InputError(
            f'`class_split` was {path}; it must hold {{"train": [names of classes], "val": …, '
            '"test": …}.'
        )
    return {part: held[part] for part in PARTS}


def _names(held: object) -> bool:
    return isinstance(held, list) and all(isinstance(name, str) for name in held)


def indices(
    name: str, classes: Iterable[str], splits: dict[str, list[str]]
) -> dict[str, np.ndarray]:
    """The numbers of each part's classes; classes that no part names are in none.

    Raises:
      InputError: a class that is in two parts, or that there is not.
    """
    number = {name: i for i, name in enumerate(classes)}
    seen: dict[str, str] = {}
    for part, names in splits.items():
        for one in names:
            if one not in number:
                raise InputError(f"`class_split` named {one!r}, a class that {name} has not.")
            if one in seen:
                raise InputError(
                    f"`data` was {name}, whose class {one!r} is in {seen[one]} and in {part}; "
                    "a class has one split, or what is tested was learned before."
                )
            seen[one] = part
    return {
        part: np.array(sorted(number[one] for one in splits.get(part, [])), np.int64)
        for part in PARTS
    }
