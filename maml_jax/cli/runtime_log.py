"""What JAX's distributed runtime writes, in words: a program of its own, run by path.

    python runtime_log.py WORD < what C++ writes > nowhere

When a process dies, the runtime of each other writes twenty lines, ends with SIGABRT and cannot be
told otherwise. This reads these lines and prints one; all others pass. It ends with its input, when
the process that writes has ended.
"""

import re
import sys

LOST = (
    "another process has ended or did not come, so this one ends too; "
    "--resume goes on from the last checkpoint"
)
FATAL = "Terminating process because the JAX distributed service detected fatal errors"
NOISE = re.compile(
    r"\[Gloo\] Rank |^\d+ is connected to \d+ peer ranks|"
    r"^[EWI]\d{4} .*(coordination_service|preemption_sync_manager)|"
    r"^Additional GRPC error information|^:[A-Z_]+:|^=== Source Location Trace|^external/xla"
)
"""The runtime's lines about its own state."""


def main() -> None:
    """Pass on what is read, until the runtime gives up: then one line."""
    lost = False
    for line in sys.stdin:
        if FATAL in line or line.rstrip() == LOST:
            if not lost:
                print(f"{sys.argv[1]}: {LOST}", file=sys.stderr, flush=True)
            lost = True
        elif not lost and not NOISE.search(line):
            print(line, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
