"""What a file of weights does not say about its network, and the options that say it here.

Arrays of equal shapes may belong to networks that compute different things.
"""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from maml_jax.errors import InputError
from maml_jax.training.config import NORM_ORDERS, Config

EPSILONS = (1e-5, 1e-3)
"""PyTorch's, and that of TensorFlow's layers."""
RANGES = ((0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, -1.0))

_SAID = {
    "downsample": {
        "stride": "convolutions of stride 2, then the mean over positions",
        "maxpool": "2×2 maxima, then every position",
    },
    "norm_order": {"norm-relu": "the norm before ReLU", "relu-norm": "ReLU before the norm"},
}


def undecided(config: Config, input_shape: tuple[int, ...]) -> tuple[str, ...]:
    """The fields of the config that the arrays of its model leave open."""
    image = len(input_shape) == 3
    of_images = ("input_range",) if image else ()
    if config.model == "conv4":
        # Elsewhere the head has as many inputs as one of the two has positions.
        halving = ("downsample",) if input_shape[0] // 16 == 1 else ()
        return (*halving, "norm_order", "norm_epsilon", *of_images)
    if config.model == "resnet12":
        return ("norm_epsilon", *of_images)
    if config.model == "mlp":
        has_norm = config.batch_norm or (config.batch_norm is None and input_shape != (1,))
        return (*(("norm_order", "norm_epsilon") if has_norm else ()), *of_images)
    return of_images


def in_words(config: Config, names: tuple[str, ...]) -> str:
    """What is assumed of each field, with its name in backticks."""
    said = []
    for name in names:
        value = getattr(config, name)
        if name == "norm_epsilon":
            words = f"{value:g} added to the variance"
        elif name == "input_range":
            words = f"inputs from {value[0]:g} for black to {value[1]:g} for white"
        else:
            words = _SAID[name][value]
        said.append(f"{words} (`{name}`)")
    return ", ".join(said)


def to_header(config: Config, input_shape: tuple[int, ...]) -> dict[str, str]:
    """What an export says of the fields that its arrays leave open."""
    return {name: _text(getattr(config, name)) for name in undecided(config, input_shape)}


def check_header(held: dict[str, str], config: Config, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the fields that a file's header says nothing about.

    Raises:
      InputError: it says another value than the config has.
    """
    for name in names:
        if name in held and held[name] != _text(getattr(config, name)):
            raise InputError(
                f"`{name}` was {_text(getattr(config, name))}; the file says that its network has "
                f"{held[name]}."
            )
    return tuple(name for name in names if name not in held)


def alternatives(config: Config, names: tuple[str, ...]) -> Iterator[tuple[Config, dict[str, Any]]]:
    """Configs that differ from this one in some of these fields, the fewest first, and in what."""
    values = {
        "downsample": ("stride", "maxpool"),
        "norm_order": NORM_ORDERS,
        "norm_epsilon": EPSILONS,
        "input_range": RANGES,
    }
    for count in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, count):
            others = (
                [value for value in values[name] if value != getattr(config, name)]
                for name in chosen
            )
            for picked in itertools.product(*others):
                changes: dict[str, Any] = dict(zip(chosen, picked, strict=True))
                yield replace(config, **changes), changes


def as_text(changes: dict[str, Any]) -> str:
    """Fields and values as a message has them, like "`norm_order` relu-norm"."""
    return ", ".join(f"`{name}` {_text(value)}" for name, value in changes.items())


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{number:g}" for number in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
