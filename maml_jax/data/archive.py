"""The files of a data set, in a folder or in a zip, by the same names; nothing is ever unpacked.

What is no data is left out and counted: names that begin with a dot and the folders in which other
programs keep thumbnails (`HIDDEN`), whatever Pillow does not read, and links to nowhere.
"""

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from maml_jax.data import pictures
from maml_jax.errors import InputError

HIDDEN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
"""Names of macOS, Synology and Windows that are no data, beside all that begin with a dot."""
LARGEST_FILE = 16 * 2**20  # unpacked bytes of one file in a zip
LARGEST_ARCHIVE = 64 * 2**30  # unpacked bytes of all files in a zip


class Files:
    """The pictures in a folder or a zip, and the files that end in one of `others`.

    Links are followed, to files and to folders.

    Args:
      place: the folder or zip.
      others: suffixes, such as `.csv`.

    Raises:
      InputError: a damaged zip, one with a path that leaves its folder, or one that unpacks to too
        many bytes; a folder that cannot be read; a link to what is in the folder already.
    """

    def __init__(self, place: Path, others: tuple[str, ...] = ()):
        self.place = place
        self.left_out: Counter[str] = Counter()
        """How many files were left out, by what they are; a hidden folder counts as one."""
        self._hidden: set[str] = set()
        self._folders: set[str] = set()
        """All folders that are not hidden, and those around them."""
        self._suffixes = pictures.suffixes() | set(others)
        self._archive: zipfile.ZipFile | None = None
        found = self._in_folder() if place.is_dir() else self._in_zip()
        self._places = {name: where for name, where in found if self._counts(name)}
        self.names = sorted(self._places)
        """Their paths from `place`, with forward slashes."""

    def _counts(self, name: str) -> bool:
        """Whether a file is data; what is not is counted."""
        path = PurePosixPath(name)
        hidden = next((i for i, part in enumerate(path.parts) if is_hidden(part)), None)
        if hidden is not None:
            self._hidden.add("/".join(path.parts[: hidden + 1]))
            self.left_out["hidden"] = len(self._hidden)
            return False
        self._folders.update(map(str, path.parents))
        if path.suffix.lower() not in self._suffixes:
            self.left_out[path.suffix.lower() or "without an ending"] += 1
            return False
        return True

    def _in_folder(self) -> Iterator[tuple[str, str]]:
        """Every file below `place`, with its path; of hidden folders their own name alone."""
        links = _Links(self.place)

        def visit(folder: str, inside: str) -> Iterator[tuple[str, str]]:
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                raise InputError(
                    f"`data` held {inside or folder}, which cannot be read: {error.strerror}."
                ) from error
            for entry in entries:
                name = f"{inside}{entry.name}"
                if is_hidden(entry.name):
                    yield name, entry.path
                    continue
                if entry.is_symlink():
                    if not os.path.exists(entry.path):
                        self.left_out["links to nowhere"] += 1
                        continue
                    if entry.is_dir() or _suffix(name) in self._suffixes:
                        links.check(name, entry.path)
                if entry.is_dir():
                    self._folders.add(name)
                    yield from visit(entry.path, f"{name}/")
                elif entry.is_file():
                    yield name, entry.path

        return visit(str(self.place), "")

    def _in_zip(self) -> Iterable[tuple[str, str]]:
        """Every file in the zip, with its name there."""
        try:
            self._archive = zipfile.ZipFile(self.place)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(f"`data` held {self.place.name}, a damaged zip: {error}.") from error
        members = [member for member in self._archive.infolist() if not member.is_dir()]
        # Some programs of Windows write backslashes.
        named = [(member.filename.replace("\\", "/"), member) for member in members]
        for name, _ in named:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise InputError(f"`data` held {self.place.name}, whose {path} leaves its folder.")
        wanted = [(name, m) for name, m in named if _suffix(name) in self._suffixes]
        total = sum(member.file_size for _, member in wanted)
        largest, size = max(
            ((name, member.file_size) for name, member in wanted),
            key=lambda pair: pair[1],
            default=("", 0),
        )
        if size > LARGEST_FILE or total > LARGEST_ARCHIVE:
            raise InputError(
                f"`data` held {self.place.name}, which unpacks to {total} bytes, {size} for "
                f"{largest}; at most {LARGEST_ARCHIVE} and {LARGEST_FILE} may be: unpack it."
            )
        return [(name, member.filename) for name, member in named]

    def read(self, name: str) -> bytes:
        """The content of the file of that name.

        Raises:
          InputError: it cannot be read.
        """
        try:
            if self._archive is None:
                return Path(self._places[name]).read_bytes()
            return self._archive.read(self._places[name])  # at most as many bytes as were checked
        # An encrypted member is a RuntimeError, an unknown compression a NotImplementedError.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            line = f"`data` held {self.place.name}, whose {name} cannot be read: {error}."
            raise InputError(line) from error

    def without_data(self) -> list[str]:
        """The outermost folders below which there is no data; hidden ones do not count."""
        holding = {str(folder) for name in self.names for folder in PurePosixPath(name).parents}
        empty = self._folders - holding - {"."}
        return sorted(name for name in empty if str(PurePosixPath(name).parent) not in empty)

    def stamp(self) -> list[Any]:
        """Names, sizes and times, which change when the files do."""
        if self._archive is not None:
            return [str(self.place.absolute()), *_stamp(self.place)]
        return [str(self.place.absolute()), *([n, *_stamp(self._places[n])] for n in self.names)]


class _Links:
    """Which files and folders links have led to, so that no picture is taken twice."""

    def __init__(self, root: Path):
        self._root = os.path.realpath(root)
        self._taken: dict[str, str] = {}
        self._above: dict[str, str] = {}
        """The folders above what is taken."""

    def check(self, name: str, path: str) -> None:
        """Refuse the link `name` at `path` where it leads to what is taken anyway."""
        target = os.path.realpath(path)
        inside = os.path.relpath(target, self._root)
        is_inside = inside.partition(os.sep)[0] != ".."
        hidden = any(map(is_hidden, Path(inside).parts)) and inside != "."
        above = [str(folder) for folder in Path(target).parents]
        other = inside if is_inside and not hidden else self._above.get(target)
        if (self._root + os.sep).startswith(target + os.sep):
            other = "a folder around it"
        for place in (target, *above):
            other = other or self._taken.get(place)
        if other is not None:
            raise InputError(
                f"`data` held the link {name}, which leads to {other}: its pictures would be taken "
                "twice; remove it."
            )
        self._taken[target] = name
        self._above.update(dict.fromkeys(above, name))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is no data."""
    return name.startswith(".") or name in HIDDEN


def in_words(left_out: Counter[str]) -> str:
    """`3 hidden, 12 .heic, 1 links to nowhere`."""
    return ", ".join(f"{count} {what}" for what, count in sorted(left_out.items()))


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stamp(path: str | Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]
