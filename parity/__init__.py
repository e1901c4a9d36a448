"""Gradients of maml_jax and of your own code, held to plain PyTorch. `python -m parity --help`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.checking import check
    from parity.diagnosis import Diagnosis, diagnose
    from parity.problem import Problem, in_eval_mode
    from parity.reference import Task

__all__ = ["Diagnosis", "Problem", "Task", "check", "diagnose", "in_eval_mode"]

_HOMES = {
    "Diagnosis": "diagnosis",
    "Problem": "problem",
    "Task": "reference",
    "check": "checking",
    "diagnose": "diagnosis",
    "in_eval_mode": "problem",
}


def __getattr__(name: str) -> Any:
    """Import on first use: PyTorch may be missing, which `python -m parity` says in one line."""
    if name not in _HOMES:
        raise AttributeError(f"module 'parity' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"parity.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
