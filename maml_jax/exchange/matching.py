"""Matches the arrays of a foreign file to those of a model where their names differ."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from maml_jax.errors import InputError, check_choice

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shapes of arrays by their names in PyTorch."""
_Layers: TypeAlias = dict[str, dict[str, tuple[int, ...]]]

# The names in PyTorch's GRUCell and LSTMCell; those in GRU and LSTM end in _l0.
_OF_A_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def match(
    theirs: Shapes, ours: Shapes, given: Mapping[str, str] | None = None, *, ordered: bool = True
) -> dict[str, str]:
    """Our name for each array of theirs.

    The pairs in `given` come first. The rest is matched layer by layer: a layer is the arrays whose
    names differ in the last part only, and two layers are of one kind if those parts and all shapes
    are equal. Layers of the same name and kind are matched; then the remaining layers of each kind,
    in order.

    Args:
      theirs: the shapes of the foreign arrays, in the order of the layers if `ordered`.
      ours: the shapes of the model's arrays; the numbers in the names give their order, head last.
      given: our names for some of theirs.
      ordered: False: the numbers in their names give the order of theirs.

    Raises:
      InputError: some arrays have no counterpart, `given` is wrong, or there is no order.
    """
    found = dict(given or {})
    _check_given(found, theirs, ours)
    taken = set(found.values())
    left = _layers({name: shape for name, shape in theirs.items() if name not in found})
    open_ = _layers({name: ours[name] for name in sorted(ours, key=natural) if name not in taken})
    for layer in [layer for layer in left if left[layer] == open_.get(layer)]:
        found |= _pair(layer, layer, left.pop(layer), theirs)
        del open_[layer]
    for kind in list(left.values()):
        same = [layer for layer in left if left[layer] == kind]
        places = [layer for layer in open_ if open_[layer] == kind]
        if not same or len(same) != len(places):
            continue
        if not ordered:
            same = _by_number(same)
        for layer, place in zip(same, places, strict=True):
            found |= _pair(layer, place, left.pop(layer), theirs)
            del open_[place]
    if left or open_:
        raise InputError(f"`file` does not fit the model: {_misfit(_arrays(left), _arrays(open_))}")
    return found


def _check_given(given: Mapping[str, str], theirs: Shapes, ours: Shapes) -> None:
    for name, place in given.items():
        check_choice("mapping", name, theirs)
        check_choice("mapping", place, ours)
        if theirs[name] != ours[place]:
            raise InputError(
                f"`mapping` had {name} {list(theirs[name])} for {place} {list(ours[place])}; "
                "the shapes must be equal."
            )
        if list(given.values()).count(place) > 1:
            raise InputError(f"`mapping` had {place} more than once; each must have one array.")


def _layers(shapes: Shapes) -> _Layers:
    layers: _Layers = defaultdict(dict)
    for name, shape in shapes.items():
        layer, _, part = name.rpartition(".")
        if part in _OF_A_CELL and f"{name}_l0" not in shapes:
            part += "_l0"
        layers[layer][part] = tuple(shape)
    return dict(layers)


def _pair(layer: str, place: str, parts: Iterable[str], theirs: Shapes) -> dict[str, str]:
    pairs = {f"{layer}.{part}".lstrip("."): f"{place}.{part}".lstrip(".") for part in parts}
    return {
        name if name in theirs else name.removesuffix("_l0"): our for name, our in pairs.items()
    }


def _by_number(layers: list[str]) -> list[str]:
    """The layers in the order of the numbers in their names, which must differ in nothing else."""
    if len({re.sub(r"\d+", "#", layer) for layer in layers}) > 1:
        raise InputError(
            f"`file` was a safetensors file, which keeps no order of its layers, and the names "
            f"{', '.join(sorted(layers))} have no numbers; `mapping` may say which is which."
        )
    return sorted(layers, key=natural)


def natural(name: str) -> tuple[bool, list[str | int]]:
    """A key that sorts names by the numbers in them, the head last."""
    parts = re.split(r"(\d+)", name)
    return name.startswith("head."), [int(p) if p.isdigit() else p for p in parts]


def _arrays(layers: _Layers) -> list[str]:
    """Names with shapes, `head.weight [5, 64]`."""
    return [
        f"{layer}.{part} {list(shape)}".lstrip(".")
        for layer, parts in layers.items()
        for part, shape in sorted(parts.items(), reverse=True)
    ]


def _misfit(theirs: list[str], ours: list[str], most: int = 4) -> str:
    """The arrays without a counterpart, for an error message."""

    def some(arrays: list[str], others: list[str]) -> str:
        left = [array for array in arrays if array not in others]
        return ", ".join(left[:most]) + (f" and {len(left) - most} more" * (len(left) > most))

    sides = {"it alone has": some(theirs, ours), "the model alone has": some(ours, theirs)}
    said = "; ".join(f"{who} {arrays}" for who, arrays in sides.items() if arrays)
    return f"{said}. `mapping` may say which is which, and null what is to be left out."
