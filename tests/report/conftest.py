"""A small run of each kind, which the tests of the report share."""

import dataclasses

import pytest
from report.pictures import pictures
from training.small_runs import trained

from maml_jax.report.collect import collect
from maml_jax.report.page import page

SMALL = {
    "images": {
        "ways": 3,
        "shots": 1,
        "model": "mlp",
        "queries": 2,
        "evaluation_steps": 2,
        "inner_lr": 0.1,
        "validate_every": 0,
    },
    "sequences": {
        "data": "sequences",
        "model": "mlp",
        "ways": 3,
        "shots": 2,
        "queries": 2,
        "validate_every": 0,
    },
    "regression": {},
}


class Made(dict):
    """A dictionary that makes what is asked for, once."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __missing__(self, kind):
        self[kind] = self.make(kind)
        return self[kind]


@pytest.fixture(scope="session")
def runs_of_each_kind(tmp_path_factory):
    """The folder of a run for each kind of example; not to be changed."""
    place = tmp_path_factory.mktemp("reports")
    SMALL["images"]["data"] = str(pictures(place / "pictures.npz"))

    def make(kind):
        trained(place / kind, **SMALL[kind])
        return place / kind

    return Made(make)


@pytest.fixture(scope="session")
def reports(runs_of_each_kind):
    """The contents of the report of each kind, and its page."""

    def make(kind):
        run = runs_of_each_kind[kind]
        contents = collect(run, tasks=12, seed=3, data_dir=None, progress=lambda _: None)
        return contents, page(contents)

    return Made(make)


@pytest.fixture
def without(reports):
    """A report with some of its contents replaced."""

    def replaced(kind, **changes):
        return page(dataclasses.replace(reports[kind][0], **changes))

    return replaced
