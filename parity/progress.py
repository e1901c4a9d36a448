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


class Progress:
    """How many are done: one line that is overwritten, or a line now and then in a file.

    Args:
      total: how many there are.
      what: what they are called, in the plural.
    """

    def __init__(self, total: int, what: str):
        self.total, self.what = total, what
        self.terminal = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def show(self, done: int, name: str) -> None:
        """Say that so many are done, of which `name` is the last."""
        now = time.monotonic()
        if not self.terminal and now - self.shown < EVERY:
            return
        self.shown = now
        left = (now - self.started) / done * (self.total - done)
        line = f"{done}/{self.total} {self.what}, about {left:.0f} s left, last {name}"
        before, after = ("\r\033[K", "") if self.terminal else ("", "\n")
        print(before + line, end=after, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the line away."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
