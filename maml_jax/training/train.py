"""Meta-training as a function."""

from collections.abc import Callable
from typing import Any, get_args

import optax

from maml_jax.batching import hosts
from maml_jax.data import TaskSource
from maml_jax.errors import InputError, check_choice, check_count, check_seed
from maml_jax.training.loop import Progress, on_one_device, run_updates
from maml_jax.training.updates import Nonfinite, initial_state
from maml_jax.types import Meta, MetaLearner, Params


def train(
    learner: MetaLearner,
    params: Params,
    tasks: TaskSource,
    *,
    updates: int,
    optimizer: optax.GradientTransformation | None = None,
    tasks_per_update: int = 32,
    seed: int = 0,
    callback: Callable[[int, dict[str, float], Meta], object] | None = None,
    updates_per_dispatch: int = 50,
    chunk: int | None = None,
    nonfinite: Nonfinite = "stop",
    progress: bool = True,
) -> tuple[Meta, list[dict[str, Any]]]:
    r"""Meta-train: `updates` times, draw tasks, average their meta-gradients, take a step.

    $$\theta \leftarrow \theta - \text{optimizer}\Bigl(
      \tfrac1T \sum_{t=1}^{T} \nabla_\theta L_t(\theta)\Bigr)$$

    It is the loop that `maml-jax train` runs, without a folder: the same learner, parameters,
    tasks, optimizer, seed and devices give the same bits. Tasks are drawn, and many updates made,
    in one dispatch on the device; after `mj.use_all_cores()` on all cores of a CPU.

    Args:
      learner: what is done with one task.
      params: the network's weights to start from.
      tasks: where tasks come from, like `data.tasks("train", ways=5, shots=1, queries=5)`.
      updates: how many updates to make.
      optimizer: any optax optimizer of the meta-parameters; None: `optax.adam(1e-3)`.
      tasks_per_update: T, the tasks of one update.
      seed: decides every task.
      callback: `callback(update, metrics, meta)`, called after each dispatch with the number of
        updates made, the means of their metrics, and a copy of the meta-parameters; training ends
        where it returns True. `mj.CSVLogger`, `mj.TensorBoardLogger` and `mj.WandbLogger` are some.
        Of many hosts it is called in each.
      updates_per_dispatch: updates between two calls of `callback`, and between two log entries.
      chunk: the tasks that a device computes together, as in `mj.over_tasks`.
      nonfinite: what to do about an update whose loss or result is not finite: `"stop"` raises,
        `"skip"` leaves it out and counts it as `skipped` in the log.
      progress: whether to show a progress bar.

    Returns:
      `(meta, log)`: the learned meta-parameters, and a dict for each dispatch:
      `{"update": 50, "loss": 1.2, "accuracy": 0.5}`, each value a mean over its updates.

    Raises:
      InputError: an argument out of its range.
      TrainingError: an update was not finite; its `meta` holds the meta-parameters before it.
    """
    if not isinstance(tasks, TaskSource):
        raise InputError(
            f"`tasks` was a {type(tasks).__name__}; it must be a source of tasks, like "
            "data.tasks('train', ways=5, shots=1, queries=5)."
        )
    check_count("updates", updates)
    check_count("tasks_per_update", tasks_per_update)
    check_count("updates_per_dispatch", updates_per_dispatch)
    check_seed("seed", seed)
    check_choice("nonfinite", nonfinite, get_args(Nonfinite))
    if chunk is not None:
        check_count("chunk", chunk)
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    log: list[dict[str, Any]] = []

    def observe(now: Progress) -> bool:
        if not now.metrics:
            return False
        log.append({"update": now.update, **now.metrics})
        if callback is None:
            return False
        ends = callback(now.update, now.metrics, on_one_device(now.state.meta))
        return hosts.any_host(bool(ends))

    state = run_updates(
        learner,
        tasks,
        optimizer,
        on_one_device(initial_state(learner, params, optimizer, seed)),
        tasks_per_update=tasks_per_update,
        updates=updates,
        next_stop=lambda done: done + updates_per_dispatch,
        observe=observe,
        nonfinite=nonfinite,
        chunk=chunk,
        label="training" if progress else None,
    )
    return on_one_device(state.meta), log
