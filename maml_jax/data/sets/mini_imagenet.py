"""mini-ImageNet (Vinyals et al. 2016) by the split of Ravi & Larochelle 2017."""

from pathlib import Path, PurePosixPath

from maml_jax.data.archive import Files
from maml_jax.data.folders import decode_list, list_by_csv
from maml_jax.data.labelled import LabelledSet
from maml_jax.data.listing import Listing
from maml_jax.data.reading import labelled_set
from maml_jax.data.request import Request
from maml_jax.data.splits import PARTS
from maml_jax.errors import InputError

SIDE = 84
LISTS = "miniimagenet_ravi"
_NAMES = ("mini-imagenet", "miniimagenet", "mini-imagenet.zip", "miniimagenet.zip")


def load(request: Request) -> LabelledSet:
    """100 classes of 600 images in colour, 84×84; 64 to train, 16 to validate, 20 to test."""
    return labelled_set(list_images(request.folder()), request, image_size=SIDE, channels=3)


def list_images(data_dir: Path) -> Listing:
    """The images and their classes.

    Args:
      data_dir: the folder that holds `mini-imagenet`, `miniimagenet` or `mini-imagenet.zip` with
        the images, and there, or in `miniimagenet_ravi` or `splits/miniimagenet_ravi`, the lists
        `train.csv`, `val.csv` and `test.csv`.

    Raises:
      InputError: a file is missing, or the lists name images that are not there.
    """
    found = [data_dir / name for name in _NAMES if (data_dir / name).exists()]
    if not found:
        raise InputError(f"`data_dir` was {data_dir}; it must hold {_NAMES[0]}/ or {_NAMES[2]}.")
    files = Files(found[0], (".csv",))
    lists = {part: _read_list(data_dir, files, f"{part}.csv") for part in PARTS}
    return list_by_csv("mini-imagenet", files, lists)


def _read_list(data_dir: Path, files: Files, name: str) -> str:
    """The list of that name: beside the images, or in a folder of lists."""
    beside = [file for file in files.names if PurePosixPath(file).name == name]
    if beside:
        return decode_list(files, beside[-1])
    paths = [folder / LISTS / name for folder in (data_dir, data_dir / "splits")]
    for path in paths:
        if path.is_file():
            return path.read_text(encoding="utf-8-sig")
    raise InputError(
        f"`data_dir` was {data_dir}; it must hold {paths[0]}, or {name} beside the images."
    )
