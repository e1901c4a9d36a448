"""`python -m parity.audit.trials`: how often the auditor is wrong.

False alarms: an operation of which all is right or not supported at seed 0 is audited at 20 seeds
and 3 scales; a verdict other than "right" is one. Planted errors: `planted.py`'s, in every
operation that has its second derivative right, all to be caught.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maml_jax.files import write_file
from parity.audit.backends import Mode, Runner
from parity.audit.cells import RIGHT, UNSUPPORTED, Truth, judged, transformations_of
from parity.audit.operations import OPERATIONS
from parity.audit.plan import operations
from parity.audit.planted import FAULTS, audit_fault
from parity.audit.work import run_all
from parity.counts import at_least
from parity.run_metadata import run_metadata

SCALES = (1 / 3, 1.0, 3.0)
STACKS = ("torch", "jax")
NAMES = ("grad", "grad∘grad", "jvp∘jvp", "grad∘vmap∘grad", "grad∘grad∘grad")
"""Of all that PyTorch runs eagerly; JAX compiles, and has the second and the fourth."""


@dataclass(frozen=True)
class Trial:
    """Of one operation: the verdicts of right transformations at all seeds and scales.

    There are none if a transformation is neither right nor unsupported, for then it is not known
    what is right.
    """

    operation: str
    stack: str
    verdicts: int
    alarms: list[str]
    closest: float
    """The largest error as a fraction of its bound."""
    planted: int
    missed: list[str]


@dataclass(frozen=True)
class TrialJob:
    """One operation of a stack."""

    stack: str
    operation: str
    seeds: int

    def run(self) -> Trial:
        """Its trial; JAX's programs are compiled once."""
        return trial(self.stack, self.operation, range(self.seeds))


def trial(stack: str, name: str, seeds: Sequence[int], scales: Sequence[float] = SCALES) -> Trial:
    """Audit one operation at all seeds and scales, then with each fault planted."""
    operation = next(o for o in OPERATIONS if o.name == name)
    runner = Runner.of(operation, stack, Mode("func" if stack == "torch" else "jit", "float64"))
    names = NAMES if stack == "torch" else (NAMES[1], NAMES[3])
    chosen = [t for t in transformations_of(operation, stack) if t.name in names]
    start = Truth(operation, stack, 0, 1.0)
    verdicts = {t: judged(runner, t, start, name, "").verdict for t in chosen}
    right = [t for t, verdict in verdicts.items() if verdict == RIGHT]
    known = all(verdict in (RIGHT, UNSUPPORTED) for verdict in verdicts.values())
    count, alarms, closest = 0, [], 0.0
    for seed in seeds if known else ():
        for scale in scales if operation.scaled else (1.0,):
            truth = Truth(operation, stack, seed, scale)
            for transformation in right:
                cell = judged(runner, transformation, truth, name, "")
                count += 1
                if cell.verdict != RIGHT:
                    alarms.append(f"{transformation.name} {seed} {scale:.3g} {cell.verdict}")
                else:
                    closest = max(closest, (cell.error or 0.0) / (cell.bound or 1.0))
    faults = FAULTS if any(t.name == "grad∘grad" for t in right) else []
    names = ("grad", "grad∘grad")
    planted = [audit_fault(operation, stack, fault, names, start, runner) for fault in faults]
    found = [p for p in planted if p.changes]
    return Trial(
        name, stack, count, alarms, closest, len(found), [p.fault for p in found if not p.caught]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials, print and write the counts; 1 if there was an alarm or a miss."""
    parser = argparse.ArgumentParser(prog="python -m parity.audit.trials", description=__doc__)
    parser.add_argument(
        "--seeds", type=at_least(1), default=20, help="how many seeds (default: 20)"
    )
    parser.add_argument("--stack", nargs="+", choices=STACKS, default=list(STACKS))
    parser.add_argument("--only", nargs="+", default=[], help="names or kinds of operations")
    parser.add_argument("--out", type=Path, help="write the counts to this file, as JSON")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    jobs = [
        TrialJob(stack, operation.name, options.seeds)
        for stack in options.stack
        for operation in operations(stack, options.only)
        if operation.kind != "programs"
    ]
    if not jobs:
        parser.error(f"--only had {' '.join(options.only)}; no operation has such a name or kind")
    trials = run_all([job.run for job in jobs], [job.operation for job in jobs])
    found: dict[str, Any] = run_metadata("python -m parity.audit.trials " + _words(options))
    found |= {"seeds": options.seeds, "scales": list(SCALES)}
    found |= {stack: summary([t for t in trials if t.stack == stack]) for stack in options.stack}
    found |= {"seconds": round(time.monotonic() - started, 1)}
    found |= {"trials": [asdict(t) for t in trials]}
    if options.out:
        write_file(
            options.out, json.dumps(found, indent=1, ensure_ascii=False) + "\n", argument="out"
        )
    for stack in options.stack:
        print(stack, found[stack])
    wrong = any(t.alarms or t.missed for t in trials)
    return int(wrong)


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """The counts of all operations of a stack."""
    return {
        "operations": len(trials),
        "known_to_be_right": sum(t.verdicts > 0 for t in trials),
        "verdicts": sum(t.verdicts for t in trials),
        "false_alarms": sum(len(t.alarms) for t in trials),
        "closest": max((t.closest for t in trials), default=0.0),
        "planted": sum(t.planted for t in trials),
        "caught": sum(t.planted - len(t.missed) for t in trials),
    }


def _words(options: argparse.Namespace) -> str:
    only = f" --only {' '.join(options.only)}" if options.only else ""
    return f"--stack {' '.join(options.stack)} --seeds {options.seeds}{only}"


if __name__ == "__main__":
    sys.exit(main())
