"""Data sets of TensorFlow Datasets (TFDS): preparing them, and reading them without TensorFlow."""

import importlib
import os
from collections import defaultdict
from pathlib import Path

from maml_jax.data import pictures
from maml_jax.data.listing import Listing
from maml_jax.errors import InputError
from maml_jax.extras import require

_BLOCK = 1000  # labels read at once, which is ten times as fast as one by one


def folders(data_dir: Path | None) -> list[Path]:
    """The folders that may hold prepared data: `data_dir`, or else where TFDS puts it."""
    usual = os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    return [Path(usual)] if data_dir is None else [data_dir, data_dir / "tensorflow_datasets"]


def find_prepared(name: str, data_dir: Path | None) -> Path | None:
    """The folder of the newest prepared version of a data set; None if none was prepared."""
    for folder in folders(data_dir):
        versions = [path.parent for path in (folder / name).glob("**/dataset_info.json")]
        if versions:
            return max(versions, key=lambda path: [p.zfill(9) for p in path.name.split(".")])
    return None


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
    names = list(features[label].names)
    classes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, source in enumerate(sources):
        for start in range(0, len(source), _BLOCK):
            block = range(start, min(start + _BLOCK, len(source)))
            for i, example in zip(block, source.__getitems__(list(block)), strict=True):
                classes[names[int(example[label])]].append((number, i))
    sizes = {part: builder.info.splits[part].num_examples for part in parts}
    return Listing(
        name,
        {label_name: classes[label_name] for label_name in names if label_name in classes},
        lambda at: pictures.decode(f"{name} {at}", sources[at[0]][at[1]]["image"]),
        [str(folder.absolute()), builder.info.full_name, sizes],
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
