"""Run folders: made, locked, loaded, resumed, evaluated."""

import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maml_jax import registry
from maml_jax.batching import hosts, task_mesh, tune
from maml_jax.data import DataSet, TaskSource
from maml_jax.data.sources import queries_in
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.extras import require
from maml_jax.training import evaluate as evaluation
from maml_jax.training import initial, metrics, provenance
from maml_jax.training.build import Problem, build, build_learner, build_network, load_data
from maml_jax.training.checkpoints import Checkpoints, sync
from maml_jax.training.config import Config, read_config
from maml_jax.training.provenance import ExampleSpec
from maml_jax.training.schedule import outer_optimizer
from maml_jax.training.updates import State, initial_state, task_keys
from maml_jax.training.weights import load_meta, save
from maml_jax.types import Batch, Examples, Meta, MetaLearner, Params

_log = logging.getLogger("maml_jax")

QUERIES = 15
"""Query examples per class of an evaluation, where the classes have as many."""
PRETRAINED = "pretrained:"
"""How the name of weights that are part of the package begins, where a run is asked for."""
WEIGHTS = "meta.safetensors"
"""The meta-parameters of a run that was packed."""
WORTH_TUNING = 10_000
"""Updates of a run from which on it pays to measure how many tasks to compute together."""


class Run(NamedTuple):
    """A trained learner."""

    learner: MetaLearner
    meta: Meta
    """Its meta-parameters."""
    config: Config
    """What it was trained by."""


def load(run: Path | str, *, checkpoint: str = "latest") -> Run:
    """Load the learner that `maml-jax train` trained in a folder; the training data is not needed.

    Args:
      run: the folder; or weights that are part of the package, `"pretrained:NAME"`.
      checkpoint: `"latest"`, or `"best"` by validation.

    Returns:
      `Run(learner, meta, config)`: `run.learner.adapt(run.meta, support)` adapts to a new task.

    Raises:
      InputError: not the folder of a run, no checkpoint in it, or a damaged one. A run that was
        made before runs recorded the shape of their examples needs its data.
    """
    restored = restore(run, checkpoint=checkpoint)
    meta = jax.tree.map(jnp.asarray, restored.state.meta)
    return Run(restored.learner, meta, restored.config)


def folder_of(run: Path | str) -> Path:
    """The folder of a run, or of the weights that are part of the package: `pretrained:NAME`.

    Raises:
      InputError: there are no weights of that name.
    """
    if not str(run).startswith(PRETRAINED):
        return Path(run)
    known = [PRETRAINED + name for name in pretrained_names()]
    check_choice("run", str(run), known)
    return _PACKED / str(run).removeprefix(PRETRAINED)


def pretrained_names() -> list[str]:
    """The weights that are part of the package."""
    return sorted(folder.parent.name for folder in _PACKED.glob(f"*/{WEIGHTS}"))


_PACKED = Path(__file__).parents[1] / "weights"


def pack(run: Path | str, out: Path | str, *, checkpoint: str = "latest") -> None:
    """Copy what is needed to load a run, some 100 kB instead of its checkpoints.

    Args:
      run: the folder of the run.
      out: the new folder, of which `load`, `evaluate` and the like take its weights. It cannot be
        trained further, for it has no optimizer's state.
      checkpoint: as in `load`.

    Raises:
      InputError: as for `load`, or `out` exists.
    """
    if os.path.lexists(out):
        raise InputError(f"`out` was {out}, which exists; name another.")
    restored = restore(run, checkpoint=checkpoint)
    # Where the data was is nobody else's business.
    config = dataclasses.replace(restored.config, data_dir=None).to_json()
    record = restored.provenance | {"config": config, "updates": int(restored.state.update)}
    with new_folder(Path(out)) as fresh:
        fresh.mkdir()
        save(fresh / WEIGHTS, restored.state.meta)
        write_record(fresh, record)


