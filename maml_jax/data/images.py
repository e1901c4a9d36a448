"""A labelled set of images in memory, split by class."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.data.episodes import sample_episode
from maml_jax.data.tasks import TaskSource
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.losses import softmax_cross_entropy
from maml_jax.types import Episode, Loss


@dataclass(frozen=True)
class ImageSet:
    """Images by class, and which classes each split has.

    Raises:
      InputError: a class is in two splits, or in none.
    """

    name: str
    images: np.ndarray
    """`[classes, images, height, width, channels]`, uint8."""
    class_names: tuple[str, ...]
    splits: dict[str, np.ndarray]
    """The class indices of `train`, `val` and `test`."""
    rotate: bool = False
    """Whether episodes turn each class by a random multiple of 90°."""
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """`[classes]`, how many images each class has; all of them if left out."""
    loss: Loss = softmax_cross_entropy

    def __post_init__(self) -> None:
        if not len(self.counts):
            counts = np.full(len(self.images), self.images.shape[1], np.int32)
            object.__setattr__(self, "counts", counts)
        members = np.concatenate(list(self.splits.values()))
        twice = [self.class_names[i] for i in np.flatnonzero(np.bincount(members) > 1)]
        if twice:
            raise InputError(
                f"`splits` of {self.name} held {twice[0]!r} twice; a class has one split."
            )
        if len(members) != len(self.class_names):
            raise InputError(f"`splits` of {self.name} left out classes; each class has one split.")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.images.shape[2:]

    def outputs(self, ways: int) -> int:
        return ways

    def labels(self, split: str) -> int:
        """A class, and where episodes turn classes each of its four positions, is a label."""
        return len(self.splits[split]) * (4 if self.rotate else 1)

    def tasks(
        self, split: str, *, ways: int, shots: int, queries: int, by_class: bool = False
    ) -> TaskSource:
        """The tasks of one split; its images move to the device here."""
        check_choice("split", split, self.splits)
        for name, value in {"shots": shots, "queries": queries}.items():
            check_count(name, value)
        check_count("ways", ways, least=2)
        classes = self.splits[split]
        if ways > len(classes):
            raise InputError(
                f"`ways` was {ways}; the {split} split of {self.name} has {len(classes)} classes."
            )
        fewest = int(self.counts[classes].min())
        if shots + queries > fewest:
            raise InputError(
                f"`shots` + `queries` was {shots} + {queries}; "
                f"a class of {self.name} has {fewest} images."
            )
        shape = {"ways": ways, "shots": shots, "queries": queries}

        def sample(store: Any, key: jax.Array) -> Episode:
            images, counts = store
            return sample_episode(
                images, counts, key, **shape, rotate=self.rotate, by_class=by_class
            )

        store = jnp.asarray(self.images[classes]), jnp.asarray(self.counts[classes])
        return TaskSource(store, sample)

    def facts(self) -> dict[str, Any]:
        digest = hashlib.sha256(self.images.tobytes())
        for split, classes in self.splits.items():
            digest.update(f"{split}:{','.join(map(str, classes))};".encode())
        return {
            "classes": {split: len(classes) for split, classes in self.splits.items()},
            "images": int(self.counts.sum()),
            "image_shape": list(self.input_shape),
            "rotate": self.rotate,
            "sha256": digest.hexdigest(),
        }
