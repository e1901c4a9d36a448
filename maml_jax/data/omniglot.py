"""Omniglot (Lake et al. 2015): 1623 handwritten characters, each drawn by 20 people."""

import io
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from maml_jax.data.archive import image_files
from maml_jax.data.images import ImageSet
from maml_jax.errors import InputError
from maml_jax.extras import require

PARTS = ("images_background", "images_evaluation")
CHARACTERS, DRAWINGS = 1623, 20
SPLITS = {"train": 1100, "val": 100, "test": 423}
SIZE = 28


def load_omniglot(data_dir: Path, split_seed: int = 1) -> ImageSet:
    """Omniglot as in Finn et al. 2017: 28×28, strokes bright on dark, split at random by character.

    All 1623 characters are shuffled together and dealt 1100/100/423 to train, val and test;
    episodes turn each class by a random multiple of 90°.

    Args:
      data_dir: the folder that holds `images_background` and `images_evaluation`, as `.zip` or
        unpacked, in itself or in its folder `omniglot`.
      split_seed: which shuffle; a run records it.

    Raises:
      InputError: a part is missing, or is not the whole of Omniglot.
    """
    files = dict(file for part in PARTS for file in image_files(_find(data_dir, part)))
    by_character = defaultdict(list)
    for name in sorted(files):
        by_character["/".join(PurePosixPath(name).parts[-3:-1])].append(name)
    sizes = {len(names) for names in by_character.values()}
    if len(by_character) != CHARACTERS or sizes != {DRAWINGS}:
        raise InputError(
            f"`data_dir` was {data_dir}, which holds {len(by_character)} characters with "
            f"{min(sizes, default=0)} to {max(sizes, default=0)} drawings; "
            f"Omniglot has {CHARACTERS} with {DRAWINGS}."
        )
    characters = sorted(by_character)
    with ThreadPoolExecutor() as threads:
        order = [name for character in characters for name in by_character[character]]
        images = np.stack(list(threads.map(lambda name: _decode(name, files[name]), order)))
    # The legacy generator, for its streams are frozen: the same seed is the same split for ever.
    shuffled = np.random.RandomState(split_seed).permutation(CHARACTERS)
    edges = np.cumsum([0, *SPLITS.values()])
    return ImageSet(
        name="omniglot",
        images=images.reshape(CHARACTERS, DRAWINGS, SIZE, SIZE, 1),
        class_names=tuple(characters),
        splits={
            split: np.sort(shuffled[start:stop])
            for split, start, stop in zip(SPLITS, edges, edges[1:], strict=False)
        },
        rotate=True,
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


def _decode(name: str, content: bytes) -> np.ndarray:
    """`[SIZE, SIZE]` uint8, the ink at 255."""
    image_module = require("PIL.Image", "cli")
    try:
        with image_module.open(io.BytesIO(content)) as image:
            small = image.convert("L").resize((SIZE, SIZE), image_module.Resampling.LANCZOS)
    except (OSError, image_module.DecompressionBombError) as error:
        raise InputError(f"`data_dir` held {name}, which is not a readable image.") from error
    return 255 - np.asarray(small)
