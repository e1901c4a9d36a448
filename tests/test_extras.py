"""The core works without the optional dependencies; what needs one says which extra has it."""

import subprocess
import sys

import pytest

OPTIONAL = (
    "tyro",
    "tqdm",
    "matplotlib",
    "PIL",
    "orbax",
    "tensorflow_datasets",
    "torch",
    "safetensors",
    "sklearn",
)


def python(code):
    """Run `code` in an interpreter where nothing optional can be imported."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL}))\n"
    return subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True)


def test_the_core_needs_none_of_them():
    done = python(
        "import jax.numpy as jnp, maml_jax as mj\n"
        "from flax import nnx\n"
        "params, apply = mj.from_flax(mj.models.MLP(1, (4,), 1, rngs=nnx.Rngs(0)))\n"
        "learner = mj.maml(apply, 0.1, loss=mj.losses.mean_squared_error)\n"
        "batch = mj.Batch(jnp.ones((3, 1)), jnp.ones((3, 1)))\n"
        "learner.value_and_grad(params, mj.Episode(batch, batch))\n"
    )
    assert done.returncode == 0, done.stderr


def test_the_classifier_names_the_extra():
    done = python("import maml_jax as mj; mj.FewShotClassifier")
    message = "sklearn is not installed, which this needs: pip install 'maml-jax[cli]'."
    assert done.stderr.splitlines()[-1].endswith(message)


@pytest.mark.parametrize(
    "arguments",
    [["train"], ["evaluate", "x"], ["report", "x"], ["export", "x", "y"], ["import", "x"]],
)
def test_a_command_names_the_extra(arguments):
    done = python(f"from maml_jax.cli import main; sys.exit(main({arguments}))")
    assert done.returncode == 2
    message = "tyro is not installed, which this needs: pip install 'maml-jax[cli]'."
    assert done.stderr == f"maml-jax {arguments[0]}: {message}\n"