class Restored(NamedTuple):
    """A run as its checkpoint has it, without the training data."""

    config: Config
    learner: MetaLearner
    params: Params
    """The weights that training started from."""
    examples: ExampleSpec
    """What there is to know of the training data."""
    state: State
    provenance: dict[str, Any]


def restore(
    run: Path | str, *, checkpoint: str = "latest", data_dir: Path | str | None = None
) -> Restored:
    """A run as it was saved.

    Args:
      run: its folder, or `pretrained:NAME`.
      checkpoint: `latest`, or `best` by validation.
      data_dir: where the data is now, for runs that did not record the shape of their examples;
        None: where it was.

    Raises:
      InputError: as for `load`.
    """
    run = folder_of(run)
    check_choice("checkpoint", checkpoint, ("latest", "best"))
    config, record = read_config(run), _read_record(run)
    recorded = record.get("examples")
    if recorded is None:
        examples = provenance.examples_of(config, load_data(moved(config, data_dir)))
    else:
        examples = provenance.examples_from(recorded)
    params, apply = build_network(config, examples.input_shape, examples.outputs)
    learner = build_learner(config, apply, examples.loss, examples.classes)
    like = initial_state(learner, params, outer_optimizer(config), config.seed)
    if (run / WEIGHTS).is_file():
        if checkpoint == "best":
            raise InputError(f"`checkpoint` was 'best'; {run} was packed and has but one state.")
        meta = load_meta(run / WEIGHTS, like.meta)
        state = like._replace(meta=meta, update=jnp.int32(record["updates"]))
        return Restored(config, learner, params, examples, state, record)
    update = None
    if checkpoint == "best":
        update = metrics.best_validation(metrics.read(run))
        if update is None:
            raise InputError(f"`checkpoint` was 'best'; {run} has no validation in its log.")
    state, kept = Checkpoints(run).restore(like, update)
    provenance.check_config(run, kept, config)
    provenance.warn_of_versions(run, kept, provenance.versions())
    return Restored(config, learner, params, examples, state, kept)


def create(config: Config, run: Path | str) -> tuple[Config, Problem, State]:
    """Check everything, then make the folder, with `config.json` in it.

    Of many hosts the first makes it, where all see it.

    Returns:
      The config, with its `chunk` measured if the run is long, the problem, and where it starts.

    Raises:
      InputError: a bad config, data that does not allow it, or a folder that exists.
    """
    run = Path(run)
    with hosts.agreed():
        config, problem, state = _checked(config, run)
        record = provenance.make(config, problem.data)
    with hosts.agreed():
        provenance.check_hosts(record)
    with hosts.agreed():
        if hosts.is_first():
            with new_folder(run) as fresh:
                fresh.mkdir()
                write_record(fresh, record)
    hosts.check_shared(run, "out")
    return config, problem, state


def _checked(config: Config, run: Path) -> tuple[Config, Problem, State]:
    if os.path.lexists(run):
        raise InputError(
            f"`out` was {run}, which exists; name another, or go on with it by --resume."
        )
    config = from_anywhere(config.check())
    _check_logs(config)
    check_count("updates", config.updates)
    init = None if config.init is None else restore(config.init)
    if init is not None:
        config = initial.network_as(config, init.config, init.examples.input_shape)
    problem = _started_from(config, init, build(config))
    config = _as_the_data_allow(config, problem.data)
    source = training_tasks(config, problem.data)
    for split in ("val", "test") if config.validate_every else ("test",):
        problem.data.tasks(split, ways=config.ways, shots=config.shots, queries=config.queries)
    state = _start(config, problem)
    # Each host would measure another chunk.
    if config.chunk is None and config.updates >= WORTH_TUNING and hosts.count() == 1:
        chunk = _measure_chunk(config, problem.learner, source, state)
        config = dataclasses.replace(config, chunk=chunk)
    return config, problem, state


def _check_logs(config: Config) -> None:
    """Whether there are such logs, and their libraries; to load a run needs neither."""
    for name in config.log:
        registry.find("logs", name)


