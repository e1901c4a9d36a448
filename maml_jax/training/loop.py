"""The loop that trains, from the host's side: `mj.train` and the program `maml-jax` both run it."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from maml_jax.batching import hosts, task_mesh
from maml_jax.data import TaskSource
from maml_jax.training.prefetch import EpisodePrefetcher
from maml_jax.training.updates import Nonfinite, State, Totals, make_updates
from maml_jax.types import Meta, MetaLearner

_log = logging.getLogger("maml_jax")


class TrainingError(RuntimeError):
    """Training cannot go on. `meta` holds the last good meta-parameters, where there are any."""

    def __init__(self, message: str, meta: Meta = None):
        super().__init__(message)
        self.meta = meta


class Progress(NamedTuple):
    """What the host learns each time that training stops to tell it."""

    state: State
    """On the devices that train; its memory is reused by the updates that follow."""
    update: int
    """How many updates were made."""
    metrics: dict[str, float]
    """Means over the updates since the last time, `skipped` in all; empty if none was made."""
    failed: bool
    """Whether the next update cannot be made: its tasks cannot be read, or it is not finite and
    `nonfinite` is `"stop"`."""


def run_updates(
    learner: MetaLearner,
    source: TaskSource,
    optimizer: optax.GradientTransformation,
    state: State,
    *,
    tasks_per_update: int,
    updates: int,
    next_stop: Callable[[int], int],
    observe: Callable[[Progress], bool],
    nonfinite: Nonfinite = "stop",
    chunk: int | None = None,
    label: str | None = None,
) -> State:
    """Train from `state` until `updates` updates were made, or `observe` says to stop.

    Args:
      learner: what is done with one task.
      source: where tasks come from.
      optimizer: makes changes of the meta-parameters from meta-gradients.
      state: where to start; its memory is reused.
      tasks_per_update: the tasks of one update, dealt over this process's devices, or over those
        of all hosts.
      updates: how many updates there are in all, those of `state` included.
      next_stop: `next_stop(done)`, the number of updates after which to call `observe` next.
      observe: told how far training is; returns whether to end it.
      nonfinite: as in `make_updates`.
      chunk: as in `make_updates`.
      label: what stands before the progress bar; None: no bar.

    Returns:
      The last state.

    Raises:
      TrainingError: an update was not finite, or its tasks cannot be read; `observe` was told,
        with the state before it.
    """
    mesh = task_mesh(tasks_per_update)
    run = make_updates(
        learner,
        source,
        optimizer,
        tasks_per_update=tasks_per_update,
        updates=updates,
        mesh=mesh,
        nonfinite=nonfinite,
        chunk=chunk,
    )
    done = int(state.update)
    try:
        prefetcher = EpisodePrefetcher(source, tasks_per_update, state.key, mesh)
    except OSError as error:
        raise _unread(done, error, state) from error
    state = hosts.place(state, prefetcher.everywhere)
    # The first dispatches are short, so that the bar moves as soon as the program is compiled.
    longest = 1
    with prefetcher, progress_bar(label, done, updates) as bar:
        bar.set_postfix_str("compiling")
        while done < updates:
            start, stop, failed = done, min(next_stop(done), updates), False
            unread: OSError | None = None
            totals: Totals | None = None
            while done < stop and not failed:
                try:
                    block, n = prefetcher.next_block(done, stop)
                except OSError as error:
                    unread, failed = error, True
                    break
                state, totals, stopped = run(state, totals, block, min(n, longest))
                failed, before, done = bool(stopped), done, int(state.update)
                bar.update(done - before)
                if longest == 1:
                    bar.set_postfix_str("")
                longest *= 2
            metrics = totals.means() if totals is not None and done > start else {}
            skipped = int(state.skipped)
            if metrics and skipped:
                metrics["skipped"] = skipped
            bar.set_postfix({name: f"{value:.3g}" for name, value in metrics.items()}, False)
            ended = observe(Progress(state, done, metrics, failed))
            if unread is not None:
                raise _unread(done, unread, state) from unread
            if failed:
                raise TrainingError(
                    f"the loss of update {done + 1}, or what it would have made of the "
                    "meta-parameters, was not finite; the state before it is kept. A smaller "
                    "inner or outer learning rate, or clipped meta-gradients, may help; "
                    "`nonfinite` may be 'skip', which leaves such updates out.",
                    on_one_device(state.meta),
                )
            if ended:
                break
    return state


def _unread(done: int, error: OSError, state: State) -> TrainingError:
    return TrainingError(
        f"the examples of update {done + 1} cannot be read: {error}", on_one_device(state.meta)
    )


def on_one_device(tree: Any) -> Any:
    """A copy that neither later updates nor a mesh of devices have to do with."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.array(leaf)), tree)


class _NoBar:
    """Stands where a progress bar would."""

    def __enter__(self) -> "_NoBar":
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, n: int) -> None: ...

    def set_postfix(self, *_: object) -> None: ...

    def set_postfix_str(self, *_: object) -> None: ...


def progress_bar(label: str | None, done: int, updates: int) -> Any:
    """A bar called `label`; None: one that shows nothing."""
    if label is None:
        return _NoBar()
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        _log.warning("no progress bar: tqdm is not installed: pip install 'maml-jax[cli]'")
        return _NoBar()
    return tqdm(total=updates, initial=done, unit="update", desc=label)
