"""The error for a bad argument, and the checks that raise it."""

import difflib
import math
import numbers
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A bad argument: one line that names it in backticks, says what it was and what it may be."""


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value` if it is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"`{name}` was {value!r}; it must be an integer of at least {least}.")
    return value


def check_choice(name: str, value: Any, choices: Iterable[str]) -> Any:
    """`value` if it is among `choices`; the error suggests the nearest."""
    choices = list(choices)
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"`{name}` was {value!r}{hint}; it may be one of {', '.join(choices)}.")
    return value


def check_seed(name: str, value: Any) -> int:
    """`value` if it is an integer that seeds a random generator."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise InputError(f"`{name}` was {value!r}; it must be an integer in 0 to 4294967295.")
    return value


def check_number(name: str, value: Any) -> float:
    """`value` if it is a finite number of at least 0."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 <= value < math.inf):
        raise InputError(f"`{name}` was {value!r}; it must be a finite number of at least 0.")
    return value
