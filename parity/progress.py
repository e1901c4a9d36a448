"""Signs of life of what takes long: a line on stderr now and then."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY = 30.0
"""Seconds between two lines."""


@contextmanager
def still_alive(doing: str) -> Iterator[None]:
    """Say what is being done, and for how long, every 30 seconds, or at once on a terminal.

    A thread of its own says so, for a compiler keeps the calling one.
    """
    started, ended = time.monotonic(), threading.Event()

    def say() -> None:
        if sys.stderr.isatty():
            print(f"parity: {doing} …", file=sys.stderr, flush=True)
        while not ended.wait(EVERY):
            seconds = time.monotonic() - started
            print(f"parity: {doing}, {seconds:.0f} s so far", file=sys.stderr, flush=True)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
