"""Image files in a folder or in a zip, by the same names; nothing is ever unpacked to disk."""

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from maml_jax.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif"}
LARGEST_IMAGE = 16 * 2**20  # bytes in its file
LARGEST_ARCHIVE = 4 * 2**30  # bytes of all its images


def image_files(place: Path) -> Iterator[tuple[str, bytes]]:
    """Each image's name within `place`, with forward slashes, and its file's content.

    Raises:
      InputError: a damaged zip, one with a path that leaves it, or one that unpacks too large.
    """
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                yield path.relative_to(place).as_posix(), path.read_bytes()
        return
    try:
        with zipfile.ZipFile(place) as archive:
            yield from _zipped(place, archive)
    except (zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"`data_dir` held {place.name}, a damaged zip: {error}.") from error


def _zipped(place: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    members = [
        member
        for member in archive.infolist()
        if PurePosixPath(member.filename).suffix.lower() in SUFFIXES
    ]
    for member in members:
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"`data_dir` held {place.name}, whose {path} leaves its folder.")
    sizes = [member.file_size for member in members]
    if max(sizes, default=0) > LARGEST_IMAGE or sum(sizes) > LARGEST_ARCHIVE:
        raise InputError(
            f"`data_dir` held {place.name}, which unpacks to {sum(sizes)} bytes; at most "
            f"{LARGEST_IMAGE} for an image and {LARGEST_ARCHIVE} for all may be."
        )
    for member in members:
        yield member.filename, archive.read(member)
