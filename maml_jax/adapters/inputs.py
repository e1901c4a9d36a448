"""How the examples reach a model of several inputs."""

import inspect
from collections.abc import Callable
from typing import Any

from maml_jax.errors import InputError
from maml_jax.types import Examples


def inputs_of(call: Callable[..., Any], x: Examples) -> tuple[Examples, ...]:
    """What to call a model with: `x` as it is, or the parts of a tuple, one for each input.

    Args:
      call: the model's `__call__`, bound.
      x: the examples.

    Raises:
      InputError: the model has several inputs, and `x` is no tuple of as many.
    """
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    needed = [
        parameter.name
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind in positional and parameter.default is parameter.empty
    ]
    if len(needed) < 2:
        return (x,)
    if not (isinstance(x, tuple) and len(x) == len(needed)):
        found = f"a tuple of {len(x)}" if isinstance(x, tuple) else f"a {type(x).__name__}"
        raise InputError(
            f"`x` was {found}; the model has the inputs {', '.join(needed)}, so it must be a tuple "
            f"of {len(needed)}."
        )
    return x