def _as_the_data_allow(config: Config, data: DataSet) -> Config:
    """The config with as many queries as the smallest class has, and validation if there is val.

    Raises:
      InputError: `patience` was given, and there is nothing to validate on.
    """
    sizes = data.sizes()
    if "val" in sizes and not sizes["val"].classes and config.validate_every:
        if config.patience is not None:
            raise InputError(
                f"`patience` was {config.patience}; {data.name} has no class in its val split."
            )
        _log.warning("%s has no class in its val split: nothing is validated", data.name)
        config = dataclasses.replace(config, validate_every=0)
    shots = {"train": config.training_shots or config.shots}
    queries = [
        queries_in(data, split, shots.get(split, config.shots), config.queries)
        for split in ("train", "val", "test")
        if split != "val" or config.validate_every
    ]
    if min(queries) < config.queries:
        _log.warning(
            "a class of %s has too few examples for %d queries: %d are taken",
            data.name,
            config.queries,
            min(queries),
        )
    return dataclasses.replace(config, queries=min(queries))


def training_tasks(config: Config, data: DataSet) -> TaskSource:
    """The tasks to learn from: those of the train split, in the form that the algorithm takes."""
    return data.tasks(
        "train",
        ways=config.ways,
        shots=config.training_shots or config.shots,
        queries=config.queries,
        by_class=config.algorithm == "pretrained",
    )


def from_anywhere(config: Config) -> Config:
    """The config with absolute paths, so that its run can be resumed from any working directory."""
    data_dir = None if config.data_dir is None else config.data_dir.absolute()
    class_split = config.class_split
    if class_split is not None and Path(class_split).is_file():
        class_split = str(Path(class_split).absolute())
    data = _from_anywhere_by_name(config.data)
    init = config.init
    if init is not None and not init.startswith(PRETRAINED):
        init = str(Path(init).absolute())
    return dataclasses.replace(
        config, data=data, data_dir=data_dir, class_split=class_split, init=init
    )


def _from_anywhere_by_name(data: str) -> str:
    """The absolute path, if `data` is one: a folder with the name of a data set is none."""
    is_path = data not in registry.names("data") and Path(data).exists()
    return str(Path(data).absolute()) if is_path else data


def _started_from(config: Config, init: Restored | None, problem: Problem) -> Problem:
    """The problem, started from the weights of another run if there is one."""
    if init is None:
        return problem
    params = initial.weights_from(str(config.init), init.state.meta, problem.params)
    return problem._replace(params=params)


def _start(config: Config, problem: Problem) -> State:
    return initial_state(problem.learner, problem.params, outer_optimizer(config), config.seed)


def _measure_chunk(config: Config, learner: MetaLearner, source: TaskSource, state: State) -> int:
    items = source.items(task_keys(state.key, 0, config.tasks))
    episodes = jax.jit(jax.vmap(source.sample, (None, 0)))(source.store, items)
    plan = tune(learner, state.meta, episodes, task_mesh(config.tasks))
    _log.info("tasks computed together: %s", plan)
    return plan.chunk


@contextmanager
def new_folder(run: Path, name: str = "out") -> Iterator[Path]:
    """A path nearby for what becomes the folder `run` if all goes well, whole or not at all.

    `name` is the argument that says so.

    Raises:
      InputError: the folder cannot be made.
    """
    try:
        near = next(folder for folder in run.absolute().parents if folder.is_dir())
        with tempfile.TemporaryDirectory(dir=near, prefix=".") as folder:
            yield Path(folder, "run")
            run.absolute().parent.mkdir(parents=True, exist_ok=True)
            Path(folder, "run").rename(run)
            sync(run.absolute().parent)
    except OSError as error:
        raise InputError(f"`{name}` was {run}; it cannot be made: {error.strerror}.") from error


