"""Few-shot data sets made of CIFAR-100 (Krizhevsky 2009), which TFDS prepares."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maml_jax.data.labelled import LabelledSet
from maml_jax.data.prepared import find_prepared, list_prepared, superclasses
from maml_jax.data.reading import labelled_set
from maml_jax.data.request import Request
from maml_jax.data.splits import PARTS
from maml_jax.errors import InputError


def few_shot_cifar(
    request: Request, members: Callable[[Any, dict[str, str]], list[str]]
) -> LabelledSet:
    """The images of CIFAR-100, 32×32 in colour, its 100 classes split by lists.

    Args:
      request: what the user asked for; `data_dir` holds the lists `cifar/NAME/train.json`,
        `val.json` and `test.json`, in itself or in its folder `splits`.
      members: `members(entry, superclass_of) -> classes`: the classes that an entry of a list
        stands for, none if it stands for nothing; `superclass_of` maps classes to superclasses.

    Raises:
      InputError: CIFAR-100 was not prepared, or a list is missing or names other classes.
    """
    folder = find_prepared("cifar100", request.data_dir)
    if folder is None:
        raise InputError(
            f"`data` was {request.name!r}, which needs CIFAR-100: maml-jax data prepare cifar100."
        )
    superclass_of = superclasses(folder)
    splits: dict[str, list[str]] = {part: [] for part in PARTS}
    for part in PARTS:
        for entry in _read_list(request.folder(), request.name, part):
            classes = members(entry, superclass_of)
            if not classes:
                raise InputError(f"`data_dir` had a {part}.json with {entry!r}, not in CIFAR-100.")
            splits[part] += classes
    listing = list_prepared("cifar100", folder)
    return labelled_set(listing._replace(name=request.name, splits=splits), request, channels=3)


def _read_list(data_dir: Path, name: str, part: str) -> Any:
    for folder in (data_dir, data_dir / "splits"):
        path = folder / "cifar" / name / f"{part}.json"
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"`data_dir` had {path}, which is not JSON: {error}.") from error
    raise InputError(f"`data_dir` was {data_dir}; {name} needs cifar/{name}/{part}.json there.")
