"""A labelled set of images, split by class; on the device, or fetched from the host as needed."""

import hashlib
import mmap
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.data.episodes import Draw, Shape, draw_episode, dress_episode
from maml_jax.data.memory import fits
from maml_jax.data.tasks import TaskSource
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Episode, Loss


@dataclass(frozen=True)
class ImageSet:
    """Images by class, and which classes each split has; a class may be in none.

    Raises:
      InputError: a class is in two splits.
    """

    name: str
    images: np.ndarray
    """`[images, height, width, channels]`, uint8, class after class; in memory or mapped."""
    counts: np.ndarray
    """`[classes]`, how many images each class has."""
    class_names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    """The class indices of `train`, `val` and `test`."""
    rotate: bool = False
    """Whether episodes turn each class by a random multiple of 90°."""
    mapped: mmap.mmap | None = None
    """The mapping of `images`, if they are mapped."""
    sha256: str | None = None
    """Of the images, if it is known."""
    in_memory: int | None = None
    """Most bytes of a split that go to the device; None: a share of its memory."""
    loss: Loss = field(default=softmax_cross_entropy)

    def __post_init__(self) -> None:
        members = np.concatenate(list(self.splits.values()))
        twice = [self.class_names[i] for i in np.flatnonzero(np.bincount(members) > 1)]
        if twice:
            raise InputError(
                f"`splits` of {self.name} held {twice[0]!r} twice; a class has one split."
            )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def outputs(self, ways: int) -> int:
        return ways

    def classes(self, split: str) -> np.ndarray:
        """The class indices of a split, or of `all`."""
        check_choice("split", split, (*self.splits, "all"))
        return np.arange(len(self.counts)) if split == "all" else self.splits[split]

    def labels(self, split: str) -> int:
        """A class, and where episodes turn classes each of its four positions, is a label."""
        return len(self.classes(split)) * (4 if self.rotate else 1)

    def tasks(
        self, split: str, *, ways: int, shots: int, queries: int, by_class: bool = False
    ) -> TaskSource:
        """The tasks of one split, or of `all` classes.

        Its images move to the device here, if they fit; if not, they stay, and a task's are fetched
        when it is drawn. The tasks are the same.
        """
        classes = self.classes(split)
        for name, value in {"shots": shots, "queries": queries}.items():
            check_count(name, value)
        check_count("ways", ways, least=2)
        if ways > len(classes):
            raise InputError(
                f"`ways` was {ways}; the {split} split of {self.name} has {len(classes)} classes."
            )
        counts = self.counts[classes]
        if shots + queries > counts.min():
            raise InputError(
                f"`shots` + `queries` was {shots} + {queries}; "
                f"a class of {self.name} has {counts.min()} images."
            )
        shape = Shape(ways, shots, queries, self.rotate, by_class)
        firsts = (np.cumsum(self.counts) - self.counts)[classes]
        if fits(int(counts.sum()) * self.images[0].nbytes, self.in_memory):
            return self._on_device(shape, firsts, counts)
        return self._from_host(shape, firsts, counts)

    def _on_device(self, shape: Shape, firsts: np.ndarray, counts: np.ndarray) -> TaskSource:
        parts = [self.images[n : n + count] for n, count in zip(firsts, counts, strict=True)]
        places = np.cumsum(counts) - counts
        store = jnp.asarray(np.concatenate(parts)), _int32(places), _int32(counts)
        self._let_go()
        most = int(counts.max())

        def sample(store: Any, key: jax.Array) -> Episode:
            images, firsts, counts = store
            draw = draw_episode(firsts, counts, key, shape, most)
            return dress_episode(images[draw.images], draw, shape)

        return TaskSource(store, sample)

    def _from_host(self, shape: Shape, firsts: np.ndarray, counts: np.ndarray) -> TaskSource:
        most = int(counts.max())

        @jax.jit
        def draw(keys: jax.Array) -> Draw:
            places = _int32(firsts), _int32(counts)
            drawn = jax.vmap(lambda key: draw_episode(*places, key, shape, most))(keys.ravel())
            return jax.tree.map(lambda leaf: leaf.reshape(*keys.shape, *leaf.shape[1:]), drawn)

        def load(keys: jax.Array) -> tuple[np.ndarray, Draw]:
            drawn = jax.tree.map(np.asarray, draw(keys))
            images = self.images[drawn.images]
            self._let_go()
            return images, drawn

        def sample(_: Any, item: tuple[jax.Array, Draw]) -> Episode:
            images, draw = item
            return dress_episode(images, draw, shape)

        return TaskSource(None, sample, load)

    def _let_go(self) -> None:
        """Tell the system that what was read of the mapping need not stay in memory."""
        if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _digest(self) -> str:
        return self.sha256 or hashlib.sha256(self.images.tobytes()).hexdigest()

    def facts(self) -> dict[str, Any]:
        splits = "".join(
            f"{split}:{','.join(self.class_names[i] for i in classes)};"
            for split, classes in self.splits.items()
        )
        return {
            "classes": {split: len(classes) for split, classes in self.splits.items()},
            "images": int(self.counts.sum()),
            "image_shape": list(self.input_shape),
            "rotate": self.rotate,
            "sha256_images": self._digest,
            "sha256_splits": hashlib.sha256(splits.encode()).hexdigest(),
        }


def _int32(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array, jnp.int32)
