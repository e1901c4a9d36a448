"""The commands `data show` and `data prepare`."""

import os
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from maml_jax.cli.groups import data_dir
from maml_jax.cli.messages import say
from maml_jax.errors import InputError


@dataclass(frozen=True)
class Show:
    """Draw some classes and some episodes of a data set, and say what it holds."""

    name: Positional[str]
    """The data set, by all that --data of train takes."""
    out: Path | None = None
    """The new file of the drawing; NAME.png where not given."""
    data_dir: Path | None = None
    """The folder of the data's files; the environment variable MAML_JAX_DATA where not given."""
    class_split: str | None = None
    """As for train."""
    image_size: int | None = None
    """Resize images to that many pixels a side."""
    channels: int | None = None
    """1 makes images grey, 3 gives them colours."""
    image_fit: str = "squash"
    """As for train."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read, instead of refusing the set."""
    min_images: int | None = None
    """Leave out classes with fewer images."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 1
    """Support images per class."""
    queries: int = 5
    """Query images per class, or as many as the smallest class has."""
    seed: int = 0
    """Decides which classes and episodes are shown."""

    def __call__(self) -> int:
        from maml_jax.data import describe, load, preview
        from maml_jax.data.sources import queries_in

        out = self.out or Path(f"{Path(self.name).stem}.png")
        if os.path.lexists(out):
            raise InputError(f"`out` was {out}, which exists; name another.")
        if not out.absolute().parent.is_dir() or out.suffix not in (".png", ".pdf", ".svg"):
            raise InputError(
                f"`out` was {out}; a .png, .pdf or .svg in a folder that exists may be."
            )
        data = load(
            self.name,
            data_dir(self.data_dir),
            image_size=self.image_size,
            channels=self.channels,
            class_split=self.class_split,
            image_fit=self.image_fit,
            skip_unreadable=self.skip_unreadable,
            min_images=self.min_images,
            ways=self.ways,
            shots=self.shots,
        )
        queries = queries_in(data, "all", self.shots, self.queries)
        preview.draw(data, out, ways=self.ways, shots=self.shots, queries=queries, seed=self.seed)
        print(describe.summary(data))
        say(f"wrote {out}")
        return 0


@dataclass(frozen=True)
class Prepare:
    """Download a data set by TensorFlow Datasets and store it so that training can read it."""

    name: Positional[str]
    """The data set, as TensorFlow Datasets names it: mnist, fashion_mnist, cifar100, ..."""
    data_dir: Path | None = None
    """The folder to put it in; where TFDS puts it where not given."""
    manual_dir: Path | None = None
    """A folder with the original files, which then are not downloaded."""

    def __call__(self) -> int:
        from maml_jax.data.prepared import prepare

        folder = prepare(self.name, self.data_dir, self.manual_dir)
        where = "" if self.data_dir is None else f" --data-dir {self.data_dir}"
        say(f"{self.name} lies in {folder}; now: maml-jax data show {self.name}{where}")
        return 0
