"""The command `train`: a new run, or one that goes on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maml_jax.cli.groups import ConfigOptions
from maml_jax.cli.hosts import HostOptions
from maml_jax.cli.messages import as_options, say
from maml_jax.training.config import RESUMABLE, Config

if TYPE_CHECKING:
    from maml_jax.training.build import Problem
    from maml_jax.training.updates import State


@dataclass(frozen=True)
class Train(ConfigOptions):
    """Meta-train a model by a recipe, whose values the other options replace."""

    out: Path | None = None
    """The folder of the run, which must not exist; if not given, runs/RECIPE-ALGORITHM-SEED."""
    resume: Path | None = None
    """Go on with this run instead, exactly as if it had never stopped; of the other options only
    --updates, --nonfinite, --chunk, --data-dir, --log and those of hosts may be given with it."""
    hosts: HostOptions = field(default_factory=HostOptions, metadata={"help": HostOptions.__doc__})

    def __call__(self) -> int:
        from maml_jax.training import runs

        config = self.config()
        run = self.out or Path("runs", f"{config.recipe}-{config.algorithm}-{config.seed}")
        made = runs.create(config, run)
        with runs.locked(run):
            return _train(self, run, *made)


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped."""

    resume: Path
    """The folder of the run to go on with."""
    updates: int | None = None
    """Go on to this many updates in all; a cosine schedule then ends there."""
    nonfinite: str | None = None
    """What to do about an update that is not finite from now on: stop or skip."""
    chunk: int | None = None
    """Tasks that a device computes together from now on, for a run that goes on elsewhere: another
    number changes results by rounding."""
    data_dir: Path | None = None
    """Where the files of its data are now."""
    log: tuple[str, ...] | None = None
    """Where the log goes from now on besides metrics.jsonl; with no name, nowhere."""
    hosts: HostOptions = field(default_factory=HostOptions, metadata={"help": HostOptions.__doc__})

    def __call__(self) -> int:
        from maml_jax.training import runs

        changes = {name: getattr(self, name) for name in RESUMABLE}
        with runs.locked(self.resume):
            return _train(self, self.resume, *runs.resume(self.resume, **changes))


def _train(command: Any, run: Path, config: Config, problem: "Problem", state: "State") -> int:
    """Train in the folder of a run, then draw its pictures; of many hosts the first says so."""
    from maml_jax.batching import hosts, task_mesh
    from maml_jax.training import metrics, pictures
    from maml_jax.training.loop import TrainingError
    from maml_jax.training.recorder import train_run

    task = f"{config.ways}-way {config.shots}-shot"
    if problem.data.kind == "regression":
        task = f"{config.shots} points a task"
    devices = task_mesh(config.tasks).size
    over = f", {hosts.count()} hosts with {devices} devices" if hosts.count() > 1 else ""
    if hosts.is_first():
        say(f"{run}: {config.algorithm} on {config.data}, {task}, {config.updates} updates{over}")
    if state.update >= config.updates and hosts.is_first():
        say(f"it has made its {state.update} updates already; --updates goes on to more")
    try:
        state, ended = train_run(config, run, problem, state)
    except TrainingError as error:
        say(f"maml-jax train: {as_options(error, command)}")
        return 1
    if not hosts.is_first():
        return 0
    for picture in pictures.draw(run, config, problem.learner, state.meta, problem.data):
        say(f"wrote {picture}")
    if ended == "interrupted":
        say(f"stopped after {state.update} updates; go on with: maml-jax train --resume {run}")
        return 0
    if ended == "early":
        say(f"no validation was better for {config.patience}: ended after {state.update} updates")
    if state.skipped:
        say(f"{state.skipped} updates were not finite and were skipped")
    for line in metrics.on_validation(metrics.read(run)):
        say(line)
    say(f"done; now: maml-jax evaluate {run}")
    if problem.data.kind == "images":
        say(f"or label pictures: maml-jax predict {run} --support LABELLED --images NEW")
    return 0
