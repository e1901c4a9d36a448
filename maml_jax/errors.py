"""The error for a bad argument, and the checks that raise it."""

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A bad argument: one line that names it in backticks, says what it was and what it may be."""


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value` as an `int`, if it is an integer of at least `least`, of Python, NumPy or JAX."""
    number = _integer(value)
    if number is None or number < least:
        raise InputError(f"`{name}` was {shown(value)}; it must be an integer of at least {least}.")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> Any:
    """`value` if it is among `choices`; the error suggests the nearest."""
    choices = list(choices)
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"`{name}` was {value!r}{hint}; it may be one of {', '.join(choices)}.")
    return value


def check_seed(name: str, value: Any) -> int:
    """`value` as an `int`, if it is an integer that seeds a random generator."""
    number = _integer(value)
    if number is None or not 0 <= number < 2**32:
        raise InputError(f"`{name}` was {shown(value)}; it must be an integer in 0 to 4294967295.")
    return number


def check_number(name: str, value: Any, *, above_zero: bool = False) -> float:
    """`value` as a `float`, if it is a finite real scalar, of Python, NumPy or JAX, of at least 0.

    As a number of Python it leaves the precision of the arrays beside it alone.
    """
    number = _real(value)
    if number is None or not 0 <= number < math.inf:
        raise InputError(f"`{name}` was {shown(value)}; it must be a finite number of at least 0.")
    if above_zero and number == 0:
        raise InputError(f"`{name}` was {shown(value)}; it must be above 0.")
    return number


def shown(value: Any, longest: int = 200) -> str:
    """`value` as Python writes it, in one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _integer(value: Any) -> int | None:
    """The integer, or None where `value` is none; `True` is none, nor is an array of one."""
    if _is_bool(value) or getattr(value, "shape", ()) != ():
        return None
    try:
        return operator.index(value)
    except TypeError:  # also JAX's, of a value that is not known while tracing
        return None


def _real(value: Any) -> float | None:
    """The number, or None where `value` is no real scalar."""
    complex_or_text = isinstance(value, complex | str | bytes) or _dtype(value).startswith(
        "complex"
    )
    if complex_or_text or _is_bool(value) or getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # also JAX's, as above
        return None


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool) or _dtype(value) == "bool"


def _dtype(value: Any) -> str:
    return str(getattr(value, "dtype", ""))