@contextmanager
def locked(run: Path | str) -> Iterator[None]:
    """Keep other processes from training in this folder; the system ends it with the process.

    Of many hosts the first holds the lock.

    Raises:
      InputError: another process trains there, there is no such folder, or the hosts do not share
        it.
    """
    run = Path(run)
    filelock = require("filelock", "cli")
    with ExitStack() as held:
        with hosts.agreed():
            read_config(run)
            if hosts.is_first():
                try:
                    held.enter_context(filelock.FileLock(run / "lock", blocking=False))
                except filelock.Timeout as error:
                    raise InputError(
                        f"`run` was {run}, in which another process trains now."
                    ) from error
        hosts.check_shared(run, "resume")
        yield


def resume(run: Path | str, **changes: Any) -> tuple[Config, Problem, State]:
    """A run to go on with, from its newest whole checkpoint, or from the start if there is none.

    Args:
      run: its folder, which the caller has locked.
      changes: new values for fields of its config that `RESUMABLE` names; None: the old value.

    Raises:
      InputError: as for `load`, or the data is not that of training.
    """
    run = Path(run)
    changes = {name: value for name, value in changes.items() if value is not None}
    with hosts.agreed():
        config, problem, state, kept = _kept(run, changes)
        now = provenance.make(config, problem.data)
    with hosts.agreed():
        provenance.check_hosts({**now, "update": int(state.update)})
    provenance.warn_of_versions(run, kept, now["versions"])
    # The second: of an import, before it was trained.
    if (changes or kept["data"] is None) and hosts.is_first():
        write_record(run, now)
    return config, problem, state


def _kept(run: Path, changes: dict[str, Any]) -> tuple[Config, Problem, State, dict[str, Any]]:
    """The run as its newest checkpoint has it, with the record of that."""
    if "updates" in changes:
        check_count("updates", changes["updates"])
    config = from_anywhere(dataclasses.replace(read_config(run), **changes).check())
    _check_logs(config)
    problem = build(config)
    kept, checkpoints = _read_record(run), Checkpoints(run)
    if checkpoints.updates():
        state, kept = checkpoints.restore(_start(config, problem))
    else:  # stopped before its first
        init = None if config.init is None else restore(config.init)
        problem = _started_from(config, init, problem)
        state = _start(config, problem)
    provenance.check_config(run, kept, config)
    provenance.check_data(run, kept, problem.data)
    return config, problem, state, kept


def moved(config: Config, data_dir: Path | str | None) -> Config:
    return config if data_dir is None else dataclasses.replace(config, data_dir=Path(data_dir))


