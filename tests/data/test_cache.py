"""Where the cache folder is."""

import sys
from pathlib import Path

import pytest

from maml_jax.cache import cache_folder, code_key


def test_the_variable_comes_first(monkeypatch):
    monkeypatch.setenv("MAML_JAX_CACHE", "/a/b")
    assert cache_folder() == Path("/a/b")


@pytest.mark.skipif(sys.platform != "linux", reason="paths of Linux")
def test_the_users_cache_folder(monkeypatch):
    monkeypatch.delenv("MAML_JAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_folder() == Path("/c/maml-jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path("/h/.cache/maml-jax")


@pytest.mark.skipif(sys.platform != "linux", reason="paths of Linux")
def test_without_a_home_there_is_none(monkeypatch):
    def no_user(_):
        raise KeyError

    for name in ("MAML_JAX_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_user)
    assert cache_folder() is None


def test_code_keys_tell_parts_apart():
    keys = {code_key(), code_key("a"), code_key("b"), code_key("a", "b")}
    assert len(keys) == 4
    assert code_key("a") == code_key("a")
