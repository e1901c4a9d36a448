"""Data sets of TensorFlow Datasets (TFDS): preparing them, and reading them without TensorFlow."""

import importlib
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from maml_jax.data import pictures
from maml_jax.data.listing import Listing
from maml_jax.errors import InputError
from maml_jax.extras import require

_BLOCK = 1000  # labels read at once, which is ten times as fast as one by one
_PART = re.compile(r"\w[\w.+-]*")
"""A part of the name of a data set, which leads out of no folder."""


def folders(data_dir: Path | None) -> list[Path]:
    """The folders that may hold prepared data: `data_dir`, or else where TFDS puts it."""
    usual = os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    return [Path(usual)] if data_dir is None else [data_dir, data_dir / "tensorflow_datasets"]


def find_prepared(name: str, data_dir: Path | None) -> Path | None:
    """The folder of the newest prepared version of a data set; None if none was prepared.

    Args:
      name: as TFDS writes it: `mnist`, `NAME/CONFIG`, `NAME:VERSION` or `NAME/CONFIG:VERSION`.
      data_dir: the folder of the data; None: where TFDS puts it.

    Raises:
      InputError: several configs were prepared, and `name` does not say which.
    """
    asked, _, version = name.partition(":")
    if not all(_PART.fullmatch(part) for part in asked.split("/")):
        return None
    for folder in folders(data_dir):
        found = [
            path.parent
            for path in (folder / asked).glob("**/dataset_info.json")
            if not version or path.parent.name == version
        ]
        configs = sorted({path.parent.relative_to(folder).as_posix() for path in found})
        if len(configs) > 1:
            raise InputError(
                f"`data` was {name!r}, of which several configs were prepared; say which: "
                f"{', '.join(configs)}."
            )
        if found:
            return max(found, key=lambda path: [p.zfill(9) for p in path.name.split(".")])
    return None


def is_prepared(path: Path) -> bool:
    """Whether a folder is one that TFDS has made: the data set's, or that of one version of it."""
    places = ("*/dataset_info.json", "*/*/dataset_info.json")
    return path.is_dir() and any(True for place in places for _ in path.glob(place))


def list_prepared(name: str, folder: Path, label: str = "label") -> Listing:
    """The images of all its splits together, by their feature `label`.

    Raises:
      InputError: the format is not `array_record`, or examples have no image or label.
    """
    tfds = require("tensorflow_datasets", "data")
    require("array_record", "data")
    try:
        builder = tfds.builder_from_directory(str(folder))
        parts = sorted(builder.info.splits)
        # Images stay as they were stored until one is wanted.
        skip = {"image": tfds.decode.SkipDecoding()}
        sources = [builder.as_data_source(split=part, decoders=skip) for part in parts]
    except (NotImplementedError, ValueError, OSError) as error:
        line = str(error).strip().partition("\n")[0]
        raise InputError(
            f"`data` was {name}, which {folder.name} does not hold as array_record: {line}; "
            f"`maml-jax data prepare {name}` prepares it so."
        ) from error
    features = builder.info.features
    if not {"image", label} <= set(features):
        raise InputError(
            f"`data` was {name}, whose examples have {', '.join(features)}; image and {label} "
            "are needed."
        )
    names = _class_names(name, features[label])
    classes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for number, source in enumerate(sources):
        for start in range(0, len(source), _BLOCK):
            block = range(start, min(start + _BLOCK, len(source)))
            for i, example in zip(block, source.__getitems__(list(block)), strict=True):
                which = int(example[label])
                if which < 0:  # how TFDS marks labels that are kept secret
                    left_out["without a label"] += 1
                elif names is None:
                    classes[str(which)].append((number, i))
                else:
                    classes[names[which]].append((number, i))
    order = sorted(classes, key=int) if names is None else [n for n in names if n in classes]
    sizes = {part: builder.info.splits[part].num_examples for part in parts}
    return Listing(
        name,
        {label_name: classes[label_name] for label_name in order},
        lambda at: pictures.decode(f"{name} {at}", sources[at[0]][at[1]]["image"]),
        [str(folder.absolute()), builder.info.full_name, sizes],
        left_out=left_out,
    )


def _class_names(name: str, feature: Any) -> list[str] | None:
    """The names of the classes; None where labels are whole numbers without names.

    Raises:
      InputError: labels are something else.
    """
    if hasattr(feature, "names"):
        return list(feature.names)
    dtype = getattr(feature, "np_dtype", None)
    if getattr(feature, "shape", None) == () and dtype is not None and np.dtype(dtype).kind in "iu":
        return None
    raise InputError(
        f"`data` was {name}, whose labels are {type(feature).__name__}; they must be whole numbers."
    )


def superclasses(folder: Path) -> dict[str, str]:
    """The superclass of every class of CIFAR-100."""
    tfds = require("tensorflow_datasets", "data")
    builder = tfds.builder_from_directory(str(folder))
    fine, coarse = (builder.info.features[f] for f in ("label", "coarse_label"))
    skip = {"image": tfds.decode.SkipDecoding()}
    source = builder.as_data_source(split="test", decoders=skip)
    examples = (source[i] for i in range(len(source)))
    return {fine.names[e["label"]]: coarse.names[e["coarse_label"]] for e in examples}


def prepare(name: str, data_dir: Path | None = None, manual_dir: Path | None = None) -> Path:
    """Download a data set of TFDS, or take its files from `manual_dir`, and store it.

    Args:
      name: the name in TFDS.
      data_dir: the folder to store it in; None: where TFDS puts it.
      manual_dir: a folder with the original files, which then are not downloaded.

    Returns:
      The folder of the prepared data set.

    Raises:
      InputError: TensorFlow is not installed, TFDS has no such data set, or the files could not
        be downloaded or read.
    """
    tfds = require("tensorflow_datasets", "prepare")
    require("tensorflow", "prepare")
    if manual_dir is not None and not manual_dir.is_dir():
        raise InputError(f"`manual_dir` was {manual_dir}; it must be a folder.")
    missing = importlib.import_module("tensorflow_datasets.core.registered").DatasetNotFoundError
    try:
        builder = tfds.builder(name, data_dir=folders(data_dir)[0], file_format="array_record")
    except missing as error:
        raise InputError(f"`name` was {name!r}, which TFDS does not have.") from error
    options = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(
            download_config=options, file_format=tfds.core.FileFormat.ARRAY_RECORD
        )
    except (OSError, AssertionError, tfds.download.DownloadError) as error:
        line = str(error).strip().partition("\n")[0]
        raise InputError(
            f"`name` was {name}, which could not be prepared: {line}. Without a network, "
            "--manual-dir names a folder with its original files."
        ) from error
    return Path(builder.data_dir)
