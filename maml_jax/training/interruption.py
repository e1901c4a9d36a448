"""Signals that ask a run to stop: the first is heeded soon, the second at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGINT or SIGTERM came; a second one ends the process.

    Python calls handlers between its own instructions, which may be many seconds away while a
    device computes. The number of each signal also goes to a socket, at once; a thread reads there.
    Only the main thread may handle signals: in any other none is handled here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = threading.Event()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def listen() -> None:
        while number := ours.recv(1):
            if number[0] not in SIGNALS:
                continue
            if came.is_set():
                os.write(2, b"\nstopped at once; the last checkpoint is kept\n")
                os._exit(128 + number[0])
            came.set()
            os.write(2, b"\nstopping after this dispatch; once more: at once\n")

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield came.is_set
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            # None: of a handler that another library has set, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        theirs.close()  # which ends the thread
        thread.join()
        ours.close()
        sys.stderr.flush()
