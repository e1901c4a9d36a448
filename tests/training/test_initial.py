"""Initial weights from another run, and runs that are packed."""

import dataclasses

import jax
import numpy as np
import pytest

import maml_jax as mj
from maml_jax.cli import main
from maml_jax.core.trees import by_path
from maml_jax.errors import InputError
from maml_jax.training import runs
from maml_jax.training.initial import network_as
from maml_jax.training.recipes import recipe

pytestmark = pytest.mark.xdist_group("initial")  # one process trains the run
SMALL = [
    "--model",
    "mlp",
    "--hidden",
    "8",
    "--tasks",
    "2",
    "--updates",
    "2",
    "--validate-every",
    "0",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", "--recipe", "quickstart", *SMALL, "--out", str(run)]) == 0
    return run


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_a_packed_run_is_loaded_and_evaluated(whole, tmp_path, capsys):
    runs.pack(whole, tmp_path / "packed")
    assert sorted(p.name for p in (tmp_path / "packed").iterdir()) == [
        "config.json",
        "meta.safetensors",
    ]
    one, other = mj.load(whole), mj.load(tmp_path / "packed")
    assert same(one.meta, other.meta)
    evaluate = ["--tasks", "5", "--queries", "2", "--json"]
    results = []
    for run in (whole, tmp_path / "packed"):
        capsys.readouterr()
        assert main(["evaluate", str(run), *evaluate]) == 0
        results.append(capsys.readouterr().out)
    assert results[0] == results[1]
    assert main(["export", str(tmp_path / "packed"), str(tmp_path / "a.safetensors")]) == 0
    with pytest.raises(InputError, match="which exists"):
        runs.pack(whole, tmp_path / "packed")


def test_what_becomes_of_own_pictures_is_said(caplog):
    """Weights for grey images of 28 pixels make pictures so; a named data set has its own size."""
    config = dataclasses.replace(
        recipe("quickstart"), data="pets/", init="pretrained:omniglot-5w1s"
    )
    start = runs.restore(config.init)
    with caplog.at_level("INFO", "maml_jax"):
        made = network_as(config, start.config, start.examples.input_shape)
        network_as(dataclasses.replace(config, data="glyphs"), start.config, (28, 28, 1))
        network_as(config, start.config, (84, 84, 3))
    assert (made.image_size, made.channels, made.filters) == (28, 1, 64)
    grey = "28×28 and grey (where colours matter, train without --init)"
    assert [record.getMessage() for record in caplog.records] == [
        f"pets/: made {grey}, as pretrained:omniglot-5w1s takes images",
        "pets/: made 84×84 and coloured, as pretrained:omniglot-5w1s takes images",
    ]


@pytest.mark.slow  # trains twice more
def test_training_starts_from_another_run(whole, tmp_path):
    """Its weights, its filters and its size of images; of another number of ways not its head."""
    new = ["--recipe", "quickstart", "--tasks", "2", "--updates", "2", "--validate-every", "0"]
    new += ["--meta-lr", "1e-12", "--init", str(whole)]
    assert main(["train", *new, "--out", str(tmp_path / "same")]) == 0
    start, end = mj.load(whole), mj.load(tmp_path / "same")
    assert (end.config.model, end.config.hidden) == ("mlp", (8,))
    for a, b in zip(jax.tree.leaves(start.meta), jax.tree.leaves(end.meta), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert main(["train", *new, "--ways", "3", "--out", str(tmp_path / "three")]) == 0
    three = mj.load(tmp_path / "three").meta
    assert three["head"]["kernel"].shape[1] == 3
    for path, leaf in by_path(three).items():
        if not path.startswith("head"):
            np.testing.assert_allclose(leaf, by_path(start.meta)[path], atol=1e-9)
    assert main(["train", *new, "--hidden", "4", "--out", str(tmp_path / "four")]) == 2
    assert not (tmp_path / "four").exists()


@pytest.mark.slow  # trains twice more
def test_a_run_goes_on_without_what_it_started_from(whole, tmp_path):
    init = tmp_path / "init"
    runs.pack(whole, init)
    run = tmp_path / "run"
    new = ["--recipe", "quickstart", "--tasks", "2", "--updates", "2", "--validate-every", "0"]
    assert main(["train", *new, "--init", str(init), "--out", str(run)]) == 0
    (init / "meta.safetensors").unlink()
    assert main(["train", "--resume", str(run), "--updates", "3"]) == 0
    assert int(runs.restore(run).state.update) == 3
