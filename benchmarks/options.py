"""The options of `python -m benchmarks`: what they may be, what is refused before any work."""

import argparse
import difflib
import re
import shlex
from pathlib import Path

from benchmarks import machine, runner, script
from benchmarks.peers import BEFORE, FORMS, LOWER_PRECISION, PEERS, REFERENCE, SLOW
from benchmarks.workloads import QUICK, WORKLOADS, Workload

REPEATS, QUICK_REPEATS = 7, 3
QUICK_MINUTES = 3.0
PATIENCE = 900.0

DESCRIPTION = """\
Times the gradient of one whole MAML update (mean loss and meta-gradient over a batch of tasks;
sampling excluded) in this project and in its peers, in float32, from the same episodes and the
same initial weights. Some workloads time whole training, sampling and Adam included. A peer that
computes another gradient is refused and gets no time.
"""
EPILOG = """\
workloads:
  {workloads}
  (* in --quick too; + on a CPU only when --only has its whole name)
peers:
  {peers}
  {reference} always runs: the others' gradients are compared with its gradient, and their
  times are divided by its time; --quick leaves out {slow}, unless named;
  --quick and a CPU leave out {lower_precision}, unless named

how it is measured:
  Each peer has a process of its own. They take turns (A B C A B C ...), one step each, or
  as many as fill 0.2 s, after 0.3 s of untimed ones, so that a machine which slows down slows
  all. `compile s` is what the first call cost beyond the second. Memory on a CPU is the resident
  set's peak during the timed steps, and its growth over what imports and inputs took; on a GPU
  it is the allocator's peak.
  The gradients are compared in float64 on few tasks, to 1e-6, and in float32 on all, to 0.1;
  of training the change of the weights over two updates on given tasks, in float32 by an Adam whose
  eps is 1: with the usual one its first updates are signs, which rounding decides near zero.
  The floor of a workload is the least time that its operations and bytes allow on this machine,
  at the speed of a large matrix product and of memory, both measured first (`benchmarks.floor`).
  Both frameworks use all cores, and PyTorch's threads wait for each other by spinning: on a
  machine that does something else meanwhile its times are worthless.

two versions of this project:
  --before DIR adds the peer {before}: the checkout in DIR, by its own `maml_jax` and its own
  `benchmarks`, with this Python and these packages, on the same inputs. It takes its turns like
  any peer. Both versions begin with an empty cache, so that both compile their C++.

examples:
  python -m benchmarks --quick                      {minutes:g} minutes at most
  python -m benchmarks --before DIR --peers maml_jax                old against new alone
  python -m benchmarks --device gpu --only training-conv4           a workload takes some minutes
  python -m benchmarks --only sinusoid --peers torch_func --repeats 21
  python -m benchmarks --json --device gpu > results.json
  python -m benchmarks.results_table benchmarks/results/FILE.json   the table in Markdown
  python -m benchmarks.chart benchmarks/results/FILE.json OUT.png   the bars
  python -m benchmarks.readme benchmarks/results/FILE.json          the tables of the documents

exit status: 0; 1 if a peer was refused or failed; 2 for bad arguments; 130 after Ctrl-C, which
  keeps the workloads that are finished.
"""


def make_parser() -> script.Parser:
    """The parser of the command line."""
    epilog = EPILOG.format(
        workloads="\n  ".join(
            f"{'*' if workload.name in QUICK else '+' if workload.gpu_only else ' '} "
            f"{workload.name}"
            for workload in WORKLOADS
        ),
        peers=", ".join(PEERS),
        reference=REFERENCE,
        before=BEFORE,
        slow=", ".join(SLOW),
        lower_precision=", ".join(LOWER_PRECISION),
        minutes=QUICK_MINUTES,
    )
    parser = script.parser("benchmarks", DESCRIPTION, epilog=epilog)
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help=f"the workloads with a *, {QUICK_REPEATS} repeats instead of {REPEATS}, "
        f"{QUICK_MINUTES:g} minutes",
    )
    add("--device", choices=("cpu", "gpu"), help="default: gpu if JAX sees one, else cpu")
    add(
        "--only",
        metavar="A,B",
        help="the workloads with one of these texts in their names, in the order of the texts",
    )
    add("--peers", metavar="A,B", help=f"these peers, beside {REFERENCE}")
    add(
        "--workload",
        metavar="M:NAME",
        help="a workload of your own instead, an own.OwnWorkload (docs/benchmark-your-own.md)",
    )
    add(
        "--peer",
        metavar="M:NAME",
        action="append",
        default=[],
        help="your own step in PyTorch, timed on --workload; may be given again",
    )
    add_before(parser)
    add("--repeats", metavar="N", type=_at_least_one, help="how many times to time each")
    add("--minutes", metavar="M", type=_positive, help="begin no workload after so long")
    add(
        "--patience",
        metavar="S",
        type=_positive,
        help=f"seconds for a peer to answer, compiling included (default: {PATIENCE:g})",
    )
    add("--json", action="store_true", help="print the results file instead of the table")
    add(
        "--out",
        metavar="FILE",
        help="where to write the results, a file that does not exist; "
        "default: benchmarks/results/DATE-DEVICE.json, with -part if not all was run",
    )
    return parser


