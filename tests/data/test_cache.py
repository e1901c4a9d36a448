"""Where the cache folder is."""

import sys
from pathlib import Path

import pytest

from maml_jax.cache import cache_folder, code_key


def test_the_variable_comes_first(monkeypatch):
    monkeypatch.setenv("MAML_JAX_CACHE", "/a/b")
    assert cache_folder() == Path("/a/b")


@pytest.mark.skipif(sys.platform != "linux", reason="paths of Linux")
def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MAML_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "maml-jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "h"))
    assert cache_folder() == tmp_path / "h" / ".cache" / "maml-jax"


def test_code_keys_tell_parts_apart():
    keys = {code_key(), code_key("a"), code_key("b"), code_key("a", "b")}
    assert len(keys) == 4
    assert code_key("a") == code_key("a")
