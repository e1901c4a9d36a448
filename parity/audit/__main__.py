"""`python -m parity.audit`: are gradients of gradients right in what is installed here?"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maml_jax.errors import InputError, check_seed
from maml_jax.extras import require
from maml_jax.files import write_file
from parity.counts import at_least

STACKS = ("torch", "jax", "maml-jax")
_DESCRIPTION = """\
Audit derivatives of derivatives: every operation that meta-learners use, under each composition of
grad, jvp and vmap, in the installed PyTorch and JAX and in this library. A verdict rests on two
references: the operation written in primitives and differentiated by the other framework, and
differences of its values in extended precision. docs/audit.md has the details.
"""
_EXIT_STATUS = """\
exit status: 0 if nothing is wrong, 1 if a cell is, 2 if the arguments are wrong

examples:
  python -m parity.audit                                 every operation, in its main modes
  python -m parity.audit --all                           every mode, several times as long
  python -m parity.audit --stack torch --only norm       the norms of PyTorch
  python -m parity.audit --my-function mine:loss         a function of your own, at mine.example()
  python -m parity.audit --kinks                         who returns what at a kink or a tie
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the audit that `arguments` select, print it, and return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    try:
        require("torch", "parity").set_num_threads(1)  # the arrays are small
        check_seed("seed", options.seed)
        if options.out is not None and not options.out.parent.is_dir():
            raise InputError(f"`out` was {options.out}; its folder must exist.")
        if options.out is not None and options.out.is_dir():
            raise InputError(f"`out` was {options.out}, a folder; name a file in it.")
        _check_beside(options, "my_function", ("stack", "only", "all", "list", "kinks", "seed"))
        _check_beside(options, "my_function", ("device", "processes", "json", "out"))
        _check_beside(options, "kinks", ("stack", "only", "list"))
        if options.my_function:
            return _audit_own(options.my_function, options.example)
        jobs = _jobs(options)
    except InputError as error:
        message = str(error)
        for name in vars(options):
            message = message.replace(f"`{name}`", f"--{name.replace('_', '-')}")
        print(f"parity.audit: {message}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{job.stack} {job.operation}" for job in jobs))
        return 0
    return _audit(jobs, options, words)


def _audit(jobs: Any, options: argparse.Namespace, words: list[str]) -> int:
    from parity.audit import audit_report
    from parity.audit.cells import WRONG
    from parity.audit.kinks import conventions
    from parity.audit.work import run_all
    from parity.run_metadata import run_metadata

    started = time.monotonic()
    names = [f"{job.stack} {job.operation}" for job in jobs]
    found = run_all([job.run for job in jobs], names, options.processes) if jobs else []
    cells = [cell for of_one, _ in found for cell in of_one]
    processor = sum(seconds for _, seconds in found)
    at_kinks = conventions() if options.kinks or options.all else []
    seconds = time.monotonic() - started
    shown = _without_out(words)
    results = run_metadata(" ".join(["python -m parity.audit", *shown]))
    results |= audit_report.to_json(cells, at_kinks) | {
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
    }
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    if options.out is not None:
        write_file(options.out, text + "\n", argument="out")
    if options.json:
        print(text)
    else:
        parts = [audit_report.table(cells), audit_report.details(cells)] if cells else []
        parts += [audit_report.conventions_table(at_kinks)] if at_kinks else []
        print("\n\n".join(part for part in parts if part))
        took = f"{seconds:.0f} s, {processor:.0f} s of processors"
        print(f"\n{len(cells)} cells of {len(jobs)} operations in {took}.")
    return int(any(cell.verdict == WRONG for cell in cells))


def _jobs(options: argparse.Namespace) -> Any:
    """An operation of a stack each.

    Raises:
      InputError: a name that no operation has; a device that is not there.
    """
    from parity.audit.plan import operations
    from parity.audit.work import Job

    if options.kinks:
        return []
    stacks = options.stack or STACKS
    known = {word for stack in stacks for o in operations(stack) for word in (o.name, o.kind)}
    for word in options.only:
        if word not in known:
            raise InputError(f"`only` was {word!r}; --list shows the operations.")
    if options.device == "gpu" and not _gpu(stacks):
        raise InputError("`device` was 'gpu'; no accelerator is here for every stack: use cpu.")
    return [
        Job(stack, o.name, options.all, options.seed, 1.0, _device(stack, options.device))
        for stack in stacks
        for o in operations(stack, options.only)
    ]


def _check_beside(options: argparse.Namespace, chosen: str, others: Sequence[str]) -> None:
    """An `InputError` where an option is given that has no meaning beside the chosen one."""
    usual = _parser().parse_args([])
    for name in others if getattr(options, chosen) else ():
        if getattr(options, name) != getattr(usual, name):
            raise InputError(
                f"`{name}` was {getattr(options, name)}; beside `{chosen}` it has no meaning."
            )


def _gpu(stacks: Sequence[str]) -> bool:
    import jax
    import torch

    have = {"torch": torch.cuda.is_available(), "jax": jax.default_backend() != "cpu"}
    return all(have["torch" if stack == "torch" else "jax"] for stack in stacks)


def _device(stack: str, device: str) -> str:
    return "cuda" if stack == "torch" and device == "gpu" else device


def _audit_own(named: str, example: str) -> int:
    """Audit `module:function` at what the module's `example` is, or returns."""
    from parity.audit.own_function import check

    module_name, _, name = named.partition(":")
    if not name or not module_name:
        raise InputError(f"`my_function` was {named!r}; it must be module:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"`my_function` was {named!r}; there is no module {error.name}."
        ) from error
    for attribute, option in ((name, "my_function"), (example, "example")):
        if not hasattr(module, attribute):
            raise InputError(f"`{option}` was {attribute!r}; {module_name} has no such name.")
    given = getattr(module, example)
    report = check(getattr(module, name), given() if callable(given) else given)
    print(report)
    return int(not report.correct)


def _without_out(words: list[str]) -> list[str]:
    """The words without `--out FILE`."""
    if "--out" not in words:
        return words
    place = words.index("--out")
    return words[:place] + words[place + 2 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m parity.audit",
        description=_DESCRIPTION,
        epilog=_EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--stack", nargs="+", choices=STACKS, help="what is audited (default: all three)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", default=[], help="operations, or kinds such as norm"
    )
    parser.add_argument(
        "--all", action="store_true", help="every mode: compiled and not, float32 too, and kinks"
    )
    parser.add_argument("--list", action="store_true", help="print the names, compute nothing")
    parser.add_argument(
        "--kinks", action="store_true", help="only what is returned at kinks and ties"
    )
    parser.add_argument(
        "--my-function", metavar="MODULE:FUNCTION", help="audit a loss or a layer of your own"
    )
    parser.add_argument(
        "--example",
        default="example",
        metavar="NAME",
        help="in that module: the arguments, or a function that returns them (default: example)",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--processes", type=at_least(1), metavar="N", help="how many (default: one for each core)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write that object to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
