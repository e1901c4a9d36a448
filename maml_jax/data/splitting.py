"""The splits of a data set: of its classes, or within them where they are too few."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maml_jax.data import splits

_log = logging.getLogger("maml_jax")


class Ranges(NamedTuple):
    """Where the examples of one split lie, for each of its classes."""

    firsts: np.ndarray
    """`[classes]`, the place of a class's first example."""
    counts: np.ndarray
    """`[classes]`, how many there are."""


class Split(NamedTuple):
    """How a data set is split."""

    classes: Mapping[str, Sequence[Any]]
    """The examples of each class, in the order in which they are to lie."""
    indices: dict[str, np.ndarray]
    """The class indices of each split."""
    ranges: dict[str, Ranges] | None
    """Where the examples of each split's classes lie; None: each class is in one split, whole."""


def split_classes(
    name: str,
    classes: Mapping[str, Sequence[Any]],
    named: dict[str, list[str]] | None,
    seed: int,
    ways: int | None,
    shots: int,
) -> Split:
    """Split classes as `named`, or at random; or the examples of each, with a warning in the log.

    Args:
      name: of the data set.
      classes: the examples of each class.
      named: the classes of each split; None: at random.
      seed: decides what is random.
      ways: how many classes a split is to have; None: 64, 16 and 20 %, however few that is.
      shots: where the classes are too few for that, each is to have more examples in a split.

    Raises:
      InputError: `named` does not fit.
    """
    if named is None and ways is not None and len(classes) >= ways:
        counts = splits.sizes(len(classes), ways)
        if counts is None:
            random = np.random.RandomState(seed)  # its streams are frozen
            # Shuffled, for what was taken together often lies together.
            classes = {
                label: [examples[i] for i in random.permutation(len(examples))]
                for label, examples in classes.items()
            }
            within = divide(map(len, classes.values()), shots + 1)
            _log.warning("%s: %s", name, within.warning)
            return Split(classes, within.classes, within.ranges)
        named = splits.at_random(classes, seed, counts)
    named = splits.at_random(classes, seed) if named is None else named
    return Split(classes, splits.indices(name, classes, named), None)


class Within(NamedTuple):
    """Every class in every split, with a part of its examples; class after class in any case."""

    ranges: dict[str, Ranges]
    classes: dict[str, np.ndarray]
    """The class indices of each split: all, or none in a `val` for which there are too few."""
    warning: str
    """What that means for a score."""


def divide(counts: Iterable[int], least: int) -> Within:
    """Split the examples of each class 64, 16 and 20 %, as they are ordered in it.

    Args:
      counts: how many examples each class has.
      least: how many a class needs in a split. Where the smallest class has too few for three, no
        example is in `val`; where it has too few for two, all are in every split.
    """
    sizes = np.array(list(counts))
    firsts = np.cumsum(sizes) - sizes
    everyone = np.arange(len(sizes))
    parts = {int(size): splits.sizes(int(size), least) for size in set(sizes)}
    if not len(sizes) or None in parts.values():
        same = Ranges(firsts, sizes)
        return Within(
            dict.fromkeys(splits.PARTS, same),
            dict.fromkeys(splits.PARTS, everyone),
            "the examples are too few to hold some out, so that training sees what is tested, and "
            "a score says nothing of new examples",
        )
    each = [parts[int(size)] or {} for size in sizes]
    no_val = any(part["val"] == 0 for part in each)
    ranges, start = {}, firsts
    for part in splits.PARTS:
        of_part = np.array([size[part] for size in each])
        if no_val and part == "train":
            of_part += np.array([size["val"] for size in each])
        if no_val and part == "val":
            of_part = np.zeros_like(sizes)
        ranges[part] = Ranges(start, of_part)
        start = start + of_part
    classes = dict.fromkeys(splits.PARTS, everyone)
    if no_val:
        classes["val"] = everyone[:0]
        ranges["val"] = Ranges(firsts[:0], sizes[:0])
    return Within(
        ranges,
        classes,
        "the classes are too few to hold some out, so that each class's examples are split, and a "
        "score is for new examples of known classes, not for new classes",
    )
