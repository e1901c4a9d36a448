"""The report of a run: one page, which needs no other file and no network."""

import os
from collections.abc import Callable
from pathlib import Path

from maml_jax.errors import InputError
from maml_jax.files import write_file
from maml_jax.training import runs

__all__ = ["PAGE", "write"]

PAGE = "report.html"
"""The name of the page in the folder of a run."""


def write(
    run: Path | str,
    out: Path | str | None = None,
    *,
    tasks: int = 200,
    seed: int = 0,
    data: str | None = None,
    data_dir: Path | str | None = None,
    checkpoint: str = "latest",
    progress: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write the report of a run; the same run gives the same bytes.

    Args:
      run: the folder of the run, or `pretrained:NAME`.
      out: a new .html file; None: report.html in the folder, which may be there from before.
      tasks: how many tasks of the test split are evaluated.
      seed: decides these tasks.
      data: where the run's own data is now, by name or path; None: where it was.
      data_dir: where the files of the run's data are now; None: where they were.
      checkpoint: `latest`, or `best` by validation.
      progress: told of tasks done.

    Returns:
      The path of the page.

    Raises:
      InputError: an argument out of range, a run that cannot be loaded, or a page that cannot be
        written.
    """
    from maml_jax.report.collect import collect
    from maml_jax.report.page import page

    path = _path(run, out)
    found = collect(
        run,
        tasks=tasks,
        seed=seed,
        data=data,
        data_dir=data_dir,
        checkpoint=checkpoint,
        progress=progress,
    )
    write_file(path, page(found), argument="out")
    return path


def _path(run: Path | str, out: Path | str | None) -> Path:
    """Where the page goes, checked before the work that it takes."""
    if out is None:
        if str(run).startswith(runs.PRETRAINED):
            raise InputError(f"`out` was not given; {run} has no folder of its own: name a file.")
        return Path(run) / PAGE
    path = Path(out)
    if os.path.lexists(path):
        raise InputError(f"`out` was {path}, which exists; name another.")
    if not path.absolute().parent.is_dir() or path.suffix != ".html":
        raise InputError(f"`out` was {path}; a file .html in a folder that exists may be.")
    return path
