"""The run that the tests of this folder predict with."""

import shutil

import pytest

from maml_jax.training.runs import folder_of


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run in a folder: the weights that ship for Omniglot, 5-way 1-shot."""
    shipped = folder_of("pretrained:omniglot-5w1s")
    return shutil.copytree(shipped, tmp_path_factory.mktemp("runs") / "run")
