"""Compiles `cpu/library.cc` for this processor, once, and registers its operations with XLA.

As with `torch.compile`, that needs a C++ compiler; without one JAX computes the same more slowly.
Each type of numbers has a library of its own, compiled when it is first needed and kept in the
cache folder, by a digest of everything that it depends on.
"""

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jaxlib
import numpy as np

from maml_jax.cache import cache_folder, code_key

SOURCES = Path(__file__).with_name("cpu")
NUMBERS = {"float32": "F32", "float64": "F64"}
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-w")
PATIENCE_S = 300.0

_log = logging.getLogger("maml_jax")


@functools.cache
def register(operation: str, dtype: np.dtype) -> str | None:
    """The name under which XLA knows the operation on a CPU; None where there is none."""
    shared = library(dtype.name)
    if shared is None:
        return None
    target = f"maml_jax_{operation}_{dtype.name}"
    jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(shared[operation]), platform="cpu")
    return target


@functools.cache
def library(numbers: str) -> ctypes.CDLL | None:
    """The compiled library for `float32` or `float64`, from the cache or made now; None for other
    numbers, and where it cannot be made, which is logged.

    The environment variable MAML_JAX_CXX names the compiler; empty, it forbids compiling.
    """
    if numbers not in NUMBERS:
        return None
    command = compiler()
    if command is None:
        _log.info("no C++ compiler was found; the CPU takes XLA's products")
        return None
    folder = cache_folder()
    if folder is None or not _writable(folder):
        folder = Path(tempfile.mkdtemp(prefix="maml-jax-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    flags = (*FLAGS, f"-DNUMBER={NUMBERS[numbers]}")
    sources = (path.read_text() for path in sorted(SOURCES.glob("*.[ch]*")))
    path = folder / f"operations-{code_key(*sources, command, jaxlib.__version__, *flags)}.so"
    with contextlib.suppress(OSError):  # not there, or damaged: made anew
        return ctypes.CDLL(str(path))
    try:
        _log.info("compiling the operations in %s for this processor: %s", numbers, path)
        _compile(command, flags, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or str(error)
        reason = words.strip().splitlines()[0] if words.strip() else type(error).__name__
        _log.warning("the CPU takes XLA's products, which is slower: %s", reason)
        return None


def _writable(folder: Path) -> bool:
    """Whether the folder is there, or can be made, and written in."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def compiler() -> str | None:
    """The path of the compiler that is taken; None where there is none."""
    named = os.environ.get("MAML_JAX_CXX")
    candidates = COMPILERS if named is None else (named,)
    return next((path for name in candidates if (path := name and shutil.which(name))), None)


def _compile(compiler: str, flags: Sequence[str], path: Path) -> None:
    """Compile for this very processor where the compiler can; whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder, path.name)
        source = str(SOURCES / "library.cc")
        common = (*flags, f"-I{jax.ffi.include_dir()}", source, "-o", str(made))
        for tuning in ("-march=native", "-mcpu=native", ""):
            command = [compiler, *filter(None, [tuning]), *common]
            done = subprocess.run(  # noqa: S603  # the compiler that the user has, on our source
                command, capture_output=True, text=True, timeout=PATIENCE_S, check=not tuning
            )
            if done.returncode == 0:
                break
        made.replace(path)
