"""`python -m parity`: the relative errors of maml_jax against PyTorch."""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from maml_jax.errors import InputError
from maml_jax.extras import require
from maml_jax.files import write_file
from parity.counts import at_least
from parity.oracles import ORACLES
from parity.progress import Progress

if TYPE_CHECKING:
    from parity.cells import Cell
    from parity.compare import Errors

PLAIN = "PyTorch"
_DESCRIPTION = """\
Compare the learners of maml_jax with plain PyTorch, in float64, from the same weights and the same
episodes: the query loss, the weights after every inner step, and the meta-gradient.

A comparison is called a cell and is named algorithm/model/inner steps, followed by the way that the
inner gradient is differentiated, the inner optimizer, and a number of outer updates by Adam after
each of which the meta-parameters are compared, where these apply: maml/mlp/5/mixed/adam,
reptile/mlp-sinusoid/1/100-updates. All figures are relative errors; parity/relative_error.py
defines them, and parity/rounding.py those of float32.
"""
_EXIT_STATUS = """\
exit status: 0 if every error is within its bound, 1 if one is not, 2 if the arguments are wrong

examples:
  python -m parity                       the default cells, minutes on two cores
  python -m parity --all                 every cell, several times as long
  python -m parity --as-trained          compiled exactly as for training, which takes longer
  python -m parity --float32             also what float32 costs on each side
  python -m parity --against higher      compared with a library that others wrote
  python -m parity --only maml/mlp       the cells of MAML on the model mlp
  python -m parity --only mlp gru-sequences    the cells of these models
  python -m parity --only reptile --list       the names of Reptile's cells
  python -m parity --only 5 --json       those of five inner steps, for a program to read
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that `arguments` select, print their errors, and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        # The arrays are small: several threads would cost more in waiting than they gain.
        require("torch", "parity").set_num_threads(1)
        against = _against(options)
        cells = _cells(options)
        if options.out is not None and not options.out.parent.is_dir():
            raise InputError(f"`out` was {options.out}; its folder must exist.")
    except InputError as error:
        message = str(error).replace("`only`", "--only").replace("`out`", "--out")
        print(f"parity: {message}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(cell.name for cell in cells))
        return 0
    from maml_jax.kernels.convolution import in_forms
    from parity import cell_report
    from parity.run_metadata import run_metadata

    metadata = run_metadata(" ".join(["python -m parity", *_effective(options)]))
    started = time.monotonic()
    forms = in_forms(options.convolution) if options.convolution else nullcontext()
    with forms:
        results = _run(cells, options)
    seconds = time.monotonic() - started
    found = metadata | cell_report.to_json(results, against) | {"seconds": round(seconds, 1)}
    text = json.dumps(found, indent=1, allow_nan=False)
    if options.out is not None:
        write_file(options.out, text + "\n", argument="out")
    print(text if options.json else cell_report.to_table(results, against, seconds))
    return 0 if all(result.passed for result in results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m parity",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="PARTS",
        default=[],
        help="the cells whose names have these parts in a row, such as maml/mlp, mlp or mlp/5; "
        "those that take long too",
    )
    parser.add_argument("--all", action="store_true", help="the cells that take long too")
    parser.add_argument(
        "--list", action="store_true", help="print the names of the cells and compute nothing"
    )
    parser.add_argument(
        "--against",
        choices=ORACLES,
        help="compare with this library, in the cells that it can express; "
        "pip install 'maml-jax[oracles]' installs both (default: plain PyTorch loops)",
    )
    parser.add_argument(
        "--float32",
        action="store_true",
        help="compute the meta-gradient in float32 too, and compare each side with float64 and "
        "with the other; about half as long again",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object with versions, bounds and cells; an error that is not a finite "
        "number is null",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write that object to FILE")
    parser.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        help="seed of the weights and the episodes, an integer of at least 0 (default: 0)",
    )
    parser.add_argument(
        "--as-trained",
        action="store_true",
        help="compile the JAX side exactly as training does; by default, on a CPU, XLA's "
        "optimisations are left out, which take several times as long as everything else",
    )
    parser.add_argument(
        "--convolution",
        choices=("patches", "taps", "grouped"),
        help="run convolutions on the JAX side in this form, one that accelerators may run; by "
        "default, on a CPU, in C++",
    )
    return parser


def _effective(options: argparse.Namespace) -> list[str]:
    """The options that affect the results."""
    words = [f"--{name}" for name in ("all", "float32") if getattr(options, name)]
    words += ["--as-trained"] * options.as_trained
    words += ["--convolution", options.convolution] if options.convolution else []
    words += ["--only", *options.only] if options.only else []
    words += ["--against", options.against] if options.against else []
    return words + (["--seed", str(options.seed)] if options.seed else [])


def _against(options: argparse.Namespace) -> str:
    """The name and version of what the learners are compared with.

    Raises:
      InputError: it is not installed.
    """
    if options.against is None:
        return PLAIN
    require(options.against, "oracles")
    return f"{options.against} {ORACLES[options.against].version()}"


def _cells(options: argparse.Namespace) -> "list[Cell]":
    """The cells that the options select.

    Raises:
      InputError: there are none.
    """
    from parity.cells import CELLS, select

    oracle = ORACLES[options.against] if options.against else None
    known = [cell for cell in CELLS if oracle is None or oracle.expresses(cell)]
    if options.only:
        chosen = {cell for pattern in options.only for cell in select(known, pattern)}
        return [cell for cell in known if cell in chosen]
    return [cell for cell in known if options.all or cell.by_default]


def _run(cells: "list[Cell]", options: argparse.Namespace) -> "list[Errors]":
    from parity.compare import compare

    oracle = ORACLES[options.against] if options.against else None

    def run(cell: "Cell") -> "Errors":
        return compare(
            cell,
            reference=oracle.reference(cell.algorithm) if oracle else None,
            seed=options.seed,
            as_trained=options.as_trained,
            float32=options.float32,
        )

    # Most of the time goes to XLA's compiler, which leaves the interpreter free for another cell.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = {pool.submit(run, cell): cell for cell in cells}
        try:
            results = {}
            progress = Progress(len(cells), "cells")
            for future in as_completed(pending):
                results[pending[future]] = future.result()
                progress.show(len(results), pending[future].name)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else the pool would finish all cells first
            raise
    progress.close()
    return [results[cell] for cell in cells]


if __name__ == "__main__":
    sys.exit(main())