def add_before(parser: argparse.ArgumentParser) -> None:
    """The option `--before`; `checked_checkout` checks it."""
    parser.add_argument(
        "--before",
        metavar="DIR",
        type=Path,
        help="a checkout of this project to compare with, from 95ac766 on",
    )


def chosen_workloads(
    parser: argparse.ArgumentParser, text: str | None, quick: bool, device: str
) -> list[Workload]:
    """Those that `--only`, `--quick` and the device leave."""
    parts = [""] if text is None else text.split(",")
    for part in parts if text is not None else ():
        if not part or not any(part in workload.name for workload in WORKLOADS):
            names = ", ".join(workload.name for workload in WORKLOADS)
            parser.error(f"argument --only: was {part!r}; it must be part of one of {names}")
    chosen = list(dict.fromkeys(w for part in parts for w in WORKLOADS if part in w.name))
    if quick and text is None:
        chosen = sorted((w for w in chosen if w.name in QUICK), key=lambda w: QUICK.index(w.name))
    return [w for w in chosen if device == "gpu" or not w.gpu_only or w.name in parts]


def chosen_peers(
    parser: argparse.ArgumentParser, text: str | None, quick: bool, device: str
) -> dict[str, str]:
    """The modules of the peers after `--peers`, or of the usual ones, by name."""
    if text is None:
        left_out = {*FORMS, *(SLOW if quick else ())}
        left_out |= {*(LOWER_PRECISION if quick or device == "cpu" else ())}
        return {name: module for name, module in PEERS.items() if name not in left_out}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PEERS:
            nearest = difflib.get_close_matches(name, PEERS, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            choice = ", ".join(PEERS)
            parser.error(f"argument --peers: was {name!r}; {hint}it may be any of {choice}")
    return {name: PEERS[name] for name in dict.fromkeys([REFERENCE, *names])}


def chosen_device(parser: argparse.ArgumentParser, wanted: str | None) -> tuple[str, str | None]:
    """The device and, of a GPU, its name."""
    if wanted == "cpu":
        return "cpu", None
    name = machine.gpu_name("cuda" if wanted == "gpu" else None)
    if wanted == "gpu" and name is None:
        parser.error("argument --device: was 'gpu'; JAX sees none here, so it may be 'cpu'")
    return ("cpu", None) if name is None else ("gpu", name)


def checked_checkout(parser: argparse.ArgumentParser, folder: Path | None) -> Path | None:
    """The folder after `--before`, refused if its own packages are not what would run."""
    if folder is None:
        return None
    for part in ("maml_jax", "benchmarks/worker.py", "benchmarks/peers/maml_jax.py"):
        if not (folder / part).exists():
            parser.error(
                f"argument --before: was {str(folder)!r}, which has no {part}; "
                "it must be a checkout of this project, from 95ac766 on"
            )
    origin = runner.package_origin(folder.resolve())
    if not origin.is_relative_to(folder.resolve()):
        parser.error(
            f"argument --before: was {str(folder)!r}, but this Python imports maml_jax from "
            f"{origin} even there; take a Python without an editable installation of it"
        )
    return folder.resolve()


def checked_out(parser: argparse.ArgumentParser, text: str | None) -> Path | None:
    """The file to write, refused before the work rather than after it."""
    if text is None:
        return None
    file = Path(text)
    if file.exists():
        parser.error(f"argument --out: was {text!r}, which exists; it must be a new file")
    if not file.parent.is_dir():
        parser.error(f"argument --out: was {text!r}; its folder must exist")
    return file


def as_command(options: argparse.Namespace, device: str) -> str:
    """What repeats the run elsewhere: the device is named, the output file and folders are not."""
    words = ["python", "-m", "benchmarks", "--device", device]
    words += ["--quick"] * options.quick
    words += ["--before", "DIR"] * (options.before is not None)
    words += [word for peer in options.peer for word in ("--peer", peer)]
    for option in ("workload", "only", "peers", "repeats", "minutes", "patience"):
        value = getattr(options, option)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        words += [] if value is None else [f"--{option}", text]
    return shlex.join(words)


def _at_least_one(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"was {text!r}; it must be an integer of at least 1")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"was {text!r}; it must be a number above 0")
    return value
