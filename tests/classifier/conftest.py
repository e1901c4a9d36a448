"""The run that the tests of this folder predict with."""

import pytest

from maml_jax.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A small run on glyphs, trained enough to tell shapes apart."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = ["--filters", "16", "--tasks", "8", "--updates", "200", "--validate-every", "0"]
    assert main(["train", "--recipe", "quickstart", *small, "--out", str(folder)]) == 0
    return folder
