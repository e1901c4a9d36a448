"""From a run folder to a file of weights that PyTorch reads, and back."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maml_jax import losses, registry
from maml_jax.core.trees import by_path, path_name
from maml_jax.errors import InputError, check_choice
from maml_jax.exchange import assumptions, storage
from maml_jax.exchange.checking import check as check_outputs
from maml_jax.exchange.checking import read_expected
from maml_jax.exchange.layouts import Arrays, flatten
from maml_jax.exchange.matching import Shapes
from maml_jax.exchange.networks import (
    biases_without_effect,
    flattened_layers,
    to_flax,
    to_torch,
    torch_names,
)
from maml_jax.exchange.readings import averages_of_lists, read_as_layers
from maml_jax.training import provenance, runs
from maml_jax.training.build import build_learner, build_network, load_data
from maml_jax.training.checkpoints import Checkpoints
from maml_jax.training.config import Config
from maml_jax.training.provenance import ExampleSpec
from maml_jax.training.schedule import outer_optimizer
from maml_jax.training.updates import initial_state
from maml_jax.types import Meta, MetaLearner, Params
from maml_jax.version import __version__

EXTRAS = "meta."
"""The beginning of the names of meta-parameters that are not the network's weights."""

# The running averages of PyTorch's batch norm, which a norm by the current batch does not have.
_USUAL = {
    "omniglot": (28, 1),
    "mnist": (28, 1),
    "mini-imagenet": (84, 3),
    "cifar-fs": (32, 3),
    "fc100": (32, 3),
}
"""Side and channels of data sets that need files, unless the config says otherwise."""
_NO_IMAGES = ("sequences", "sinusoid")

_AVERAGES = ("running_mean", "running_var", "num_batches_tracked")


class Imported(NamedTuple):
    """What an import did."""

    names: dict[str, str]
    """Our name, as in an export, for each name in the file."""
    left_out: list[str]
    """Arrays of the file that the run does not use: running averages, other meta-parameters."""
    assumed: str = ""
    """What the file does not say of its network, and what was assumed; the options in backticks."""
    filled: tuple[str, ...] = ()
    """Our arrays that the file has not: biases that the norm behind them takes away. They are 0."""
    checked: str = ""
    """What the check found, in one line."""


def export_run(run: Path | str, file: Path | str, data_dir: Path | str | None = None) -> list[str]:
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
    file = Path(file)
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
        **assumptions.to_header(config, shape),
    }
    storage.write(file, arrays, metadata)
    return list(arrays)


def import_run(
    file: Path | str,
    config: Config,
    run: Path | str,
    mapping: Path | str | None = None,
    check: Path | str | None = None,
) -> Imported:
    """Make the folder of a run, without updates yet, whose weights are those of a file.

    Args:
      file: a .pt file of a `state_dict` or a .safetensors file.
      config: the rest of the run; its model must have the file's layers.
      run: the new folder.
      mapping: a JSON file that says which array is which, `{"their name": "our path"}`, for those
        that names and shapes do not determine: our names in an export, or paths like `head/kernel`;
        null leaves an array out.
      check: an .npz file of inputs and the logits that the file's network makes of them.

    The data is loaded only where the shape of its examples is not known otherwise.

    Raises:
      InputError: a bad config, a file that cannot be read or does not fit the model, logits that
        differ, or a folder that exists. Nothing is written.
    """
    file, run = Path(file), Path(run)
    if os.path.lexists(run):
        raise InputError(f"`out` was {run}, which exists; name another.")
    config = runs.from_anywhere(config.check())
    held = storage.read(file)
    given = {} if mapping is None else _read_mapping(Path(mapping))
    examples = known_examples(config) or provenance.examples_of(config, load_data(config))
    shape = examples.input_shape
    params, apply = build_network(config, shape, examples.outputs)
    learner = build_learner(config, apply, examples.loss, examples.classes)
    learner.init(params)  # says whether the algorithm can take this model
    ordered = storage.check_suffix(file) != storage.SAFETENSORS
    params, meta, done = _fit(held, config, learner, params, shape, given, ordered=ordered)
    open_ = assumptions.undecided(config, shape)
    open_ = assumptions.check_header(storage.read_header(file), config, open_)
    done = done._replace(assumed=assumptions.in_words(config, open_))
    if check is not None:
        expected = read_expected(Path(check), shape)
        said = check_outputs(Path(check), expected, config, params, examples, open_)
        unchecked = tuple(n for n in open_ if n == "input_range" and expected.as_given)
        done = done._replace(assumed=assumptions.in_words(config, unchecked), checked=said)
    record = provenance.make_of(config, examples, None)
    state = initial_state(learner, params, outer_optimizer(config), config.seed)
    with runs.new_folder(run) as fresh:
        fresh.mkdir()
        runs.write_record(fresh, record)
        Checkpoints(fresh).save(0, state._replace(meta=meta), record)
    return done


