"""A listing of pictures: which classes there are and how each picture is read."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple


class Listing(NamedTuple):
    """Pictures by class, none of them read yet."""

    name: str
    classes: Mapping[str, Sequence[Any]]
    """A reference to every picture of every class, such as its file name."""
    read: Callable[[Any], Any]
    """From a reference to the picture, a `PIL.Image.Image`."""
    stamp: Any
    """Changes when the pictures do, such as the files' names, sizes and times; JSON."""
    splits: dict[str, list[str]] | None = None
    """The classes of `train`, `val` and `test`, where the source says."""
    left_out: Mapping[str, int] = MappingProxyType({})
    """How many files or examples are no data, by what they are."""
