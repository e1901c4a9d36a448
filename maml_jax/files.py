"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from maml_jax.errors import InputError


def write_file(path: Path, content: str | bytes, *, argument: str) -> None:
    """Write a file, or leave the one that is there as it was; text in UTF-8.

    What is no file, such as `/dev/stdout` or a pipe, is written into and not replaced.
    Letters that have no UTF-8, such as those of a file's name in another encoding, are escaped.

    Args:
      path: the file.
      content: all of it.
      argument: what the caller's argument is called, for the error.

    Raises:
      InputError: it cannot be written.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.write_bytes(content)
            return
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".") as folder:
            fresh = Path(folder, path.name)
            fresh.write_bytes(content)
            os.replace(fresh, path)
    except OSError as error:
        message = f"`{argument}` was {path}; it cannot be written: {error.strerror}."
        raise InputError(message) from error
