"""Files are written whole or not at all."""

import os

import pytest

from maml_jax.errors import InputError
from maml_jax.files import write_file


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.html"
    write_file(path, "before", argument="out")
    write_file(path, "é \udcff", argument="out")  # the second letter is of a name that is no UTF-8
    assert path.read_bytes() == "é \\udcff".encode()
    write_file(path, b"\xff", argument="out")
    assert path.read_bytes() == b"\xff"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file_stays_what_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "text", argument="out")
    assert os.read(reader, 10) == b"text"
    assert pipe.is_fifo()
    os.close(reader)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    for path in (tmp_path / "missing" / "a", tmp_path):
        with pytest.raises(InputError, match=f"`out` was {path}; it cannot be written"):
            write_file(path, "text", argument="out")
    assert list(tmp_path.iterdir()) == []
