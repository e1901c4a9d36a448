"""The shapes in the signatures are true: every algorithm runs with all of them checked."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKED = """
import jaxtyping
jaxtyping.install_import_hook(["maml_jax.core", "maml_jax.inner", "maml_jax.algorithms",
    "maml_jax.batching", "maml_jax.losses"], "beartype.beartype")
import sys
sys.path.insert(0, {tests!r})
import jax
import jax.numpy as jnp
import maml_jax as mj
from maml_jax.registry import find, names
from problems import classification, perceptron

params, apply = perceptron()
tasks = classification(tasks=3)
one = jax.tree.map(lambda leaf: leaf[0], tasks)


def everything(learner):
    def run(meta):
        fast = learner.adapt(meta, one.support)
        path = learner.trajectory(meta, one.support, 2)
        outputs = learner.predict(fast, one.query.x)
        classified = [learner.classify(meta, one.support, one.query.x, transductive=way)
                      for way in (False, True)]
        return path, outputs, classified, mj.over_tasks(learner, 2)(meta, tasks)

    jax.eval_shape(run, learner.init(params))


for name in names("algorithms"):
    everything(find("algorithms", name)(apply, 0.1, 2))
squares = mj.losses.mean_squared_error
everything(mj.maml(lambda params, x: apply(params, x)[:, 0], 0.1, 2,
    loss=lambda outputs, y: squares(outputs, y.astype(outputs.dtype))))

for wrong in (
    lambda: mj.losses.softmax_cross_entropy(jnp.zeros((4, 3)), jnp.zeros(5, int)),
    lambda: mj.losses.softmax_cross_entropy(jnp.zeros(4), jnp.zeros(4, int)),
    lambda: mj.losses.accuracy(jnp.zeros((4, 3)), jnp.zeros((4, 1), int)),
):
    try:
        wrong()
    except jaxtyping.TypeCheckError:
        continue
    raise SystemExit("a wrong shape was not noticed")
"""


@pytest.mark.slow  # every call is checked
def test_every_algorithm_keeps_to_the_shapes_that_it_declares():
    code = CHECKED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
