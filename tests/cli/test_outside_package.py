"""An algorithm, a model and a data set of another package train by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

THEIRS = '''
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import maml_jax as mj
from maml_jax.data import TaskSource


def learn(apply, inner_lr, inner_steps=1, *, loss, solver="cg"):
    """Their algorithm is MAML; it has one option."""
    print(f"their algorithm: {inner_lr=}, {inner_steps=}, {solver=}")
    return mj.maml(apply, inner_lr, inner_steps, loss=loss)


class Line(nnx.Module):
    def __init__(self, features, outputs, rngs):
        self.weight = nnx.Param(rngs.params.normal((features, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x):
        return x @ self.weight[...] + self.bias[...]


def from_config(config, example_shape, outputs, rngs):
    return Line(example_shape[0], outputs, rngs)


class Lines:
    name, kind, input_shape = "theirs", "regression", (1,)
    loss = staticmethod(mj.losses.mean_squared_error)

    def outputs(self, ways):
        return 1

    def labels(self, split):
        return None

    def sizes(self):
        return {}

    def fingerprint(self):
        return {"slopes": [-1, 1]}

    def tasks(self, split, *, ways=5, shots=1, queries=15, by_class=False):
        def sample(store, key):
            key, other = jax.random.split(key)
            x = jax.random.uniform(key, (shots + queries, 1))
            y = jax.random.uniform(other, minval=-1.0) * x
            return mj.Episode(mj.Batch(x[:shots], y[:shots]), mj.Batch(x[shots:], y[shots:]))

        return TaskSource(None, sample)


def load(request):
    return Lines()
'''
ROOT = Path(__file__).parents[2]
ENTRY_POINTS = """
[maml_jax.algorithms]
theirs = theirs:learn
[maml_jax.models]
theirs = theirs:from_config
[maml_jax.data]
theirs = theirs:load
"""


@pytest.fixture
def maml_jax(tmp_path):
    """The program, in a folder where their package is installed."""
    (tmp_path / "theirs.py").write_text(THEIRS, encoding="utf-8")
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "maml_jax", *words],
            env=os.environ | {"PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.slow  # two programs start, import JAX and compile
def test_all_three_train_by_name(maml_jax):
    names = ["--algorithm", "theirs", "--model", "theirs", "--data", "theirs"]
    train = ["train", *names, "--updates", "5", "--tasks", "2", "--validate-every", "0"]
    done = maml_jax(*train, "--solver", "own", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("their algorithm: inner_lr=0.4, inner_steps=1, solver='own'\n")
    assert "run: theirs on theirs, 1 points a task, 5 updates" in done.stderr
    done = maml_jax("evaluate", "run", "--tasks", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert (result["algorithm"], result["data"], result["tasks"]) == ("theirs", "theirs", 3)
    assert 0 < result["loss"] < 10
