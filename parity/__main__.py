"""`python -m parity`: the table of errors."""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from maml_jax.errors import InputError
from maml_jax.extras import require
from parity.oracles import ORACLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from parity.cells import Cell
    from parity.compare import Errors

PLAIN = "PyTorch"
_DESCRIPTION = """\
Compare the learners of maml_jax with plain PyTorch, in float64, from the same weights and the same
episodes: the query loss, the weights after every inner step, and the meta-gradient.

A cell is named algorithm/model/inner steps and, where they say something, the way that the inner
gradient is differentiated, the inner optimiser, and a number of outer updates by Adam, after each
of which the meta-parameters are compared: maml/mlp/5/mixed/adam, reptile/mlp/1/100-updates. Its
figures are relative errors; parity/errors.py defines them, and parity/rounding.py those of float32.
"""
_EXIT_STATUS = """\
exit status: 0 if every error is within the bound, 1 if one is not, 2 if the arguments are wrong

examples:
  python -m parity                       the default cells, minutes on two cores
  python -m parity --all                 every cell, several times as long
  python -m parity --as-trained          compiled exactly as for training: longer too
  python -m parity --float32             and what float32 costs on each side
  python -m parity --against higher      held to a library that nobody here wrote
  python -m parity --only mlp            the cells whose names contain mlp
  python -m parity --only /5/ --json     those of five inner steps, for a program to read
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the cells that `arguments` ask for, print their errors, and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        # The arrays are small, and threads that wait for one another cost more than they compute.
        require("torch", "parity").set_num_threads(1)
        against = _against(options)
        cells = _cells(options)
        if options.out is not None and not options.out.parent.is_dir():
            raise InputError(f"--out was {options.out}; its folder must exist.")
    except InputError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    from parity import report
    from parity.circumstances import circumstances

    facts = circumstances(" ".join(["python -m parity", *_spelled(options)]))
    started = time.monotonic()
    results = _run(cells, options)
    seconds = time.monotonic() - started
    found = facts | report.record(results, against) | {"seconds": round(seconds, 1)}
    text = json.dumps(found, indent=1, allow_nan=False)
    if options.out is not None:
        options.out.write_text(text + "\n")
    print(text if options.json else report.as_table(results, against, seconds))
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
        "--against",
        choices=ORACLES,
        help="hold the learners to this library, which pip install 'maml-jax[oracles]' has, in the "
        "cells that it can express (default: this package's plain PyTorch loops)",
    )
    parser.add_argument(
        "--float32",
        action="store_true",
        help="the meta-gradient in float32 too, each side against float64 and against the other; "
        "about half as long again",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object: versions, bound, cells; an error that is no number is null",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write that object to FILE")
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="of the weights and the episodes, an integer of at least 0 (default: 0)",
    )
    parser.add_argument(
        "--as-trained",
        action="store_true",
        help="compile the JAX side exactly as training does; else, on a CPU, without XLA's "
        "optimisations, which take several times as long as all the rest",
    )
    return parser


def _spelled(options: argparse.Namespace) -> list[str]:
    """The options that decide what is found."""
    words = [f"--{name}" for name in ("all", "float32") if getattr(options, name)]
    words += ["--as-trained"] * options.as_trained
    words += ["--only", options.only] if options.only else []
    words += ["--against", options.against] if options.against else []
    return words + (["--seed", str(options.seed)] if options.seed else [])


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)


def _against(options: argparse.Namespace) -> str:
    """What the learners are held to, by name and version.

    Raises:
      InputError: it is not installed.
    """
    if options.against is None:
        return PLAIN
    require(options.against, "oracles")
    return f"{options.against} {ORACLES[options.against].version()}"


def _cells(options: argparse.Namespace) -> "list[Cell]":
    """Those that the options ask for.

    Raises:
      InputError: there are none.
    """
    from parity.cells import CELLS, INNER_STEPS, MODELS

    known = [c for c in CELLS if options.against is None or ORACLES[options.against].expresses(c)]
    everything = options.all or options.only
    cells = [c for c in known if options.only in c.name and (everything or c.by_default)]
    if not cells:
        algorithms = dict.fromkeys(cell.algorithm for cell in known)
        parts = (algorithms, MODELS, map(str, INNER_STEPS), _rest(known))
        raise InputError(
            f"no cell's name contains {options.only!r}; the names are made of "
            f"{' / '.join(' | '.join(part) for part in parts)}"
        )
    return cells


def _rest(cells: "Iterable[Cell]") -> list[str]:
    """The parts of names after the inner steps."""
    return list(dict.fromkeys(part for cell in cells for part in cell.name.split("/")[3:]))


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


if __name__ == "__main__":
    sys.exit(main())
