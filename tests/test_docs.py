"""The examples in the documentation run as written."""

import re
from pathlib import Path

import jax
import pytest
from problems import classification

ROOT = Path(__file__).parent.parent


def first_example(name):
    return re.search(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)[1]


def test_readme():
    episodes = classification(tasks=2, ways=5, shots=1, queries=1, size=(28, 28, 1))
    support = jax.tree.map(lambda leaf: leaf[0], episodes.support)
    names = {"episodes": episodes, "support": support, "x": support.x}
    exec(first_example("README.md"), names)  # noqa: S102
    assert names["outputs"].shape == (5, 5)
    assert jax.tree.structure(names["grads"]) == jax.tree.structure(names["params"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parity(capsys):
    pytest.importorskip("torch")
    exec(first_example("docs/parity.md"), {"episodes": classification(tasks=3)})  # noqa: S102
    said = capsys.readouterr().out
    assert said.startswith("WRONG")
    assert "explained by: inner graph not created (the gradient is first-order)" in said
