"""From the words of a command line to a command, by tyro; its errors in one line."""

import contextlib
import functools
import io
import itertools
import operator
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from maml_jax import registry
from maml_jax.cli.data import Prepare, Show
from maml_jax.cli.evaluate import Evaluate, Report
from maml_jax.cli.messages import options, suggestion
from maml_jax.cli.play import Play
from maml_jax.cli.predict import Predict
from maml_jax.cli.sweep import Sweep
from maml_jax.cli.train import Resume, Train
from maml_jax.cli.weights import Export, Import
from maml_jax.errors import InputError
from maml_jax.training.recipes import RECIPES, recipe

COMMANDS: dict[str, Any] = {
    "train": Train,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "predict": Predict,
    "play": Play,
    "report": Report,
    "export": Export,
    "import": Import,
    "data": {"show": Show, "prepare": Prepare},
}
ROOMS = [(room.capitalize(), room) for room in ("algorithms", "models", "data", "logs")]
ABOUT = "Few-shot meta-learning in JAX. --version tells the versions."


@dataclass(frozen=True)
class _Chosen:
    """What decides the defaults of the other options."""

    recipe: str = "quickstart"
    algorithm: str = "maml"
    resume: Path | None = None


def parse(words: list[str]) -> Any:
    """The command: a dataclass of its options that is called to run it.

    Raises:
      InputError: there is no such command or option, or an option cannot have its value.
      SystemExit: with 0, after `--help`.
    """
    names = _command_names(words, COMMANDS)
    program = " ".join(["maml-jax", *names])
    commands, defaults = dict(COMMANDS), {}
    if names and names[0] in ("train", "sweep", "import"):
        chosen, _ = _tyro(_Chosen, words[1:], program, with_help=False)
        if names == ["train"] and chosen.resume is not None:
            commands["train"] = Resume
        else:
            kind = commands[names[0]]
            defaults[names[0]] = kind.of(recipe(chosen.recipe, chosen.algorithm))
    command, unknown = _tyro(_subcommands(commands, defaults), words, program)
    if unknown:
        word = unknown[0].partition("=")[0]
        what = "there is no option" if word.startswith("-") else "one word too many:"
        beside = " beside --resume" if isinstance(command, Resume) else ""
        near = suggestion(word, options(command))
        raise InputError(f"{what} {word}{beside}{near}; see {program} --help.")
    return command


def _command_names(words: list[str], commands: dict[str, Any]) -> list[str]:
    """The words that name the command: one, two of `data`, none before `--help`."""
    if not words or words[0].startswith("-"):
        return []
    if words[0] not in commands:
        known = ", ".join(commands)
        raise InputError(
            f"no such command{suggestion(words[0], list(commands))}; it may be one of {known}."
        )
    inner = commands[words[0]]
    return [words[0], *(_command_names(words[1:], inner) if isinstance(inner, dict) else [])]


def _subcommands(commands: dict[str, Any], defaults: dict[str, Any]) -> Any:
    """The commands as a type that tyro takes for subcommands."""
    kinds = []
    for name, kind in commands.items():
        if isinstance(kind, dict):
            inner = _subcommands(kind, {})
            about = "Look at a data set, or have one prepared."
            how = tyro.conf.subcommand(name, description=about, constructor=inner)
            kind = Any
        elif name in defaults:
            how = tyro.conf.subcommand(name, default=defaults[name], description=_about(kind))
        else:
            how = tyro.conf.subcommand(name)
        kinds.append(Annotated[kind, how])
    return functools.reduce(operator.or_, kinds)


def _about(kind: type) -> str:
    """What a command that takes a config does, and the names that its options may have."""
    rooms = {"Recipes": RECIPES} | {title: registry.names(room) for title, room in ROOMS}
    names = "\n\n".join(f"{title}: {', '.join(known)}." for title, known in rooms.items())
    return f"{kind.__doc__}\n\n{names}"


def _tyro(
    kind: Any, words: list[str], program: str, *, with_help: bool = True
) -> tuple[Any, list[str]]:
    """What tyro makes of the words, and the words that it does not know."""
    box, page = io.StringIO(), _Page()
    try:
        with contextlib.redirect_stderr(box), contextlib.redirect_stdout(page):
            return tyro.cli(
                kind,
                args=words,
                prog="maml-jax",
                description=ABOUT,
                add_help=with_help,
                return_unknown_args=True,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.PositionalMetavarFromFieldName),
            )
    except SystemExit as stop:
        if stop.code == 0:
            print(page.printable(), end="")
            raise
        raise InputError(f"{_in_one_line(box.getvalue())}; see {program} --help.") from None


class _Page(io.StringIO):
    """What tyro prints to standard output, which may not have all its characters."""

    def __init__(self) -> None:
        super().__init__()
        self._output = sys.stdout

    @property
    def encoding(self) -> str:  # type: ignore[override]  # by which tyro chooses its frames
        return getattr(self._output, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._output.isatty()

    def printable(self) -> str:
        text = self.getvalue()
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            text = text.replace("•", "*").encode(self.encoding, "replace").decode(self.encoding)
        return text


def _in_one_line(box: str) -> str:
    """What a framed message of tyro's says: the text between its title and the next rule.

    The frame is of lines or, where standard output has none, of hyphens, with a rule at the title.
    """
    rows = (row.strip("│╰╯ ") for row in box.splitlines()[1:])
    rows = ("" if set(row) <= set("─-") else row for row in rows)
    text = " ".join(itertools.takewhile(bool, itertools.dropwhile(operator.not_, rows)))
    return text.replace(" (required)", "").rstrip(".")
