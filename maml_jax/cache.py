"""The cache folder: what can be made again, such as pixels read and code compiled."""

import hashlib
import os
import platform
from pathlib import Path

import platformdirs


def cache_folder() -> Path | None:
    """The folder that MAML_JAX_CACHE names, or else the user's cache folder for this program.

    It may not exist yet. None where the user has no home folder.
    """
    named = os.environ.get("MAML_JAX_CACHE")
    if named:
        return Path(named)
    try:
        folder = platformdirs.user_cache_path("maml-jax", appauthor=False, opinion=False)
    except RuntimeError:  # no home; older versions return a path that begins with ~
        return None
    return folder if folder.is_absolute() else None


def code_key(*parts: str) -> str:
    """A digest of `parts` and of the processor, for code compiled for it alone.

    Processors of one name differ in their instructions, so the list of these is part of it.
    """
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    features = _cpuinfo("flags") or _cpuinfo("Features")
    described = "\n".join((platform.machine(), name, features, *parts))
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _cpuinfo(field: str) -> str:
    """The field of the first processor in Linux's list; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    entries = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in entries if name.strip() == field), "")
