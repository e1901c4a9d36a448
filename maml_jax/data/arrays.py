"""Examples as arrays: in memory, or in an .npz file."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from maml_jax.data import pictures, splits
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.splitting import split_classes
from maml_jax.errors import InputError, check_choice, check_count, check_seed

_KINDS = {1: "vectors", 2: "sequences", 3: "images"}


def from_arrays(
    x: ArrayLike,
    y: ArrayLike,
    *,
    name: str = "arrays",
    split: Mapping[str, Sequence[str | int]] | None = None,
    split_seed: int = 1,
    image_size: int | None = None,
    ways: int | None = None,
    shots: int = 1,
) -> LabelledSet:
    """A data set of labelled arrays in memory.

    What an example is follows from the type and shape of `x`:

    | `x` | examples | in episodes |
    |---|---|---|
    | uint8 `[n, height, width]` or `[n, height, width, channels]` | images | float32 in [0, 1] |
    | floats `[n, height, width, channels]` | images | float32, not scaled |
    | floats or integers `[n, times, values]` | sequences | float32 or int32, not scaled |
    | floats or integers `[n, features]` | vectors | float32 or int32, not scaled |

    Args:
      x: the examples.
      y: their labels, `[n]`, integers, whole numbers or text.
      name: what the data set is called.
      split: the labels of the classes in `train`, `val` and `test`; a class may be in none. None:
        classes are split at random, 64, 16 and 20 %.
      split_seed: seeds the random split.
      image_size: pixels a side that uint8 images are resized to; None: their own size.
      ways: where classes are split at random, each split gets at least that many; where there are
        too few classes for that, the examples of each class are split instead. None: 64, 16, 20 %.
      shots: then each class gets more examples than that in a split, where it has them.

    Raises:
      InputError: `x`, `y` or `split` have another form, or do not go together.
    """
    x, y = _examples(np.asarray(x)), _labels(np.asarray(y), "`y` held labels that")
    if y.shape != x.shape[:1]:
        raise InputError(f"`y` had the shape {y.shape}; `x` holds {len(x)} examples: ({len(x)},).")
    check_seed("split_seed", split_seed)
    if image_size is not None:
        x = _resized(x, check_count("image_size", image_size))
    kind = _KINDS[x.ndim - 1]
    if kind == "images" and x.shape[1] != x.shape[2]:
        raise InputError(
            f"`x` held images of {x.shape[1]}×{x.shape[2]}; they must be square: cut them, or give "
            "`image_size`."
        )
    named = None
    if split is not None:
        for part in split:
            check_choice("split", part, splits.PARTS)
        named = {part: [str(label) for label in labels] for part, labels in split.items()}
    if ways is not None:
        check_count("ways", ways, least=2)
    check_count("shots", shots)
    by_label: dict[str, Any] = dict(_by_label(y))
    classes, indices, ranges = split_classes(name, by_label, named, split_seed, ways, shots)
    return LabelledSet(
        name=name,
        examples=x[np.concatenate([np.asarray(of_class) for of_class in classes.values()])],
        counts=np.array([len(of_class) for of_class in classes.values()], np.int32),
        class_names=tuple(classes),
        splits=indices,
        kind=kind,
        ranges=ranges,
    )


def _examples(x: np.ndarray) -> np.ndarray:
    """`x` in the type that episodes are made of."""
    if x.dtype == np.uint8:
        if x.ndim == 3:
            x = x[..., None]
        if x.ndim == 4 and x.size:
            return x
    elif x.ndim in (2, 3, 4) and x.size and x.dtype.kind in "fiu":
        if x.dtype.kind == "f":
            return x.astype(np.float32)
        if np.iinfo(np.int32).min <= x.min() and x.max() <= np.iinfo(np.int32).max:
            return x.astype(np.int32)
        raise InputError(f"`x` held integers up to {x.max()}; they must fit 32 bits.")
    raise InputError(
        f"`x` was {x.dtype}{list(x.shape)}; it may be uint8 images [n, height, width] or with the "
        "channels last, or numbers of another type: vectors [n, features], sequences "
        "[n, times, values], images [n, height, width, channels]."
    )


def _resized(x: np.ndarray, size: int) -> np.ndarray:
    if x.dtype != np.uint8 or x.shape[-1] not in (1, 3):
        raise InputError(
            f"`image_size` was {size}; only uint8 images of 1 or 3 channels are resized, and `x` "
            f"was {x.dtype}{list(x.shape)}."
        )
    resized = (pictures.fit(pictures.from_array(image), size, x.shape[-1]) for image in x)
    return np.stack(list(resized))


def _labels(labels: np.ndarray, subject: str) -> np.ndarray:
    if labels.dtype == object and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as CIFAR's are in Keras
        labels = labels[:, 0]
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == labels.round()).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iuU":
        raise InputError(
            f"{subject} are {labels.dtype}; they must be integers or text (or whole numbers)."
        )
    return labels


def _by_label(labels: np.ndarray) -> dict[str, np.ndarray]:
    """The indices of every class, in the order of the labels."""
    names, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    indices = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts))[:-1]
    return {str(name): of_class for name, of_class in zip(names, indices, strict=True)}


def list_npz(path: Path) -> Listing:
    """The images in an .npz file: `images` and `labels`, or these for each split.

    `images` are uint8, `[n, height, width]` or with 1 or 3 channels last, and `labels` are `[n]`,
    integers, whole numbers or text. With `images_train`, `labels_train` and the same for `val` and
    `test`, these are the splits of the classes, unless every class is in all of them: then they are
    put together, for few-shot learning splits classes. `x` and `y` are understood too.

    Raises:
      InputError: the file cannot be read, or holds other arrays.
    """
    try:
        # Opened here, for NumPy leaves a file open that it finds to be no .npz.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"`data` was {path}, which cannot be read: {error}.") from error
    classes: dict[str, list[tuple[str, int]]] = {}
    parts = [part for part in splits.PARTS if _array(arrays, "images", f"_{part}") is not None]
    named: dict[str, list[str]] = {part: [] for part in splits.PARTS}
    images: dict[str, np.ndarray] = {}
    for part in parts or [""]:  # all of them, or none
        ending = f"_{part}" if part else ""
        images[part], labels = _images_and_labels(path, arrays, ending)
        for label, indices in _by_label(labels).items():
            if part:
                named[part].append(label)
            classes.setdefault(label, []).extend((part, int(i)) for i in indices)
    if len({frozenset(named[part]) for part in parts}) == 1:
        parts = []
    status = path.stat()
    return Listing(
        path.stem,
        classes,
        lambda at: pictures.from_array(images[at[0]][at[1]]),
        [str(path.absolute()), status.st_size, status.st_mtime_ns],
        named if parts else None,
    )


def _images_and_labels(
    path: Path, arrays: dict[str, np.ndarray], ending: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (_array(arrays, kind, ending) for kind in ("images", "labels"))
    if images is None or labels is None:
        names = ", ".join(arrays) or "nothing"
        raise InputError(f"`data` was {path}, which holds {names}; it needs images and labels.")
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))
    if labels.shape == (*images.shape[:1], 1):
        labels = labels[:, 0]
    if images.dtype != np.uint8 or not shaped or labels.shape != images.shape[:1]:
        raise InputError(
            f"`data` was {path}, whose images are {images.dtype}{list(images.shape)} and "
            f"labels {list(labels.shape)}; images may be uint8 [n, height, width] or with 1 or 3 "
            "channels last, and labels [n]."
        )
    return images, _labels(labels, f"`data` was {path}, whose labels")


def _array(arrays: dict[str, np.ndarray], kind: str, ending: str) -> np.ndarray | None:
    other = {"images": "x", "labels": "y"}[kind]
    return next((arrays[name + ending] for name in (kind, other) if name + ending in arrays), None)
