"""Where things are kept that can be made again: pictures read, plans measured, code compiled."""

import hashlib
import os
import platform
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


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def code_key(*parts: str) -> str:
    """A digest of `parts` and of the processor: code for one may be unknown to another.

    Of one name there are several, so the list of its instructions is part of it.
    """
    features = platform.machine(), processor(), _cpuinfo("flags") or _cpuinfo("Features")
    return hashlib.sha256("\n".join((*features, *parts)).encode()).hexdigest()[:16]


def _cpuinfo(field: str) -> str:
    """The field of the first processor in Linux's list; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    entries = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in entries if name.strip() == field), "")
