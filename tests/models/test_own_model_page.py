"""The code of the page on models of one's own, as it stands there."""

import re
import textwrap
from pathlib import Path

import jax
from flax import nnx

from maml_jax import registry
from maml_jax.training.config import Config

PAGE = Path(__file__).parents[2] / "docs" / "your-own-model.md"
CODE = [
    textwrap.dedent(block)
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
]


def run(block):
    names = {}
    exec(block, names)  # noqa: S102
    return names


def test_a_function_and_its_weights():
    assert run(CODE[0])["logits"].shape == (5, 3)


def test_flax_and_equinox():
    names = run(CODE[1])
    assert names["apply"](names["params"], jax.numpy.ones((2, 4))).shape == (2, 3)


def test_a_model_by_name():
    model = run(CODE[2])["from_config"](Config(filters=1), (2, 2), 3, nnx.Rngs(0))
    assert model(jax.numpy.ones((5, 2, 2))).shape == (5, 3)


def test_every_model_by_name_has_a_row():
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(registry.names("models"))
