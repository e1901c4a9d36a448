"""`python -m parity`: the table of errors."""

import argparse
import importlib.metadata
import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parity.cells import Cell
    from parity.compare import Errors

_DESCRIPTION = """\
Compare the learners of maml_jax with plain PyTorch, in float64, from the same weights and the same
episodes: the query loss, the weights after every inner step, and the meta-gradient.

A cell is named algorithm/model/inner steps and, where they say something, the way that the inner
gradient is differentiated, the inner optimiser, and a number of outer updates by Adam after which
the meta-parameters are compared once more: maml/mlp/5/mixed/adam, reptile/mlp/1/100-updates. Its
figures are relative errors; parity/compare.py defines them.
"""
_EXIT_STATUS = """\
exit status: 0 if every error is within the bound, 1 if one is not, 2 if the arguments are wrong

examples:
  python -m parity --quick               the default cells, minutes on two cores
  python -m parity --quick --all         every cell, about twelve minutes
  python -m parity                       compiled exactly as for training: longer
  python -m parity --only mlp            the cells whose names contain mlp
  python -m parity --only /5/ --json     those of five inner steps, for a program to read
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that `arguments` ask for, print their errors, and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        import torch
    except ModuleNotFoundError:
        print("parity: PyTorch is missing; install maml-jax[parity]", file=sys.stderr)
        return 2
    from parity.cells import ALGORITHMS, CELLS, INNER_STEPS, MODELS

    everything = options.all or options.only
    cells = [c for c in CELLS if options.only in c.name and (everything or c.by_default)]
    if not cells:
        parts = (ALGORITHMS, MODELS, map(str, INNER_STEPS), _rest(CELLS))
        print(
            f"parity: no cell's name contains {options.only!r}; the names are made of "
            f"{' / '.join(' | '.join(part) for part in parts)}",
            file=sys.stderr,
        )
        return 2
    # The arrays are small, and threads that wait for one another cost more than they compute.
    torch.set_num_threads(1)
    started = time.monotonic()
    results = _run(cells, options)
    seconds = time.monotonic() - started
    print(_as_json(results) if options.json else _as_table(results, seconds))
    return 0 if all(result.passed for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m parity",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="cells whose name contains TEXT")
    parser.add_argument(
        "--all", action="store_true", help="the cells that take long too; --only finds them as well"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object: versions, bound, cells; an error that is no number is null",
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="of the weights and the episodes, an integer of at least 0 (default: 0)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compile the JAX side without optimisations, several times faster on a CPU; else it "
        "is compiled exactly as for training",
    )
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def _rest(cells: "Iterable[Cell]") -> list[str]:
    """The parts of names after the inner steps."""
    return list(dict.fromkeys(part for cell in cells for part in cell.name.split("/")[3:]))


def _run(cells: "list[Cell]", options: argparse.Namespace) -> "list[Errors]":
    from parity.compare import compare

    def run(cell: "Cell") -> "Errors":
        return compare(cell, seed=options.seed, quick=options.quick)

    progress = sys.stderr.isatty()
    results = []
    # Most of the time goes to XLA's compiler, which leaves the interpreter free for another cell.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(run, cells):
            results.append(result)
            if progress:
                line = f"\r\033[K{len(results)}/{len(cells)} {result.cell.name}"
                print(line, end="", file=sys.stderr, flush=True)
    if progress:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return results


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("maml-jax", "jax", "flax", "torch")}


def _as_json(results: "list[Errors]") -> str:
    from parity.compare import BOUND, OUTER_BOUND

    report = {
        "versions": _versions(),
        "dtype": "float64",
        "bound": BOUND,
        "bound_after_updates": OUTER_BOUND,
        "passed": all(result.passed for result in results),
        "cells": [_cell_as_dict(result) for result in results],
    }
    return json.dumps(report, indent=2, allow_nan=False)


def _cell_as_dict(result: "Errors") -> dict[str, Any]:
    def number(error: float) -> float | None:
        return error if math.isfinite(error) else None

    return {
        "name": result.cell.name,
        "algorithm": result.cell.algorithm,
        "model": result.cell.model,
        "inner_steps": result.cell.inner_steps,
        "differentiate": result.cell.differentiate,
        "inner_optimizer": result.cell.optimizer,
        "updates": result.cell.updates,
        "loss": number(result.loss),
        "weights": [number(error) for error in result.weights],
        "meta_gradient": number(result.meta_gradient),
        "after_updates": number(result.outer) if result.cell.updates else None,
        "worst": result.worst,
        "passed": result.passed,
    }


def _as_table(results: "list[Errors]", seconds: float) -> str:
    from parity.compare import BOUND, OUTER_BOUND

    titles = ("cell", "loss", "weights", "meta-gradient", "after updates", "", "largest at")
    rows: list[tuple[str, ...]] = [titles]
    for result in results:
        errors = (result.loss, result.largest_weights, result.meta_gradient)
        figures = [f"{error:.1e}" for error in errors]
        figures.append(f"{result.outer:.1e}" if result.cell.updates else "")
        verdict = "ok" if result.passed else "FAIL"
        rows.append((result.cell.name, *figures, verdict, result.worst))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        name, *numbers, verdict, worst = (
            cell.rjust(width) if 1 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([name, *numbers, _coloured(verdict), worst]).rstrip())
    versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
    passed = sum(result.passed for result in results)
    return "\n".join(
        [
            f"Relative errors against PyTorch in float64, at most {BOUND:.0e}, "
            f"after outer updates {OUTER_BOUND:.0e} ({versions})",
            "",
            *lines,
            "",
            f"{passed} of {len(results)} cells within the bound, {seconds:.0f} s",
        ]
    )


def _coloured(verdict: str) -> str:
    colours = {"ok": "32", "FAIL": "31"}
    if not sys.stdout.isatty() or verdict.strip() not in colours:
        return verdict
    return f"\033[{colours[verdict.strip()]}m{verdict}\033[0m"


if __name__ == "__main__":
    sys.exit(main())