def _read_record(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def write_record(run: Path, record: dict[str, Any]) -> None:
    fresh = run / "config.new"
    fresh.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sync(fresh)
    fresh.replace(run / "config.json")
    sync(run)


def evaluate(
    run: Path | str,
    *,
    tasks: int = 1000,
    queries: int | None = None,
    shots: int | None = None,
    ways: int | None = None,
    steps: int | None = None,
    split: str | None = None,
    transductive: bool = True,
    per_step: bool = True,
    data: str | None = None,
    data_dir: Path | str | None = None,
    checkpoint: str = "latest",
    seed: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> dict[str, Any]:
    """Adapt a run's model to new tasks and score it; the result is JSON.

    Args:
      run: the folder of the run, or `pretrained:NAME`.
      tasks: how many tasks.
      queries: query examples per class; None: 15, or as many as the smallest class has.
      shots: support examples per class; None: those of training.
      ways: classes in a task; None: those of training. Fewer take the first outputs of the head.
      steps: inner steps; None: the config's `evaluation_steps`.
      split: `test`, `val`, `train`, or of images `all`; None: `test`, but `all` of another data
        set. A copy of the training data, which its digest tells, is no other data set.
      transductive: as in `mj.evaluate`.
      per_step: as in `mj.evaluate`.
      data: another data set to test on, its images resized, and made grey or coloured, as those
        of training, which then is not needed; None: the one of training.
      data_dir: the folder of the data's files; None: the one of training.
      checkpoint: `latest`, or `best` by validation.
      seed: decides the tasks.
      progress: told of tasks done.

    Raises:
      InputError: an argument out of range, or a run that cannot be loaded.
    """
    run = folder_of(run)
    check_count("tasks", tasks)
    restored = restore(run, checkpoint=checkpoint, data_dir=data_dir)
    config = moved(restored.config, data_dir)
    if data is None or _from_anywhere_by_name(data) == config.data:
        tested, split = load_data(config), split or "test"
        provenance.check_data(run, restored.provenance, tested)
    else:
        tested = _other_data(config, restored.examples, data)
        if provenance.is_training_data(restored.provenance, tested):
            # Else training classes would be among `all`.
            tested, split = load_data(dataclasses.replace(config, data=data)), split or "test"
            provenance.check_data(run, restored.provenance, tested)
        split = split or "all"
    steps = config.evaluation_steps if steps is None else steps
    shots = config.shots if shots is None else shots
    if queries is None:
        queries = queries_in(tested, split, shots, QUERIES)
        if queries < QUERIES:
            _log.warning("a class of %s has too few for 15: %d queries", tested.name, queries)
    learner, classes = restored.learner, config.ways if ways is None else ways
    if ways is not None:
        learner = _of_fewer_ways(learner, ways, config.ways if restored.examples.classes else None)
    scores = evaluation.evaluate(
        learner,
        restored.state.meta,
        tested.tasks(split, ways=classes, shots=shots, queries=queries),
        count=tasks,
        steps=steps,
        transductive=transductive,
        per_step=per_step,
        seed=seed,
        progress=progress,
    )
    protocol = "transductive: the queries of a task together"
    if not transductive:
        protocol = "each query with the support set"
    return {
        "recipe": config.recipe,
        "algorithm": config.algorithm,
        "data": data or config.data,
        "split": split,
        "updates": int(restored.state.update),
        "ways": classes,
        "shots": shots,
        "queries": queries,
        "tasks": tasks,
        "steps": steps,
        "seed": seed,
        **({} if scores.accuracy is None else {"batch_norm": protocol}),
        "loss_function": provenance.name_of_loss(restored.learner.loss),
        **scores.to_json(),
        "config": {name: value for name, value in config.to_json().items() if name != "data_dir"},
        "versions": provenance.versions(),
    }


def _of_fewer_ways(learner: MetaLearner, ways: int, most: int | None) -> MetaLearner:
    """The learner with the first outputs of its head, as a classifier of fewer classes has them."""
    if most is None:
        raise InputError(f"`ways` was {ways}; regression has no classes: leave it out.")
    check_count("ways", ways, least=2)
    if ways > most:
        raise InputError(f"`ways` was {ways}; the model tells at most {most} classes apart.")

    def predict(fast: Params, x: Examples) -> Examples:
        return learner.predict(fast, x)[..., :ways]

    def classify(
        meta: Meta,
        support: Batch,
        x: Examples,
        *,
        transductive: bool = False,
        steps: int | None = None,
        key: jax.Array | None = None,
    ) -> Examples:
        outputs = learner.classify(
            meta, support, x, transductive=transductive, steps=steps, key=key
        )
        return outputs[..., :ways]

    return learner._replace(predict=predict, classify=classify)


def _other_data(config: Config, examples: ExampleSpec, name: str) -> DataSet:
    """The data set of that name, if a model for `examples` can take its own."""
    fit = {}
    if examples.kind == "images" and name not in ("sequences", "sinusoid"):
        fit = {"image_size": examples.input_shape[0], "channels": examples.input_shape[-1]}
    data = load_data(config, name, **fit)
    if data.input_shape != examples.input_shape or data.loss is not examples.loss:
        raise InputError(
            f"`data` was {name!r}, whose examples are {data.input_shape}; "
            f"the model of this run takes {config.data}'s, {examples.input_shape}."
        )
    return data
