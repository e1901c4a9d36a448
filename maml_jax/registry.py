"""What goes by a name on the command line: algorithms, models, data sets, logs.

A folder is its own register: `algorithms/meta_sgd.py` is the algorithm `meta-sgd`. An installed
package adds a name by an entry point of its own, in the group `maml_jax.algorithms`,
`maml_jax.models`, `maml_jax.data` or `maml_jax.logs`. To list the names imports nothing but this
file.
"""

import importlib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, NamedTuple

from maml_jax.errors import check_choice


class _Room(NamedTuple):
    folder: str
    """Where the modules lie, one for each name."""
    function: str | None
    """The function in a module that is registered; None: the one of the module's name."""


_ROOMS = {
    "algorithms": _Room("algorithms", None),
    "models": _Room("models", "from_config"),
    "data": _Room("data/sets", "load"),
    "logs": _Room("training/logs", "in_run"),
}


def names(room: str) -> tuple[str, ...]:
    """The names in `algorithms`, `models`, `data` or `logs`: ours, and those of other packages."""
    return tuple(sorted({*_own(room), *_others(room)}))


def find(room: str, name: str) -> Callable[..., Any]:
    """What goes by `name`.

    For `algorithms` it is `algorithm(apply, …) -> MetaLearner`; for `models`
    `from_config(config, example_shape, outputs, rngs)`; for `data` `load(request) -> DataSet`; for
    `logs` `in_run(run, entries) -> Logger`.

    Raises:
      InputError: nothing does; the message suggests the nearest.
    """
    check_choice(room if room == "data" else room.removesuffix("s"), name, names(room))
    if name not in _own(room):
        return _others(room)[name].load()
    folder, function = _ROOMS[room]
    module = name.replace("-", "_")
    found = importlib.import_module(f"maml_jax.{folder.replace('/', '.')}.{module}")
    return getattr(found, function or module)


def _own(room: str) -> list[str]:
    folder = Path(__file__).parent / _ROOMS[room].folder
    stems = (path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return [stem.replace("_", "-") for stem in stems]


def _others(room: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"maml_jax.{room}")}
