"""The cache folder: what can be made again, such as pixels read and code compiled."""

import atexit
import functools
import hashlib
import logging
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

_log = logging.getLogger("maml_jax")


def cache_folder() -> Path:
    """The folder that MAML_JAX_CACHE names, or else the user's cache folder for this program.

    The former may not exist yet. Where the user has no home folder, or one that cannot be written,
    it is a folder for this process alone, and the log says so.
    """
    named = os.environ.get("MAML_JAX_CACHE")
    if named:
        return Path(named).absolute()
    try:
        folder = platformdirs.user_cache_path("maml-jax", appauthor=False, opinion=False)
    except RuntimeError:  # no home; older versions return a path that begins with ~
        folder = Path("~")
    if folder.is_absolute() and is_writable(folder):
        return folder
    what = f"{folder} cannot be written" if folder.is_absolute() else "the user has no home folder"
    _warn_once(
        f"{what}: what can be made again is kept in a temporary folder, for this process alone; "
        "MAML_JAX_CACHE may name a folder that stays"
    )
    return temporary_folder()


def code_folder(name: str = "") -> Path | None:
    """The cache folder, or its folder of that name, for code that is loaded as it lies there.

    None where others could put code of theirs there, and the log says so: as ssh does with keys,
    the folder and those around it must belong to the user or to root, and nobody else may write.
    """
    folder = cache_folder() / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _warn_once(f"{folder} cannot be made ({error.strerror}): compiled code is not kept")
        return None
    risk = others_can_change(folder)
    if risk is None:
        return folder
    _warn_once(
        f"{risk}, so compiled code is neither taken from {folder} nor kept there; "
        "MAML_JAX_CACHE may name a folder of your own"
    )
    return None


def others_can_change(path: Path) -> str | None:
    """By what another user could change a file or folder: one phrase; None if nobody can."""
    if not hasattr(os, "geteuid"):  # Windows, where it is not the mode that decides
        return None
    path = path.resolve()
    for place in _up_to_home(path):
        found = place.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to another user"
        # In a folder with the sticky bit, as /tmp is, others cannot rename what is ours.
        sticky = place != path and found.st_mode & stat.S_ISVTX
        if found.st_mode & stat.S_IWOTH and not sticky:
            return f"others can write to {place}"
        if found.st_mode & stat.S_IWGRP and not sticky and not _is_own_group(found.st_gid):
            return f"its group can write to {place}"
    return None


def _up_to_home(path: Path) -> Iterator[Path]:
    """The path and the folders around it, up to the user's home or the root."""
    home = os.path.realpath(os.path.expanduser("~"))
    for place in (path, *path.parents):
        yield place
        if str(place) == home:
            return


def _is_own_group(number: int) -> bool:
    """Whether the group has the user's name and nobody else in it, as many systems set it up."""
    import grp  # neither of them exists on Windows
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(number)
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


def is_writable(folder: Path) -> bool:
    """Whether the folder exists, or can be made, and can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


@functools.cache
def temporary_folder() -> Path:
    """A folder of this process alone, which goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="maml-jax-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)


def processor() -> str:
    """The name of the processor, and a digest of its instructions, in which those of one name
    differ.
    """
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    features = _cpuinfo("flags") or _cpuinfo("Features")
    if not features:
        return name
    return f"{name}, instructions {hashlib.sha256(features.encode()).hexdigest()[:8]}"


def code_key(*parts: str) -> str:
    """A digest of `parts` and of the processor, for code compiled for it alone."""
    described = "\n".join((platform.machine(), processor(), *parts))
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _cpuinfo(field: str) -> str:
    """The field of the first processor in Linux's list; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    entries = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in entries if name.strip() == field), "")
