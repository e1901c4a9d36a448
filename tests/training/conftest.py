"""One small run that the tests of training share, and the programs that it compiled."""

import shutil

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from small_runs import trained


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Programs are kept on disk, for many tests make the same again."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


@pytest.fixture(scope="session")
def whole(tmp_path_factory, compiled_once):
    """A run of 12 updates that was never stopped; not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert trained(run).ended == "done"
    return run


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(whole, tmp_path / "copy")
