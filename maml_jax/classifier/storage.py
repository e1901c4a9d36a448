"""A fitted classifier in a folder: a packed run, and beside it what `fit` made."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.classifier import network as networks
from maml_jax.classifier.inputs import Scale
from maml_jax.errors import InputError
from maml_jax.training import runs
from maml_jax.training.weights import load_meta
from maml_jax.training.weights import save as save_arrays
from maml_jax.types import Batch

RECORD = "classifier.json"
ARRAYS = "fitted.safetensors"


def save(classifier: Any, path: Path) -> None:
    """Write a fitted classifier to the new folder `path`.

    Raises:
      InputError: its model is no run, or the folder exists.
    """
    source = classifier._network(classifier._fitted_model).source
    if source is None:
        raise InputError(
            "`model` was a learner, whose code cannot be saved; a run or pretrained weights can."
        )
    if os.path.lexists(path):
        raise InputError(f"`path` was {path}, which exists; name another.")
    options = {k: _plain(v) for k, v in classifier.get_params().items() if k != "model"}
    fitted = {
        "classes": classifier.classes_.tolist(),
        "dtype": classifier.classes_.dtype.str,
        "n_features_in": classifier.n_features_in_,
        "scale": classifier.scale_,
        "invert": bool(classifier.invert_),
        "temperature": float(classifier.temperature_),
        "pictures": len(classifier._support_x),
    }
    with runs.new_folder(path, "path") as fresh:
        runs.pack(source, fresh)
        save_arrays(fresh / ARRAYS, _arrays(classifier._fast, classifier._support_x))
        record = json.dumps({"options": options, "fitted": fitted}, indent=2)
        (fresh / RECORD).write_text(record + "\n", encoding="utf-8")


def _plain(option: Any) -> Any:
    """NumPy's numbers as Python's, which JSON has."""
    return option.item() if isinstance(option, np.generic) else option


def load(kind: Any, path: Path) -> Any:
    """The classifier in a folder, fitted.

    Raises:
      InputError: a file is damaged.
    """
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        classifier, fitted = kind(str(path), **record["options"]), record["fitted"]
        classifier._fitted_model = path.absolute()
        classes = np.array(fitted["classes"], np.dtype(fitted["dtype"]))
        classifier.n_features_in_ = int(fitted["n_features_in"])
        classifier.scale_ = fitted["scale"] and Scale(*fitted["scale"])
        classifier.invert_ = bool(fitted["invert"])
        classifier.temperature_ = float(fitted["temperature"])
        pictures = int(fitted["pictures"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"`path` was {path}; its {RECORD} is damaged: {error}.") from error
    network = networks.load(path)
    support = Batch(
        jnp.zeros((pictures, *network.input_shape), jnp.float32), jnp.zeros(pictures, jnp.int32)
    )
    adapted = networks.adapt(network, support, len(classes), classifier.steps)
    arrays = load_meta(path / ARRAYS, _arrays(adapted.fast, support.x))
    classifier.classes_ = classes
    classifier._fast, classifier._support_x = arrays["fast"], arrays["support_x"]
    return classifier


def _arrays(fast: Any, support_x: jax.Array) -> dict[str, Any]:
    return {"fast": fast, "support_x": support_x}
