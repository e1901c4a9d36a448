"""The command line by tyro, its errors in one line."""

import contextlib
import io
from typing import TypeVar

from maml_jax.errors import InputError
from maml_jax.extras import require

Options = TypeVar("Options")


def parse(
    kind: type[Options],
    arguments: list[str],
    program: str,
    description: str,
    default: Options | None = None,
) -> Options:
    """An instance of the dataclass `kind`, each field an option with its docstring as help.

    Raises:
      InputError: arguments that are not such options.
      SystemExit: with 0, after `--help`.
    """
    tyro = require("tyro", "cli")
    box = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=arguments, prog=program, description=description, **given)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        raise InputError(_in_one_line(box.getvalue(), program)) from None


def _in_one_line(box: str, program: str) -> str:
    """What a framed message of tyro's says: the text between its title and its first rule."""
    text = []
    for line in box.splitlines()[1:]:
        content = line.strip("│╰╯ \n")
        if set(content) <= {"─"}:
            break
        text.append(content)
    return f"{' '.join(text).rstrip('.')}; see {program} --help."


def peek(arguments: list[str], name: str) -> str | None:
    """The value of one option before all are parsed."""
    flag = f"--{name}"
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None
