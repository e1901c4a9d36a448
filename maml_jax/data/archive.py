"""The files in a folder or in a zip, by the same names; nothing is ever unpacked to disk."""

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from maml_jax.errors import InputError

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}
LARGEST_FILE = 16 * 2**20  # unpacked bytes of one file in a zip
LARGEST_ARCHIVE = 64 * 2**30  # unpacked bytes of all files in a zip


class Files:
    """The images in a folder or a zip, and the files that end in one of `others`.

    Args:
      place: the folder or zip.
      others: suffixes, such as `.csv`.

    Raises:
      InputError: a damaged zip, one with a path that leaves its folder, or one that unpacks to too
        many bytes.
    """

    def __init__(self, place: Path, others: tuple[str, ...] = ()):
        self.place = place
        suffixes = {*IMAGES, *others}
        self._archive: zipfile.ZipFile | None = None
        if place.is_dir():
            found = [path.relative_to(place) for path in place.rglob("*")]
            self.names = sorted(p.as_posix() for p in found if p.suffix.lower() in suffixes)
            return
        try:
            self._archive = zipfile.ZipFile(place)
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise InputError(f"`data` held {place.name}, a damaged zip: {error}.") from error
        members = [
            member
            for member in self._archive.infolist()
            if PurePosixPath(member.filename).suffix.lower() in suffixes
        ]
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise InputError(f"`data` held {place.name}, whose {path} leaves its folder.")
        sizes = [member.file_size for member in members]
        if max(sizes, default=0) > LARGEST_FILE or sum(sizes) > LARGEST_ARCHIVE:
            raise InputError(
                f"`data` held {place.name}, which unpacks to {sum(sizes)} bytes, {max(sizes)} for "
                f"one file; at most {LARGEST_ARCHIVE} and {LARGEST_FILE} may be."
            )
        self.names = sorted(member.filename for member in members)

    def read(self, name: str) -> bytes:
        """The content of the file of that name.

        Raises:
          InputError: it cannot be read.
        """
        try:
            if self._archive is None:
                return (self.place / name).read_bytes()
            return self._archive.read(name)  # at most as many bytes as were checked
        # An encrypted member is a RuntimeError, an unknown compression a NotImplementedError.
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
            line = f"`data` held {self.place.name}, whose {name} cannot be read: {error}."
            raise InputError(line) from error

    def stamp(self) -> list[Any]:
        """Names, sizes and times, which change when the files do."""
        if self._archive is not None:
            return [str(self.place.absolute()), *_stamp(self.place)]
        return [str(self.place.absolute()), *([n, *_stamp(self.place / n)] for n in self.names)]


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
