"""Few-shot splits of CIFAR-100: CIFAR-FS (Bertinetto et al. 2019), FC100 (Oreshkin et al. 2018)."""

import json
from pathlib import Path
from typing import Any

from maml_jax.data.listing import Listing
from maml_jax.data.splits import PARTS
from maml_jax.errors import InputError


def list_cifar(which: str, cifar100: Listing, coarse: dict[str, str], data_dir: Path) -> Listing:
    """The 100 classes of CIFAR-100, 64/16/20 of them at random or by their 12/4/4 superclasses.

    Args:
      which: `cifar-fs` or `fc100`.
      cifar100: the images by their fine label.
      coarse: the superclass of every class.
      data_dir: the folder with the lists, `cifar/<which>/train.json` and so on, in itself or in
        its folder `splits`. Those of CIFAR-FS hold pairs of superclass and class, of FC100
        superclasses.

    Raises:
      InputError: a list is missing, or names what there is not.
    """
    splits = {}
    for part in PARTS:
        names = _read_list(data_dir, which, part)
        if which == "fc100":
            unknown = set(names) - set(coarse.values())
            splits[part] = [fine for fine in cifar100.classes if coarse[fine] in names]
        else:
            splits[part] = [fine for _, fine in names]
            unknown = set(splits[part]) - set(cifar100.classes)
        if unknown:
            raise InputError(f"`data_dir` had a {part}.json with {min(unknown)!r}, not in CIFAR.")
    return cifar100._replace(name=which, splits=splits)


def _read_list(data_dir: Path, which: str, part: str) -> Any:
    for folder in (data_dir, data_dir / "splits"):
        path = folder / "cifar" / which / f"{part}.json"
        if path.is_file():
            try:
                return json.loads(path.read_text())
            except ValueError as error:
                raise InputError(
                    f"`data_dir` had a {path.name} that is no JSON: {error}."
                ) from error
    raise InputError(f"`data_dir` was {data_dir}; {which} needs cifar/{which}/{part}.json there.")