def known_examples(config: Config) -> ExampleSpec | None:
    """What there is to know of the config's data, if that is known without its files."""
    side, channels = _USUAL.get(config.data, (None, None))
    side, channels = config.image_size or side, config.channels or channels
    is_named = config.data in registry.names("data") or Path(config.data).exists()
    if not (side and channels and is_named) or config.algorithm == "pretrained":
        return None  # which learns to tell all classes apart, and must know how many there are
    if config.data in _NO_IMAGES:
        return None
    shape = side, side, channels
    return ExampleSpec("images", shape, config.ways, None, losses.softmax_cross_entropy)


def _fit(
    held: Arrays,
    config: Config,
    learner: MetaLearner,
    params: Params,
    input_shape: tuple[int, ...],
    given: dict[str, str | None],
    *,
    ordered: bool,
) -> tuple[Params, Meta, Imported]:
    """The file's arrays as the model's weights and as meta-parameters."""
    extras = {name: array for name, array in held.items() if name.startswith(EXTRAS)}
    for name in given:
        check_choice("mapping", name, held)
    unwanted = [name for name, path in given.items() if path is None]
    unwanted += [name for name in held if name.endswith(_AVERAGES) and name not in given]
    unwanted += [name for name in averages_of_lists(held) if name not in given]
    weights = {n: array for n, array in held.items() if n not in extras and n not in unwanted}
    flattened = flattened_layers(config, input_shape)
    expected = to_torch(params, flattened)
    ours = torch_names(flatten(params))
    places = {theirs: ours.get(path, path) for theirs, path in given.items() if path is not None}
    shapes = {name: array.shape for name, array in expected.items()}
    names, twice = _read_names(weights, shapes, places, config, ordered)
    renamed = {
        place: _as(name, weights[name], expected[place].dtype) for name, place in names.items()
    }
    filled = [name for name in expected if name not in renamed]
    renamed |= {name: np.zeros_like(expected[name]) for name in filled}
    params = jax.tree.map(jnp.asarray, to_flax(renamed, flattened))
    meta, idle = _with_extras(learner.init(params), params, extras)
    return params, meta, Imported(names, unwanted + twice + idle, filled=tuple(filled))


def _read_names(
    weights: Arrays, ours: Shapes, places: dict[str, str], config: Config, ordered: bool
) -> tuple[dict[str, str], list[str]]:
    optional = biases_without_effect(config, ours)
    try:
        return read_as_layers(weights, ours, places, ordered=ordered, optional=optional)
    except InputError as error:
        without_norms = {n: shape for n, shape in ours.items() if not n.startswith("norms.")}
        if config.model != "mlp" or len(without_norms) == len(ours):
            raise
        try:
            read_as_layers(weights, without_norms, places, ordered=ordered)
        except InputError:
            raise error from None
        raise InputError(
            "`file` has no norms, and the model has them: `batch_norm` may be False, with which "
            "its arrays fit."
        ) from None


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

    def take(path: Any, leaf: jax.Array) -> jax.Array:
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


def _read_mapping(file: Path) -> dict[str, str | None]:
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
    kinds = str | None
    if not isinstance(held, dict) or not all(isinstance(path, kinds) for path in held.values()):
        raise InputError(
            f'`mapping` was {file}; it must hold {{"their name": "our path"}}, or null for what is '
            "to be left out."
        )
    return held
