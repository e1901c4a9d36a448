"""The options by which one command, on many hosts, is one training; how all of it ends."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tyro.conf import FlagCreatePairsOff

from maml_jax.cli import runtime_log
from maml_jax.errors import InputError


@dataclass(frozen=True)
class HostOptions:
    """Training over many hosts: the same command on each, and a folder that all of them see."""

    distributed: FlagCreatePairsOff[bool] = False
    """Deal tasks over the devices of all hosts. SLURM, Kubernetes, MPI and Cloud TPUs tell JAX
    where the others are; elsewhere the three options that follow do."""
    coordinator: str | None = None
    """Address and port of process 0, such as 10.0.0.1:1234."""
    process: int | None = None
    """The number of this process, from 0."""
    processes: int | None = None
    """How many processes there are, one on each host."""


def join(command: Any) -> None:
    """Join the processes, if the command asks for that.

    Raises:
      InputError: what `initialize_hosts` raises, or its arguments without `distributed`.
    """
    options = _options_of(command)
    for name in ("coordinator", "process", "processes"):
        if getattr(options, name) is not None and not options.distributed:
            raise InputError(f"`{name}` was {getattr(options, name)}; it needs `distributed`.")
    if options.distributed:
        _summarize_runtime_log()
        from maml_jax.batching import initialize_hosts

        initialize_hosts(options.coordinator, options.process, options.processes)


def check_alike(command: Any) -> None:
    """Whether all hosts begin a run, or all go on with one: each waits for the others as it does.

    It starts JAX, so it comes after `use_all_cores`.

    Raises:
      InputError: some begin and some go on.
    """
    from maml_jax.batching import hosts

    if not _options_of(command).distributed:
        return
    resumes = command.resume is not None
    if hosts.any_host(resumes) and hosts.any_host(not resumes):
        raise InputError(
            f"`resume` was {command.resume} on this host, and some of the others begin a new "
            "run: give all hosts the same command."
            if resumes
            else "`resume` was given on another host, and not on this one: give all hosts the "
            "same command."
        )


def run(command: Callable[[], int]) -> int:
    """The command's exit code; over many hosts a process that fails ends at once.

    To end as usual it would wait for the others, which wait for it.

    Raises:
      InputError: what the command raises, and then in all processes.
    """
    if not _options_of(command).distributed:
        return command()
    import jax

    try:
        code = command()
    except InputError:
        raise
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            traceback.print_exc()
        else:  # a collective without its partner
            os.write(2, f"{runtime_log.LOST}\n".encode())
        code = 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    except Exception:  # told in full; then the process ends, with an exit code of its own
        traceback.print_exc()
        code = 1
    if code:
        sys.stderr.flush()
        os._exit(code)
    return code


def _options_of(command: Any) -> HostOptions:
    return getattr(command, "hosts", HostOptions())


def _summarize_runtime_log() -> None:
    """Have what C++ writes go through `runtime_log`; what Python writes goes where it went."""
    own = os.dup(2)
    # In a session of its own, so that Ctrl-C is for the program alone.
    program = [sys.executable, "-I", runtime_log.__file__, "maml-jax train"]
    log = subprocess.Popen(program, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603
    assert log.stdin is not None  # noqa: S101 - it is a pipe
    encoding = sys.stderr.encoding
    sys.stderr = open(own, "w", 1, encoding=encoding, errors="backslashreplace")  # noqa: SIM115 - to the end
    for number in (1, 2):
        os.dup2(log.stdin.fileno(), number)
