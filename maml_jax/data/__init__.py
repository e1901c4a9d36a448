"""Data sets by name."""

from pathlib import Path

from maml_jax.data.glyphs import load_glyphs
from maml_jax.data.images import ImageSet
from maml_jax.data.mnist import load_mnist
from maml_jax.data.omniglot import load_omniglot
from maml_jax.data.sequences import Sequences
from maml_jax.data.sinusoid import Sinusoid
from maml_jax.data.tasks import DataSet, TaskSource
from maml_jax.errors import InputError, check_choice

__all__ = ["DATA_SETS", "DataSet", "ImageSet", "Sequences", "Sinusoid", "TaskSource", "load"]

DATA_SETS = ("glyphs", "mnist", "omniglot", "sequences", "sinusoid")


def load(name: str, data_dir: Path | None = None, split_seed: int = 1) -> DataSet:
    """The data set of that name.

    Args:
      name: one of `DATA_SETS`.
      data_dir: where files are; `mnist` and `omniglot` need it.
      split_seed: which random split, where the set is split at random.

    Raises:
      InputError: an unknown name, a missing folder, or files that are not the data set.
    """
    check_choice("data", name, DATA_SETS)
    if name == "glyphs":
        return load_glyphs()
    if name in ("sequences", "sinusoid"):
        return Sequences() if name == "sequences" else Sinusoid()
    if data_dir is None:
        raise InputError(
            f"`data_dir` was not given; {name} needs the folder of its files "
            "(or the environment variable MAML_JAX_DATA)."
        )
    if not data_dir.is_dir():
        raise InputError(f"`data_dir` was {data_dir}; it must be a folder.")
    return load_mnist(data_dir) if name == "mnist" else load_omniglot(data_dir, split_seed)
