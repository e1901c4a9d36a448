"""A worker's process as the runner sees it: an answer or an error, in bounded time."""

import json
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
"""This checkout: the folder that holds the packages."""


class WorkerError(Exception):
    """The worker crashed or did not answer in time; what it raised, or said last, is told."""


class Worker:
    """A process of `benchmarks.worker`; leaving the context ends it.

    Args:
      environment: its environment variables.
      folder: where it runs: the checkout whose packages it imports, or a user's own folder, where
        the environment's `PYTHONPATH` has the checkout.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path = ROOT):
        # A file: a worker that writes much would wait for ever on a pipe that nobody reads.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            encoding="utf-8",
            cwd=folder,
            env=dict(environment),
        )
        self._answers: queue.Queue[str | None] = queue.Queue()
        # Daemon: closing the worker ends it, and an interrupted run must not wait for it.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, message: Any, patience: float) -> dict[str, Any]:
        """Send one line, wait for one.

        Raises:
          WorkerError: the process ended, or `patience` seconds passed.
        """
        assert self._process.stdin is not None  # noqa: S101
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
            answer = self._answers.get(timeout=patience)
        except BrokenPipeError:
            answer = None
        except queue.Empty:
            raise WorkerError(f"no answer in {patience:.0f} s{self._said()}") from None
        if answer is None:
            raise WorkerError(f"{self._how_it_ended()}{self._said()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self._stderr.closed:
            return
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            _close(stream)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _said(self) -> str:
        self._stderr.seek(0)
        said = what_it_raised(self._stderr.read().decode(errors="replace"))
        return f": {said}" if said else ""


def what_it_raised(text: str) -> str:
    """The exception of the last traceback in a text, and the last place of it that is a user's.

    Without a traceback it is the last line.
    """
    _, traceback, raised = text.rpartition("Traceback (most recent call last):\n")
    if not traceback:
        return (text.strip().splitlines() or [""])[-1].strip()
    # Frames are indented, the exception is not; notes and further lines of it follow.
    error = next((line for line in raised.splitlines() if not line.startswith(" ")), "")
    places = re.findall(r'^  File "([^<].*)", line (\d+)', raised, re.MULTILINE)
    own = [
        f" ({Path(file).name}, line {line})"
        for file, line in places
        if not any(str(part) in file for part in (ROOT, "site-packages", sys.base_prefix))
    ]
    return error.strip() + (own[-1] if own else "")


def _close(stream: IO[Any] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except BrokenPipeError:
        return  # a line was still unsent when the process ended
