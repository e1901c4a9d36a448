"""The memory of this process.

Claim: on a CPU `peak` is the most that the process had resident (VmHWM of Linux) during the timed
steps, for the mark is reset after the warm-up, when unused heap has been given back. `growth` is
that less what was resident once the framework was imported and the inputs were made: the program,
what its compiler keeps, and its working memory, which cannot be told apart from outside because a
framework may keep for the next step what it does not use. On a GPU `peak` is the most that the
framework's allocator held at once since the process began: inputs are part of it, the CUDA context
and compiled code are not.
"""

import ctypes
import gc
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""What `man proc_pid_clear_refs` says to write."""


def resident_bytes() -> int | None:
    """What is resident now; None where there is no /proc."""
    return _status("VmRSS")


def peak_resident_bytes() -> int | None:
    """The most that was resident since the program began or `settle`; None without /proc.

    Not `getrusage`'s figure, which a process begins with its parent's.
    """
    return _status("VmHWM")


def settle() -> None:
    """Give back unused heap, and let the peak start anew from what is resident then."""
    gc.collect()
    if _STATUS.exists():
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # glibc has it, musl does not
            library.malloc_trim(0)
    if _CLEAR.exists():
        _CLEAR.write_text(_RESET_PEAK, encoding="utf-8")


def report(base: int | None, device_peak: int | None) -> dict[str, Any]:
    """Peak and growth in bytes; None, with a `reason`, where they cannot be known.

    Args:
      base: what was resident after imports and inputs.
      device_peak: the peak of the GPU's allocator; None on a CPU.
    """
    unknown: dict[str, Any] = {"peak_bytes": None, "growth_bytes": None}
    if device_peak is not None:
        return unknown | {"kind": "allocator of the GPU", "peak_bytes": device_peak}
    peak = peak_resident_bytes()
    if peak is None or base is None or not _CLEAR.exists():
        return unknown | {"kind": None, "reason": "this system has no /proc/self/clear_refs"}
    return {"kind": "resident set", "peak_bytes": peak, "growth_bytes": peak - base}


def _status(field: str) -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
