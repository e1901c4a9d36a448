"""How fast the machine multiplies matrices and reads memory, by the better of two frameworks.

Claim: no program does better by much: the product is of large square float32 matrices, without
TF32, and memory is read and written in place, 1 to each element; the best of many times counts.
Repeat: `python -m benchmarks.peaks` on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.process import ROOT

SIZES = {"cpu": (2048, 2**26), "gpu": (8192, 2**28)}
"""Rows of the matrices, and numbers in the array."""
SECONDS = 1.0
"""How long each is repeated."""
FRAMEWORKS = ("jax", "torch")


def measure(device: str) -> dict[str, Any]:
    """The best `flops` and `bytes_per_s`, and what each framework reached.

    Each framework has a process of its own; one that is not there, or sees no such device, is
    missing from the result.
    """
    found = {}
    for framework in FRAMEWORKS:
        variables = dict(os.environ)
        variables["JAX_PLATFORMS"] = "cuda" if device == "gpu" else "cpu"
        variables["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        command = [sys.executable, "-m", "benchmarks.peaks", framework, "--device", device]
        done = subprocess.run(  # noqa: S603
            command,
            cwd=ROOT,
            env=variables,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode == 0:
            found[framework] = json.loads(done.stdout)
    if not found:
        raise RuntimeError(f"no framework could measure the {device}: {done.stderr[-300:]}")
    best = {name: max(f[name] for f in found.values()) for name in ("flops", "bytes_per_s")}
    return {**best, "by": found}


def by_jax(rows: int, numbers: int, seconds: float) -> dict[str, float]:
    """`flops` and `bytes_per_s` through XLA, on the default device."""
    import jax
    import jax.numpy as jnp

    matrix = jnp.ones((rows, rows), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = jnp.zeros(numbers, jnp.float32)

    def move() -> None:
        nonlocal array
        array = jax.block_until_ready(add(array))

    def product() -> None:
        jax.block_until_ready(multiply(matrix, matrix))

    return _rates(rows, numbers, product, move, seconds)


def by_torch(rows: int, numbers: int, seconds: float, device: str) -> dict[str, float]:
    """The same through PyTorch."""
    import torch

    torch.set_float32_matmul_precision("highest")
    target = torch.device("cuda" if device == "gpu" else "cpu")
    matrix = torch.ones((rows, rows), device=target)
    array = torch.zeros(numbers, device=target)
    out = torch.empty_like(matrix)

    def finish() -> None:
        if device == "gpu":
            torch.cuda.synchronize()

    def product() -> None:
        torch.matmul(matrix, matrix, out=out)
        finish()

    def move() -> None:
        array.add_(1)
        finish()

    return _rates(rows, numbers, product, move, seconds)


def _rates(
    rows: int,
    numbers: int,
    product: Callable[[], None],
    move: Callable[[], None],
    seconds: float,
) -> dict[str, float]:
    return {
        "flops": 2 * rows**3 / _best(product, seconds),
        "bytes_per_s": 2 * 4 * numbers / _best(move, seconds),
    }


def _best(function: Callable[[], None], seconds: float) -> float:
    """The least time of a call, of at least three after the first."""
    function()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print what one framework reaches, or by default all, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peaks", description=__doc__)
    parser.add_argument("framework", nargs="?", choices=FRAMEWORKS)
    parser.add_argument("--device", choices=tuple(SIZES), default="cpu")
    options = parser.parse_args()
    if options.framework is None:
        found = measure(options.device)
    elif options.framework == "jax":
        found = by_jax(*SIZES[options.device], SECONDS)
    else:
        found = by_torch(*SIZES[options.device], SECONDS, options.device)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
