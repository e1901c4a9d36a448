"""Whether an imported network is the file's: its outputs beside those that were expected."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from maml_jax.errors import InputError
from maml_jax.exchange.assumptions import alternatives, as_text
from maml_jax.training.build import build_network
from maml_jax.training.config import Config
from maml_jax.training.provenance import ExampleSpec
from maml_jax.types import Params

TOLERANCE = 1e-4
"""The largest difference of outputs, for outputs of size 1 or less; 67 public checkpoints agreed
with PyTorch to 2e-5."""
_INPUTS, _OUTPUTS = ("inputs", "x", "images"), ("logits", "outputs")


class Expected(NamedTuple):
    """What a network must make of some inputs."""

    inputs: np.ndarray
    """A batch in the layout of the data: images with channels last."""
    outputs: np.ndarray
    """`[examples, outputs]`."""
    as_given: bool
    """Whether the inputs are what the network itself is given, after any scaling of its own."""


def read_expected(file: Path, input_shape: tuple[int, ...]) -> Expected:
    """The inputs and outputs in an .npz file.

    Integers are pixels from 0 to 255, and scaled as the run scales them; floats are what the
    network itself is given. Images may have their channels first, as in PyTorch, or last.

    Raises:
      InputError: it cannot be read, or holds something else.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"`check` was {file}, which cannot be read as an .npz: {error}."
        ) from error
    inputs = next((held[name] for name in _INPUTS if name in held), None)
    outputs = next((held[name] for name in _OUTPUTS if name in held), None)
    if inputs is None or outputs is None:
        raise InputError(
            f"`check` was {file}, which holds {', '.join(held) or 'nothing'}; it needs `inputs` "
            "and `logits`."
        )
    if outputs.ndim != 2 or len(outputs) != len(inputs) or not np.isfinite(outputs).all():
        raise InputError(
            f"`check` was {file}, with inputs {list(inputs.shape)} and logits "
            f"{list(outputs.shape)}; logits must be finite, a row for each input."
        )
    as_given = not np.issubdtype(inputs.dtype, np.integer)
    inputs = _channels_last(file, inputs, input_shape)
    return Expected(inputs if as_given else inputs / np.float32(255), outputs, as_given)


def _channels_last(file: Path, inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    inputs = inputs.astype(np.float32)
    if len(shape) == 3:
        if inputs.shape[1:] == (shape[2], *shape[:2]):
            return inputs.transpose(0, 2, 3, 1)
        if shape[2] == 1 and inputs.shape[1:] == shape[:2]:
            return inputs[..., None]
    if inputs.shape[1:] != shape:
        raise InputError(
            f"`check` was {file}, whose inputs are {list(inputs.shape)}; an example has the shape "
            f"{list(shape)}."
        )
    return inputs


def check(
    file: Path,
    expected: Expected,
    config: Config,
    params: Params,
    examples: ExampleSpec,
    undecided: tuple[str, ...],
) -> str:
    """Compare the network's outputs; what was found, in one line.

    Raises:
      InputError: they differ; it names the options with which they would not, if any do.
    """
    if expected.outputs.shape[1] != examples.outputs:
        raise InputError(
            f"`check` was {file}, with {expected.outputs.shape[1]} logits an input; the network "
            f"has {examples.outputs}."
        )
    found = _difference(expected, config, params, examples)
    size = float(np.abs(expected.outputs).max(initial=0))
    allowed = TOLERANCE * max(1.0, size)
    if found <= allowed:
        return f"the logits agree with {file}: they differ by {found:.1e} at most, of {size:.3g}"
    if expected.as_given:
        undecided = tuple(name for name in undecided if name != "input_range")
    for other, changes in alternatives(config, undecided):
        if _difference(expected, other, params, examples) <= allowed:
            remedy = f"with {as_text(changes)} they agree"
            break
    else:
        remedy = (
            "no choice of the options that the file leaves open makes them agree: the network is "
            "another one, or they were not computed by the statistics of this batch (net.train())"
        )
    raise InputError(
        f"`check` was {file}, whose logits differ from the network's by up to {found:.3g}, of "
        f"{size:.3g}; {remedy}."
    )


def _difference(expected: Expected, config: Config, params: Params, examples: ExampleSpec) -> float:
    """The largest difference of an output; infinite where the config's model has other weights."""
    if expected.as_given:
        config = replace(config, input_range=Config.input_range)
    like, apply = build_network(config, examples.input_shape, examples.outputs)
    if _shapes(like) != _shapes(params):
        return np.inf
    with jax.default_matmul_precision("float32"):
        outputs = np.asarray(apply(params, expected.inputs))
    worst = float(np.abs(outputs - expected.outputs).max(initial=0))
    return worst if np.isfinite(worst) else np.inf


def _shapes(params: Params) -> Any:
    return jax.tree.map(np.shape, params)
