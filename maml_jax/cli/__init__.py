"""The program `maml-jax`. Help and errors come at once, for JAX is imported only to compute."""

import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from maml_jax.cli.messages import as_options, say
from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.version import __version__

__all__ = ["main", "program"]

COMPILED_BYTES = 2**29
"""How much of compiled programs is kept; the longest unused go first."""


def program() -> None:
    """The entry point: `main`, on all cores, with compiled programs kept."""
    for stream in (sys.stdout, sys.stderr):  # which may not be able to show the name of a class
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main(set_up=_set_up_jax))


def main(
    arguments: Sequence[str] | None = None, *, set_up: Callable[[Any], Any] = lambda _: None
) -> int:
    """Run the program.

    Args:
      arguments: what stands after the program's name; None: what the process was given.
      set_up: called with the command when its options have been read, before it imports JAX.

    Returns:
      The exit code: 0; 1 where training failed; 2 for bad input; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if words == ["--version"]:
        print(_versions())
        return 0
    _log_to_stderr()
    command = None
    try:
        require("tyro", "cli")
        from maml_jax.cli import hosts
        from maml_jax.cli.parsing import parse

        command = parse(words)
        set_up(command)
        return hosts.run(command)
    except InputError as error:
        say(f"maml-jax {words[0]}: {as_options(error, command)}")
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130


def _versions() -> str:
    """The versions of the package and of what it computes with, which are not imported for it."""
    others = (f"{name} {metadata.version(name)}" for name in ("jax", "flax", "optax", "numpy"))
    return f"maml-jax {__version__} (Python {platform.python_version()}, {', '.join(others)})"


class StderrHandler(logging.Handler):
    """Writes a line for each record, such as that a checkpoint is damaged, to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def _log_to_stderr() -> None:
    log = logging.getLogger("maml_jax")
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(StderrHandler())


def _set_up_jax(command: Any = None) -> None:
    """Join the hosts, use all cores of a CPU, and keep compiled programs for the next time."""
    from maml_jax.cli import hosts

    hosts.join(command)
    import jax

    from maml_jax.batching import use_all_cores
    from maml_jax.cache import code_folder, code_key

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = code_folder(f"compiled-{code_key()}")
        if folder is not None:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_compilation_cache_max_size", COMPILED_BYTES)
    use_all_cores()
    hosts.check_alike(command)
