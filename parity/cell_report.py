"""The errors of all cells as JSON and as a table."""

import importlib.metadata
import math
import sys
from collections.abc import Sequence
from typing import Any

from maml_jax.version import __version__
from parity.compare import Errors
from parity.relative_error import BOUND, OUTER_BOUND
from parity.rounding import FACTOR, Rounding


def to_json(results: Sequence[Errors], against: str) -> dict[str, Any]:
    """Versions, bounds and cells, for `json.dumps`. An error that is not a finite number is None.

    Args:
      results: the errors of all cells.
      against: what the learners were compared with.
    """
    return {
        "versions": _versions(),
        "against": against,
        "dtype": "float64",
        "bound": BOUND,
        "bound_after_updates": OUTER_BOUND,
        "passed": all(result.passed for result in results),
        "cells": [_cell(result) for result in results],
    }


def to_table(results: Sequence[Errors], against: str, seconds: float) -> str:
    """A line for each cell, and how many are within their bounds.

    Args:
      results: the errors of all cells.
      against: what the learners were compared with.
      seconds: the time that the comparison took.
    """
    with_float32 = any(result.float32 for result in results)
    titles = ["cell", "loss", "weights", "meta-gradient", "after updates"]
    titles += ["jax float32", "torch float32", "difference"] if with_float32 else []
    rows = [[*titles, "", "largest at"]]
    for result in results:
        errors = (result.loss, result.largest_weights, result.meta_gradient)
        figures = [f"{error:.1e}" for error in errors]
        figures.append(f"{result.outer:.1e}" if result.cell.updates else "")
        if result.float32:
            single = result.float32
            figures += [f"{error:.1e}" for error in (single.jax, single.torch, single.difference)]
        verdict = "ok" if result.passed else "FAIL"
        rows.append([result.cell.name, *figures, verdict, result.worst])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        name, *numbers, verdict, worst = (
            cell.rjust(width) if 0 < i < len(titles) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *numbers, _coloured(verdict), worst]).rstrip())
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    passed = sum(result.passed for result in results)
    header = [
        f"Relative errors against {against} in float64, at most {BOUND:.0e}, "
        f"after outer updates {OUTER_BOUND:.0e} ({versions})"
    ]
    if with_float32:
        header.append(
            "In float32: the meta-gradient of each backend against float64, and the difference of "
            f"the two, at most {FACTOR:.0f} times the smaller error unless the derivative jumps"
        )
    summary = f"{passed} of {len(results)} cells within the bound, {seconds:.0f} s"
    return "\n".join([*header, "", *lines, "", summary])


def _versions() -> dict[str, str]:
    others = {name: importlib.metadata.version(name) for name in ("jax", "flax", "torch")}
    return {"maml-jax": __version__, **others}


def _cell(result: Errors) -> dict[str, Any]:
    return {
        "name": result.cell.name,
        "algorithm": result.cell.algorithm,
        "model": result.cell.model,
        "inner_steps": result.cell.inner_steps,
        "differentiate": result.cell.differentiate,
        "inner_optimizer": result.cell.optimizer,
        "updates": result.cell.updates,
        "loss": _number(result.loss),
        "weights": [_number(error) for error in result.weights],
        "meta_gradient": _number(result.meta_gradient),
        "after_updates": _number(result.outer) if result.cell.updates else None,
        "float32": None if result.float32 is None else _float32(result.float32),
        "worst": result.worst,
        "passed": result.passed,
    }


def _float32(errors: Rounding) -> dict[str, Any]:
    return {
        "jax": _number(errors.jax),
        "torch": _number(errors.torch),
        "apart": _number(errors.difference),
        "jump": _number(errors.sensitivity),
        "bound": _number(errors.bound),
        "passed": errors.passed,
    }


def _number(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _coloured(verdict: str) -> str:
    colours = {"ok": "32", "FAIL": "31"}
    if not sys.stdout.isatty() or verdict.strip() not in colours:
        return verdict
    return f"\033[{colours[verdict.strip()]}m{verdict}\033[0m"
