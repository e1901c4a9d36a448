"""Optional dependencies, imported where they are needed."""

import importlib
from types import ModuleType

from maml_jax.errors import InputError


def require(module: str, extra: str) -> ModuleType:
    """The module, or one line that says which extra of the package holds it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed, which this needs: pip install 'maml-jax[{extra}]'."
        ) from error
