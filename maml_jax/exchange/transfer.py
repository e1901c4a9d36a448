"""From a run folder to a file of weights that PyTorch reads, and back."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax.core.trees import by_path, path_name
from maml_jax.errors import InputError
from maml_jax.exchange import storage
from maml_jax.exchange.layouts import Arrays, flatten
from maml_jax.exchange.matching import match
from maml_jax.exchange.networks import flattened_layers, to_flax, to_torch, torch_names
from maml_jax.training import provenance, runs
from maml_jax.training.build import Problem
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.config import Config
from maml_jax.training.schedule import outer_optimizer
from maml_jax.training.updates import initial_state
from maml_jax.version import __version__

EXTRAS = "meta."
"""The beginning of the names of meta-parameters that are not the network's weights."""

# The running averages of PyTorch's batch norm, which a norm by the current batch does not have.
_AVERAGES = ("running_mean", "running_var", "num_batches_tracked")


class Imported(NamedTuple):
    """What an import did."""

    names: dict[str, str]
    """Our name, as in an export, for each name in the file."""
    left_out: list[str]
    """Arrays of the file that the run does not use: running averages, other meta-parameters."""


def export_run(run: Path, file: Path, data_dir: Path | None = None) -> list[str]:
    """Write the meta-learned weights of a run by PyTorch's names and in its layouts.

    Args:
      run: the folder of the run.
      file: a new .safetensors or .pt file. The former also has metadata in its header, and the
        other meta-parameters (rates and the like) as they are, by names like
        `meta.rates.head/kernel`. Equal runs give equal bytes.
      data_dir: the folder of the data's files, for runs that did not record the shape of their
        examples; None: the one of training.

    Returns:
      The names in the file.

    Raises:
      InputError: a run that cannot be loaded, or a file that cannot be made.
    """
    storage.check_new(file)
    restored = runs.restore(run, data_dir=data_dir)
    config, shape = restored.config, restored.examples.input_shape
    params, extras = _split(restored.state.meta, restored.params)
    arrays = to_torch(params, flattened_layers(config, shape))
    if file.suffix == storage.SAFETENSORS:
        arrays |= {_extra(path): np.ascontiguousarray(leaf) for path, leaf in extras.items()}
    metadata = {
        "format": "pt",
        "recipe": config.recipe,
        "algorithm": config.algorithm,
        "model": config.model,
        "ways": str(config.ways),
        "in_channels": str(shape[-1]),
        "maml_jax": __version__,
    }
    storage.write(file, arrays, metadata)
    return list(arrays)


def import_run(file: Path, config: Config, run: Path, mapping: Path | None = None) -> Imported:
    """Make the folder of a run, without updates yet, whose weights are those of a file.

    Args:
      file: a .pt file of a `state_dict` or a .safetensors file.
      config: the rest of the run; its model must have the file's layers.
      run: the new folder.
      mapping: a JSON file that says which array is which, `{"their name": "our path"}`, for those
        that names and shapes do not determine: our names in an export, or paths like `head/kernel`.

    Raises:
      InputError: a bad config, a file that cannot be read or does not fit the model, or a folder
        that exists. Nothing is written.
    """
    if os.path.lexists(run):
        raise InputError(f"`out` was {run}, which exists; name another.")
    held = storage.read(file)
    given = {} if mapping is None else _read_mapping(mapping)
    with runs.new_folder(run) as fresh:
        config, problem, _ = runs.create(config, fresh)
        params, meta, done = _fit(
            held, config, problem, given, ordered=file.suffix != storage.SAFETENSORS
        )
        optimizer = outer_optimizer(config)
        state = initial_state(problem.learner, params, optimizer, config.seed)._replace(meta=meta)
        Checkpoints(fresh).save(0, state, provenance.make(config, problem.data))
    return done


def _fit(
    held: Arrays, config: Config, problem: Problem, given: dict[str, str], *, ordered: bool
) -> tuple[Any, Any, Imported]:
    """The file's arrays as the model's weights and as meta-parameters."""
    extras = {name: array for name, array in held.items() if name.startswith(EXTRAS)}
    averages = [name for name in held if name.endswith(_AVERAGES) and name not in given]
    weights = {n: array for n, array in held.items() if n not in extras and n not in averages}
    flattened = flattened_layers(config, problem.data.input_shape)
    expected = to_torch(problem.params, flattened)
    ours = torch_names(flatten(problem.params))
    names = match(
        {name: array.shape for name, array in weights.items()},
        {name: array.shape for name, array in expected.items()},
        {theirs: ours.get(path, path) for theirs, path in given.items()},
        ordered=ordered,
    )
    renamed = {
        names[name]: _as(name, array, expected[names[name]].dtype)
        for name, array in weights.items()
    }
    params = jax.tree.map(jnp.asarray, to_flax(renamed, flattened))
    meta, idle = _with_extras(problem.learner.init(params), params, extras)
    return params, meta, Imported(names, averages + idle)


def _split(meta: Any, params: Any) -> tuple[Any, dict[str, Any]]:
    """The network's weights in `meta`, and what else there is by its paths."""
    if not isinstance(meta, dict) or by_path(meta).keys() == by_path(params).keys():
        return meta, {}
    return meta["params"], by_path({name: part for name, part in meta.items() if name != "params"})


def _extra(path: str) -> str:
    """`meta.rates.head/kernel` for `rates/head/kernel`."""
    return EXTRAS + path.replace("/", ".", 1)


def _with_extras(meta: Any, params: Any, held: Arrays) -> tuple[Any, list[str]]:
    """`meta` with the file's extras, if any are of its kind; and those that are not."""
    own = {_extra(path): leaf for path, leaf in _split(meta, params)[1].items()}
    kinds = {_kind(name) for name in own}
    useful = {name: array for name, array in held.items() if _kind(name) in kinds}
    idle = [name for name in held if name not in useful]
    if not useful:
        return meta, idle
    missing = [name for name in own if name not in useful]
    if missing or useful.keys() - own.keys():
        names = ", ".join([*missing, *(useful.keys() - own.keys())][:4])
        raise InputError(f"`file` has other extras than the algorithm learns: {names}.")
    for name, leaf in own.items():
        if useful[name].shape != leaf.shape:
            raise InputError(
                f"`file` had {name} {list(useful[name].shape)}; the algorithm learns it as "
                f"{list(leaf.shape)}."
            )

    def take(path, leaf):
        name = _extra(path_name(path))
        return jnp.asarray(_as(name, useful[name], leaf.dtype)) if name in useful else leaf

    return jax.tree.map_with_path(take, meta), idle


def _kind(name: str) -> str:
    """`rates` of `meta.rates.head/kernel`."""
    return name.removeprefix(EXTRAS).partition(".")[0]


def _as(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`array` in the type `dtype`, which must hold it exactly."""
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"`file` had {name} of {array.dtype}; weights are finite floating-point.")
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if not np.array_equal(narrow, array):
        raise InputError(
            f"`file` had {name} of {array.dtype}, which {dtype} cannot hold exactly; save it as "
            f"{dtype}."
        )
    return narrow


def _read_mapping(file: Path) -> dict[str, str]:
    def no_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        pairs = list(pairs)
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name comes twice")
        return dict(pairs)

    try:
        held = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=no_doubles)
    except OSError as error:
        raise InputError(f"`mapping` was {file}; it cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not text, or not JSON
        raise InputError(f"`mapping` was {file}, which is no JSON: {error}.") from error
    if not isinstance(held, dict) or not all(isinstance(path, str) for path in held.values()):
        raise InputError(f'`mapping` was {file}; it must hold {{"their name": "our path"}}.')
    return held
