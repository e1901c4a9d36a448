"""Where things are kept that can be made again: pictures once read, plans once measured."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path | None:
    """The folder that MAML_JAX_CACHE names, or the user's own for such things; None without a home.

    It need not be there.
    """
    named = os.environ.get("MAML_JAX_CACHE")
    if named:
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "maml-jax"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "maml-jax"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "maml-jax"
