"""The ways to read the arrays of a foreign file as layers, where its names are no names of layers.

| in the file | read as |
|---|---|
| a list of parameters, `vars.0`, `vars.1`, … | in order: a kernel, its bias, the norm's two |
| a module that is listed twice with equal arrays | once |
| convolutions without the bias that a norm takes away | with a bias of zero |
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

from maml_jax.errors import InputError
from maml_jax.exchange.layouts import Arrays
from maml_jax.exchange.matching import Shapes, match, natural

_Content: TypeAlias = tuple[tuple[int, ...], str, bytes]
"""Shape, type and bytes."""

_OF_A_GROUP = {0: (), 1: ("{}.bias",), 2: ("{}n.weight", "{}n.bias")}
_OF_A_GROUP[3] = (*_OF_A_GROUP[1], *_OF_A_GROUP[2])
"""The vectors behind a kernel, by how many there are."""


def read_as_layers(
    theirs: Arrays,
    ours: Shapes,
    given: Mapping[str, str],
    *,
    ordered: bool,
    optional: frozenset[str] = frozenset(),
) -> tuple[dict[str, str], list[str]]:
    """Our name for each array of theirs, and those of theirs that are there twice.

    Args:
      theirs: the arrays of the file.
      ours: the shapes of the model's arrays.
      given: our names for some of theirs.
      ordered: as in `match`.
      optional: ours that may be missing in the file, all of them.

    Raises:
      InputError: as `match`, if no reading fits.
    """
    shapes = {name: array.shape for name, array in theirs.items()}
    fewer = {name: shape for name, shape in ours.items() if name not in optional}
    twice = twins(theirs)
    once = {name: shape for name, shape in shapes.items() if name not in twice}
    first = None
    for left_out, some in ([], shapes), (twice, once):
        for wanted in (ours, fewer) if optional else (ours,):
            for listed in (False, True):
                try:
                    return _match(some, wanted, given, ordered, listed), left_out
                except InputError as error:
                    first = first or error
        if not twice:
            break
    raise first or AssertionError


def _match(
    theirs: Shapes, ours: Shapes, given: Mapping[str, str], ordered: bool, listed: bool
) -> dict[str, str]:
    if not listed:
        return match(theirs, ours, given, ordered=ordered)
    names = _as_named(theirs)
    renamed = {names[name]: theirs[name] for name in sorted(theirs, key=natural)}
    found = match(renamed, ours, {names[n]: our for n, our in given.items() if n in names})
    return {name: found[names[name]] for name in theirs}


def _as_named(theirs: Shapes) -> dict[str, str]:
    """Names of layers for the entries of a list of parameters, in their order."""
    order = sorted(theirs, key=natural)
    starts = [i for i, name in enumerate(order) if len(theirs[name]) > 1]
    is_list = all(name.rpartition(".")[2].isdigit() for name in order)
    if not is_list or len({name.rpartition(".")[0] for name in order}) != 1 or starts[:1] != [0]:
        raise InputError("`file` holds no list of parameters.")
    names = {}
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        kernel, *vectors = order[start:stop]
        parts = _OF_A_GROUP.get(len(vectors))
        if parts is None:
            raise InputError(f"`file` has {len(vectors)} vectors behind {kernel}.")
        names[kernel] = f"{start}.weight"
        names |= {name: part.format(start) for name, part in zip(vectors, parts, strict=True)}
    return names


def averages_of_lists(theirs: Arrays) -> list[str]:
    """The entries of a list like `vars_bn`: the running averages beside a list of parameters."""
    lists: dict[str, list[str]] = defaultdict(list)
    for name in theirs:
        prefix, _, last = name.rpartition(".")
        if last.isdigit():
            lists[prefix].append(name)
    kernels = {prefix for prefix, names in lists.items() if any(theirs[n].ndim > 1 for n in names)}
    return [
        name
        for prefix, names in lists.items()
        if kernels and prefix not in kernels and re.search(r"bn|norm", prefix.rpartition(".")[2])
        for name in names
    ]


def twins(theirs: Arrays) -> list[str]:
    """The arrays of modules that are listed again under another name, kernel and all."""
    inside: dict[str, dict[str, _Content]] = defaultdict(dict)
    for name, array in theirs.items():
        parts = name.split(".")
        content = array.shape, str(array.dtype), array.tobytes()
        for i in range(1, len(parts)):
            inside[".".join(parts[:i])][".".join(parts[i:])] = content
    left_out: dict[str, None] = {}
    seen: dict[frozenset[tuple[str, _Content]], str] = {}
    for prefix in sorted(inside, key=lambda one: -len(inside[one])):
        module = inside[prefix]
        if not any(len(shape) > 1 for shape, _, _ in module.values()):
            continue  # fresh norms are all alike
        first = seen.setdefault(frozenset(module.items()), prefix)
        is_kept = not left_out.keys() & {f"{first}.{name}" for name in module}
        if first != prefix and is_kept:
            left_out |= dict.fromkeys(f"{prefix}.{name}" for name in module)
    return list(left_out)
