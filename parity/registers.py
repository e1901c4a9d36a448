"""The folders `reference` and `models`, read as registers."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any


def entries(package: str, attribute: str) -> Iterator[tuple[str, str, Any]]:
    """What the modules of a package list under `attribute`, as `(name, module's name, entry)`.

    A module `meta_sgd` gives the name `meta-sgd`; an entry with a `variant` appends that to it.
    """
    folder = importlib.import_module(package)
    for module in sorted(found.name for found in pkgutil.iter_modules(folder.__path__)):
        stem = module.replace("_", "-")
        for entry in getattr(importlib.import_module(f"{package}.{module}"), attribute):
            yield "-".join(filter(None, (stem, entry.variant))), stem, entry
