"""What a result depends on besides the code: the machine, the versions, the commit.

Claim: it holds no host name, user or path. Repeat: `python -m benchmarks.machine`.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")


def environment() -> dict[str, Any]:
    """The commit, the versions and the machine, as every results file has them."""
    return {"git": git_state(), "versions": versions(), "machine": machine()}


def gpu_name(platforms: str | None = None) -> str | None:
    """The GPU that JAX sees, such as "NVIDIA H100 80GB HBM3"; None without one.

    JAX is asked in a process of its own, because it takes memory on the GPU until it ends.

    Args:
      platforms: the value of `JAX_PLATFORMS` there; None leaves it as it is.
    """
    script = (
        "import jax\ntry: print(jax.devices('gpu')[0].device_kind)\nexcept RuntimeError: print()\n"
    )
    variables = (
        dict(os.environ) if platforms is None else {**os.environ, "JAX_PLATFORMS": platforms}
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        env=variables,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return done.stdout.strip() or None


def versions() -> dict[str, str | None]:
    """Python's version and the packages', None for those that are not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the operating system."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "architecture": platform.machine(),
        "os": _os(),
    }


def load_average() -> float | None:
    """How many processes wanted a core in the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def git_state(checkout: Path = ROOT) -> dict[str, Any]:
    """The commit and whether tracked files differ from it; None of both outside a repository."""
    commit = _git(checkout, "rev-parse", "HEAD")
    changes = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    brand = _output("sysctl", "-n", "machdep.cpu.brand_string")
    return brand or platform.processor() or platform.machine()


def _os() -> str:
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _git(checkout: Path, *arguments: str) -> str | None:
    return _output("git", "-C", str(checkout), *arguments)


def _output(program: str, *arguments: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    done = subprocess.run(  # noqa: S603
        [path, *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


if __name__ == "__main__":
    print(json.dumps(environment() | {"gpu": gpu_name()}, indent=2))
