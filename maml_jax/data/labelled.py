"""Labelled examples, split by class; on the device, or fetched from the host as needed."""

import hashlib
import mmap
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.data import describe
from maml_jax.data.episodes import Draw, EpisodeShape, build_episode, draw_episode
from maml_jax.data.memory import fits
from maml_jax.data.sources import Size, TaskSource
from maml_jax.data.splitting import Ranges
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Episode, Loss


@dataclass(frozen=True, repr=False, eq=False)
class LabelledSet:
    """Examples by class, and the classes of each split; a class may be in no split.

    Raises:
      InputError: a class is in two splits.
    """

    name: str
    examples: np.ndarray
    """`[examples, …]`, class after class, in memory or memory-mapped. Images are
    `[images, height, width, channels]`; in uint8, episodes have them as float32 in [0, 1]."""
    counts: np.ndarray
    """`[classes]`, how many examples each class has."""
    class_names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    """The class indices of `train`, `val` and `test`."""
    kind: str = "images"
    rotate: bool = False
    """Whether episodes rotate each class of images by a random multiple of 90°."""
    mapped: mmap.mmap | None = None
    """The memory map that holds `examples`, if one does."""
    sha256: str | None = None
    """The digest of `examples`, if it is known."""
    in_memory: int | None = None
    """Splits larger than that many bytes stay on the host; None: larger than a quarter of the
    device's memory."""
    loss: Loss = field(default=softmax_cross_entropy)
    ranges: dict[str, Ranges] | None = None
    """Where the examples of each split's classes lie, where splits divide those of a class; None: a
    split has all examples of its classes."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many files, images or classes are no part of it, by what they are."""

    def __post_init__(self) -> None:
        if self.ranges is not None:
            return
        members = np.concatenate(list(self.splits.values()))
        twice = [self.class_names[i] for i in np.flatnonzero(np.bincount(members) > 1)]
        if twice:
            raise InputError(
                f"`splits` of {self.name} held {twice[0]!r} twice; a class has one split."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.examples.shape[1:]

    def outputs(self, ways: int) -> int:
        return ways

    def classes(self, split: str) -> np.ndarray:
        """The class indices of a split, or of `all`."""
        check_choice("split", split, (*self.splits, "all"))
        return np.arange(len(self.counts)) if split == "all" else self.splits[split]

    def range(self, split: str) -> Ranges:
        """Where the examples of each of the split's classes lie."""
        if self.ranges is not None and split != "all":
            return self.ranges[split]
        classes = self.classes(split)
        return Ranges((np.cumsum(self.counts) - self.counts)[classes], self.counts[classes])

    def labels(self, split: str) -> int:
        """Each class is a label; where episodes rotate classes, each class in each position is."""
        return len(self.classes(split)) * (4 if self.rotate else 1)

    def sizes(self) -> dict[str, Size]:
        sizes = {}
        for split in (*self.splits, "all"):
            counts = self.range(split).counts
            ends = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
            sizes[split] = Size(len(counts), int(counts.sum()), *ends)
        return sizes

    def tasks(
        self,
        split: str,
        *,
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        by_class: bool = False,
    ) -> TaskSource:
        """The tasks of one split, or of `all` classes.

        The split's examples are copied to the device here, if they fit (`in_memory`). If not, they
        stay on the host, and those of a task are fetched when it is drawn. The tasks are the same.

        Args:
          split: `train`, `val`, `test` or `all`.
          ways: classes in a task.
          shots: support examples per class.
          queries: query examples per class.
          by_class: label an example by its class's number in the split, instead of by its class's
            place in the task.

        Raises:
          InputError: the split has too few classes, or a class too few examples.
        """
        classes = self.classes(split)
        check_count("shots", shots)
        check_count("queries", queries)
        check_count("ways", ways, least=2)
        if ways > len(classes):
            raise InputError(
                f"`ways` was {ways}; the {split} split of {self.name} has {len(classes)} classes"
                f"{self._remedy(ways)}."
            )
        firsts, counts = self.range(split)
        fewest = int(counts.min())
        if shots + queries > fewest:
            smallest = self.class_names[classes[counts.argmin()]]
            raise InputError(
                f"`shots` + `queries` was {shots} + {queries}; a class of {self.name} has {fewest} "
                f"{describe.noun(self, fewest)}, {smallest} in the {split} split: take fewer, or "
                "leave out small classes by `min_images`."
            )
        shape = EpisodeShape(ways, shots, queries, self.rotate, by_class)
        described = (
            f"{self.name}, {split} split of {len(classes)} classes: {ways}-way {shots}-shot, "
            f"{queries} queries a class, each input {describe.shape(self)}"
        )
        if fits(int(counts.sum()) * self.examples[0].nbytes, self.in_memory):
            return self._on_device(shape, firsts, counts, described)
        return self._from_host(shape, firsts, counts, described)

    def _remedy(self, ways: int) -> str:
        """How tasks of so many classes could be had from these data."""
        if len(self.counts) < ways:
            return f", all splits together {len(self.counts)}"
        return f"; load it with `ways` {ways}, or give `class_split` a JSON file"

    def _on_device(
        self, shape: EpisodeShape, firsts: np.ndarray, counts: np.ndarray, described: str
    ) -> TaskSource:
        parts = [self.examples[n : n + count] for n, count in zip(firsts, counts, strict=True)]
        new_firsts = np.cumsum(counts) - counts
        store = jnp.asarray(np.concatenate(parts)), _int32(new_firsts), _int32(counts)
        self._release_pages()
        return TaskSource(store, _sampler(shape, int(counts.max())), description=described)

    def _from_host(
        self, shape: EpisodeShape, firsts: np.ndarray, counts: np.ndarray, described: str
    ) -> TaskSource:
        draw = _host_draws(shape, int(counts.max()))
        classes = _int32(firsts), _int32(counts)

        def load(keys: jax.Array) -> tuple[np.ndarray, Draw]:
            drawn = jax.tree.map(np.asarray, draw(*classes, keys))
            examples = self.examples[drawn.examples]
            self._release_pages()
            return examples, drawn

        return TaskSource(None, _host_sampler(shape), load, described)

    def _release_pages(self) -> None:
        """Let the system drop the pages of the memory map that were read."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _digest(self) -> str:
        return self.sha256 or hashlib.sha256(self.examples.tobytes()).hexdigest()

    def fingerprint(self) -> dict[str, Any]:
        splits = "".join(
            f"{split}:{','.join(self.class_names[i] for i in classes)};"
            for split, classes in self.splits.items()
        )
        common: dict[str, Any] = {
            "classes": {split: len(classes) for split, classes in self.splits.items()},
            "rotate": self.rotate,
            "sha256_splits": hashlib.sha256(splits.encode()).hexdigest(),
        }
        if self.ranges is not None:
            common["examples_per_split"] = {
                split: self.range(split).counts.tolist() for split in self.splits
            }
        if self.kind == "images" and self.examples.dtype == np.uint8:
            return common | {
                "images": int(self.counts.sum()),
                "image_shape": list(self.input_shape),
                "sha256_images": self._digest,
            }
        return common | {
            "examples": int(self.counts.sum()),
            "example_shape": list(self.input_shape),
            "dtype": str(self.examples.dtype),
            "sha256_examples": self._digest,
        }

    def __repr__(self) -> str:
        return describe.one_line(self)

    def _repr_html_(self) -> str:
        return describe.as_html(self)


# Functions for equal tasks are one object, so that they are compiled once.
@cache
def _sampler(shape: EpisodeShape, largest: int) -> Any:
    def sample(store: Any, key: jax.Array) -> Episode:
        examples, firsts, counts = store
        draw = draw_episode(firsts, counts, key, shape, largest)
        return build_episode(examples[draw.examples], draw, shape)

    return sample


@cache
def _host_draws(shape: EpisodeShape, largest: int) -> Any:
    @jax.jit
    def draw(firsts: jax.Array, counts: jax.Array, keys: jax.Array) -> Draw:
        drawn = jax.vmap(lambda key: draw_episode(firsts, counts, key, shape, largest))(
            keys.ravel()
        )
        return jax.tree.map(lambda leaf: leaf.reshape(*keys.shape, *leaf.shape[1:]), drawn)

    return draw


@cache
def _host_sampler(shape: EpisodeShape) -> Any:
    def sample(_: Any, item: tuple[jax.Array, Draw]) -> Episode:
        examples, draw = item
        return build_episode(examples, draw, shape)

    return sample


def _int32(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array, jnp.int32)
