"""The cells of many operations, in as many processes as there are cores."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from parity.audit.cells import Cell, cells
from parity.audit.operations import OPERATIONS
from parity.audit.plan import plan
from parity.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One operation of a stack."""

    stack: str
    operation: str
    everything: bool
    seed: int
    scale: float
    device: str

    def run(self) -> tuple[list[Cell], float]:
        """Its cells, and the seconds of processors that they took."""
        started = time.process_time()
        operation = next(o for o in OPERATIONS if o.name == self.operation)
        modes = plan(operation, self.stack, self.everything)
        found = cells(
            operation, self.stack, modes, seed=self.seed, scale=self.scale, device=self.device
        )
        return list(found), time.process_time() - started


def run_all(
    jobs: Sequence[Callable[[], T]], names: Sequence[str], processes: int | None = None
) -> list[T]:
    """What the jobs return, in their order, with signs of life on stderr."""
    count = min(processes or os.cpu_count() or 1, len(jobs))
    progress = Progress(len(jobs), "operations")
    found: dict[int, T] = {}
    if count <= 1:
        for k, job in enumerate(jobs):
            found[k] = job()
            progress.show(len(found), names[k])
        progress.close()
        return list(found.values())
    context = multiprocessing.get_context("spawn")  # JAX and PyTorch have threads
    with ProcessPoolExecutor(count, context, initializer=_prepare_worker) as pool:
        pending = {pool.submit(job): k for k, job in enumerate(jobs)}
        try:
            for future in as_completed(pending):
                found[pending[future]] = future.result()
                progress.show(len(found), names[pending[future]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.close()
    return [found[k] for k in range(len(jobs))]


def _prepare_worker() -> None:
    """One thread, for the arrays are small and threads would wait; and it ends with its parent."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing, and they would compute on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
