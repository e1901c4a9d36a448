"""The program `maml-jax`: train, evaluate, report.

What a command needs is imported when it runs, so that `--help` and errors come at once.
"""

import dataclasses
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maml_jax.cli.parsing import parse, peek
from maml_jax.errors import InputError, check_choice, check_count
from maml_jax.extras import require

if TYPE_CHECKING:
    from maml_jax.cli.options import Resume
    from maml_jax.training.config import Config

USAGE = """usage: maml-jax COMMAND [options]

commands:
  train      meta-train a model:    maml-jax train --recipe quickstart --out runs/first
  evaluate   test it on new tasks:  maml-jax evaluate runs/first
  report     draw its pictures:     maml-jax report runs/first
  export     weights for PyTorch:   maml-jax export runs/first first.safetensors
  import     weights of PyTorch's:  maml-jax import first.pt --model conv4 --out runs/second
  data show     look at a data set: maml-jax data show omniglot --data-dir FOLDER
  data prepare  have TFDS make one: maml-jax data prepare cifar100

`maml-jax COMMAND --help` shows the options of a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; the exit code is 0, 1 where training failed, or 2 for bad input."""
    command, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if command in ("-h", "--help"):
        print(USAGE)
        return 0
    if command == "data" and rest:
        command, *rest = f"data {rest[0]}", *rest[1:]
    if command in ("data", "data -h", "data --help"):
        print(USAGE)
        return 0
    _speak()
    try:
        check_choice("command", command, COMMANDS)
        require("tyro", "cli")
        return COMMANDS[command](rest)
    except InputError as error:
        print(f"maml-jax {command}: {_as_options(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _say("stopped")
        return 130


class _Speaker(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _say(record.getMessage())


def _speak() -> None:
    """What the library has to say, such as that a checkpoint is damaged, goes to standard error."""
    log = logging.getLogger("maml_jax")
    log.setLevel(logging.INFO)
    if not log.handlers:
        log.addHandler(_Speaker())


COMPILED_BYTES = 2**29
"""How much of compiled programs is kept; the longest unused go first."""


def _as_options(error: Exception) -> str:
    """The library names its arguments in backticks; here they are options."""
    return re.sub(r"`([a-z]\w*)`", lambda name: "--" + name[1].replace("_", "-"), str(error))


def program() -> None:
    """The entry point: `main`, with a device for each core of a CPU, and compiled programs kept.

    XLA leaves cores idle on networks as small as these; training gives every device its own tasks.
    It must be said before JAX looks for devices.
    """
    import jax

    from maml_jax.cache import cache_folder, code_key

    folder = cache_folder()
    if folder is not None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        compiled = folder / f"compiled-{code_key()}"
        jax.config.update("jax_compilation_cache_dir", str(compiled))
        jax.config.update("jax_compilation_cache_max_size", COMPILED_BYTES)

    affinity = getattr(os, "sched_getaffinity", None)  # the cores that this process may use
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cores)
    sys.exit(main())


def train_command(arguments: list[str]) -> int:
    from maml_jax.training import metrics, report, runs
    from maml_jax.training.config import RESUMABLE
    from maml_jax.training.loop import TrainingError, best_validation, train

    going_on = peek(arguments, "resume") is not None
    if going_on:
        options = _old_run(arguments)
        run = options.resume
    else:
        config, run = _new_run(arguments)
        config, problem, state = runs.create(config, run)
    with runs.locked(run):
        if going_on:
            changes = {name: getattr(options, name) for name in RESUMABLE}
            config, problem, state = runs.resume(run, **changes)
        _say(
            f"{run}: {config.algorithm} on {config.data}, {_shape(config)}, "
            f"{config.updates} updates"
        )
        try:
            state, ended = train(config, run, problem, state)
        except TrainingError as error:
            _say(f"maml-jax train: {_as_options(error)}")
            return 1
        for picture in report.draw(run, config, problem, state.meta):
            _say(f"wrote {picture}")
    if ended == "interrupted":
        _say(f"stopped after {state.update} updates; go on with: maml-jax train --resume {run}")
        return 0
    if ended == "early":
        _say(f"no validation was better for {config.patience}: ended after {state.update} updates")
    if state.skipped:
        _say(f"{state.skipped} updates were not finite and were skipped")
    best = best_validation(metrics.read(run))
    if best not in (None, int(state.update)):
        _say(f"the best validation was after {best} updates: evaluate takes --checkpoint best")
    _say(f"done; now: maml-jax evaluate {run}")
    return 0


def _new_run(arguments: list[str]) -> tuple["Config", Path]:
    from maml_jax.cli.options import Train
    from maml_jax.training.recipes import RECIPES

    about = f"Meta-train a model by a recipe: {', '.join(RECIPES)}."
    name, algorithm = peek(arguments, "recipe"), peek(arguments, "algorithm")
    default = Train(_default(name, algorithm))
    options = parse(Train, arguments, "maml-jax train", about, default)
    config = _with_data_dir(options.config)
    run = options.out or Path("runs", f"{config.recipe}-{config.algorithm}-{config.seed}")
    return config.check(), run


def _default(name: str | None, algorithm: str | None) -> "Config":
    from maml_jax.training.recipes import recipe

    return recipe(
        "quickstart" if name is None else name, "maml" if algorithm is None else algorithm
    )


def _with_data_dir(config: Any) -> Any:
    if config.data_dir is None and "MAML_JAX_DATA" in os.environ:
        return dataclasses.replace(config, data_dir=Path(os.environ["MAML_JAX_DATA"]))
    return config


def _old_run(arguments: list[str]) -> "Resume":
    from maml_jax.cli.options import Resume

    return parse(Resume, arguments, "maml-jax train", "Go on with a run that was stopped.")


def evaluate_command(arguments: list[str]) -> int:
    from maml_jax.cli.options import Evaluate
    from maml_jax.training import runs
    from maml_jax.training.metrics import to_json

    options = parse(Evaluate, arguments, "maml-jax evaluate", "Test a trained model on new tasks.")
    values = dataclasses.asdict(options)
    as_json = values.pop("json")
    tasks = check_count("tasks", options.tasks)
    with require("tqdm", "cli").tqdm(total=tasks, unit="task", leave=False, disable=None) as bar:
        result = runs.evaluate(**values, progress=bar.update)
    print(to_json(result, indent=2) if as_json else _table(result))
    return 0


def report_command(arguments: list[str]) -> int:
    from maml_jax.cli.options import Report
    from maml_jax.training import report, runs

    options = parse(Report, arguments, "maml-jax report", "Draw the pictures of a run again.")
    config, problem, state = runs.load(options.run)
    for picture in report.draw(options.run, config, problem, state.meta):
        print(picture)
    return 0


def export_command(arguments: list[str]) -> int:
    from maml_jax.cli.options import Export
    from maml_jax.exchange.transfer import export_run

    about = "Write the meta-learned weights of a run by PyTorch's names and in its layouts."
    options = parse(Export, arguments, "maml-jax export", about)
    names = export_run(options.run, options.file, options.data_dir)
    _say(f"wrote {options.file}: {len(names)} arrays")
    return 0


def import_command(arguments: list[str]) -> int:
    from tyro import MISSING

    from maml_jax.cli.options import Import
    from maml_jax.exchange.transfer import import_run

    about = "Make a run of PyTorch's weights; what else it is comes from a recipe and options."
    name, algorithm = peek(arguments, "recipe"), peek(arguments, "algorithm")
    default = Import(MISSING, _default(name, algorithm), MISSING)
    options = parse(Import, arguments, "maml-jax import", about, default)
    config = _with_data_dir(options.config)
    done = import_run(options.file, config, options.out, options.mapping)
    for theirs, ours in done.names.items():
        if theirs != ours:
            _say(f"{theirs} is {ours}")
    if done.left_out:
        _say(f"left out: {', '.join(done.left_out)}")
    _say(f"done; now: maml-jax evaluate {options.out}")
    return 0


def prepare_command(arguments: list[str]) -> int:
    from maml_jax.cli.options import Prepare
    from maml_jax.data.prepared import prepare

    about = "Download a data set by TensorFlow Datasets and store it so that training can read it."
    options = parse(Prepare, arguments, "maml-jax data prepare", about)
    folder = prepare(options.name, options.data_dir, options.manual_dir)
    _say(f"{options.name} lies in {folder}; now: maml-jax data show {options.name}")
    return 0


def show_command(arguments: list[str]) -> int:
    from maml_jax.cli.options import Show
    from maml_jax.data import ImageSet, load
    from maml_jax.data import preview as sheet

    about = "Draw a sheet of a data set's classes and of episodes, and say what it holds."
    options = _with_data_dir(parse(Show, arguments, "maml-jax data show", about))
    out = options.out or Path(f"{Path(options.name).stem}.png")
    if os.path.lexists(out):
        raise InputError(f"`out` was {out}, which exists; name another.")
    if not out.absolute().parent.is_dir() or out.suffix not in (".png", ".pdf", ".svg"):
        raise InputError(f"`out` was {out}; a .png, .pdf or .svg in a folder that exists may be.")
    names = ("image_size", "channels", "class_split")
    fit = {name: getattr(options, name) for name in names}
    data = load(options.name, options.data_dir, **fit)
    if not isinstance(data, ImageSet):
        raise InputError(f"`name` was {options.name!r}, which has no pictures.")
    shape = {name: getattr(options, name) for name in ("ways", "shots", "queries", "seed")}
    sheet.draw(data, out, **shape)
    counts = data.counts
    print(
        f"{len(counts)} classes of {counts.min()} to {counts.max()} images, {counts.sum()} in all"
    )
    for split, classes in data.splits.items():
        print(f"{split:>5}: {len(classes)} classes, {counts[classes].sum()} images")
    _say(f"wrote {out}")
    return 0


def _shape(config: "Config") -> str:
    if config.data == "sinusoid":
        return f"{config.shots} points"
    return f"{config.ways}-way {config.shots}-shot"


def _table(result: dict[str, Any]) -> str:
    """An evaluation for people: percentages for accuracies."""
    name, scale, unit, digits = "loss", 1.0, "", 4
    if "accuracy" in result:
        name, scale, unit, digits = "accuracy", 100.0, " %", 2
    lines = [
        f"{result['algorithm']} on {result['data']} ({result['split']} split), "
        f"{result['tasks']} tasks of {result['shots']} support and {result['queries']} query "
        "examples per class",
        f"batch norm: {result['batch_norm']}",
        "",
        f"inner steps   {name}, mean ± 95 % interval",
    ]
    rows = zip(result[f"{name}_per_step"], result[f"{name}_per_step_ci95"], strict=True)
    judged = len(result[f"{name}_per_step"])
    for step, (mean, interval) in enumerate(rows, start=result["steps"] + 1 - judged):
        lines.append(
            f"{step:11d}   {scale * mean:.{digits}f} ± {scale * interval:.{digits}f}{unit}"
        )
    if "nearest_neighbour" in result:
        nearest = result["nearest_neighbour"]
        lines.append(
            f"    nearest   {scale * nearest['accuracy']:.2f} ± "
            f"{scale * nearest['accuracy_ci95']:.2f}{unit}  (label of the nearest support example)"
        )
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train_command,
    "evaluate": evaluate_command,
    "report": report_command,
    "export": export_command,
    "import": import_command,
    "data show": show_command,
    "data prepare": prepare_command,
}

if __name__ == "__main__":
    program()
