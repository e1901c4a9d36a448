"""Compiles `cpu/library.cc` for this processor, once, and registers its operations with XLA.

As with `torch.compile`, that needs a C++ compiler; without one JAX computes the same more slowly.
Each dtype has a library of its own, compiled when a CPU program first needs it and kept in the
cache folder, under a digest of everything that it depends on.
"""

import contextlib
import ctypes
import functools
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

from maml_jax.cache import (
    code_folder,
    code_key,
    is_writable,
    others_can_change,
    temporary_folder,
)

SOURCES = Path(__file__).with_name("cpu")
DTYPES = {"float32": "F32", "float64": "F64"}
"""Each dtype that is compiled, and its name in XLA's headers."""
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-w")
TIMEOUT_S = 300.0

_log = logging.getLogger("maml_jax")


@functools.cache
def register(operation: str, dtype: np.dtype) -> str | None:
    """The name under which XLA knows the operation on a CPU; None where there is none."""
    operations = library(dtype.name)
    if operations is None:
        return None
    target = f"maml_jax_{operation}_{dtype.name}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(operations[operation]), platform="cpu")
    return target


@functools.cache
def library(dtype: str) -> ctypes.CDLL | None:
    """The compiled library for `float32` or `float64`, from the cache or compiled now; None for
    other dtypes, and where it cannot be compiled, which is logged.

    The environment variable MAML_JAX_CXX names the compiler; empty, it forbids compiling.
    """
    if dtype not in DTYPES:
        return None
    command = compiler()
    if command is None:
        _log_once(logging.INFO, "no C++ compiler was found: convolutions on the CPU are slower")
        return None
    folder = code_folder()
    if folder is None or not is_writable(folder):
        folder = temporary_folder()
    flags = (*FLAGS, f"-DNUMBER={DTYPES[dtype]}")
    sources = (path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.[ch]*")))
    path = folder / f"operations-{code_key(*sources, command, version('jaxlib'), *flags)}.so"
    with contextlib.suppress(OSError):  # missing or damaged: compiled again
        if others_can_change(path) is None:
            return ctypes.CDLL(str(path))
    try:
        _log.info("compiling the convolution in %s for this processor: %s", dtype, path)
        _compile(command, flags, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        reason = said.splitlines()[0] if said else type(error).__name__
        _log_once(logging.WARNING, f"convolutions on the CPU are slower: {reason}")
        return None


@functools.cache
def _log_once(level: int, message: str) -> None:
    """What is the same for every dtype is said for the first one only."""
    _log.log(level, message)


def compiler() -> str | None:
    """The path of the compiler to use; None where there is none."""
    named = os.environ.get("MAML_JAX_CXX")
    candidates = COMPILERS if named is None else (named,)
    return next((path for name in candidates if (path := name and shutil.which(name))), None)


def compiler_version() -> str:
    """What the compiler says of itself; `none` where there is none."""
    command = compiler()
    return "none" if command is None else _version_of(command)


@functools.cache
def _version_of(command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # the compiler that the user has
            [command, "--version"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return f"{command}, which does not run"
    return (done.stdout.splitlines() or [command])[0].strip()


def _compile(compiler: str, flags: Sequence[str], path: Path) -> None:
    """Compile for this very processor where the compiler can; no half-written file is left."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        compiled = Path(folder, path.name)
        source = str(SOURCES / "library.cc")
        common = (*flags, f"-I{jax.ffi.include_dir()}", source, "-o", str(compiled))
        for tuning in ("-march=native", "-mcpu=native", ""):
            command = [compiler, *filter(None, [tuning]), *common]
            done = subprocess.run(  # noqa: S603  # the compiler that the user has, on our source
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_S,
                check=not tuning,
            )
            if done.returncode == 0:
                break
        compiled.replace(path)
