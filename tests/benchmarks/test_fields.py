"""The tables of other fields: made from their files, with intervals by Student's t."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.fields import navigation, returns, summary
from benchmarks.fields.__main__ import table
from benchmarks.process import ROOT

PAGE = (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
FILES = re.findall(r"\]\(\.\./(benchmarks/results/\S+-fields-\S+\.json)\)", PAGE)


def test_the_page_links_a_file_for_each_field():
    modules = {path.stem for path in (ROOT / "benchmarks" / "fields").glob("*.py")}
    named = {re.search(r"fields-(\S+)\.json", file)[1].replace("-", "_") for file in FILES}
    assert named == modules - {"__init__", "__main__", "returns"}


@pytest.mark.parametrize("file", FILES)
def test_the_page_has_what_the_file_says(file):
    record = json.loads((ROOT / file).read_text(encoding="utf-8"))
    assert f"\n{table(record)}\n" in PAGE
    assert all(len(row["seeds"]) == 3 for row in record["rows"].values())


def test_intervals_are_students():
    found = summary([1.0, 2.0, 3.0])
    assert found["mean"] == 2.0
    assert found["ci95"] == pytest.approx(4.30265 * 1.0 / 3**0.5, rel=1e-5)  # t, 2 degrees


@pytest.mark.parametrize(
    ("mean", "half", "shown"),
    [
        (0.88049, 0.014, "0.880 ± 0.014"),
        (16.21, 2.4, "16.2 ± 2.4"),
        (4.789e-8, 1.3e-8, "4.79e-08 ± 1.3e-08"),
        (1.5, 0.0, "1.5 ± 0"),
        (1.0619, 0.05, "1.062 ± 0.050"),
    ],
)
def test_figures_end_where_their_interval_does(mean, half, shown):
    record = {"unit": "u", "rows": {"a": {"mean": mean, "ci95": half, "seeds": []}}}
    assert table(record).splitlines() == ["|  | u |", "|---|---:|", f"| a | {shown} |"]


def test_the_navigator_descends_by_the_policy_gradient():
    """Each reward less its mean over trajectories, times the gradient of all log π up to it."""
    goal, key = jnp.array([0.2, 0.1]), jax.random.key(0)
    kernel, bias = 0.1 * np.eye(2), np.array([0.3, -0.2])

    def objective(bias):
        weights = {"layer0": {"kernel": jnp.asarray(kernel), "bias": bias}}
        return navigation.objective(weights, None, goal, key)

    position, past = np.zeros((2, navigation.TRAJECTORIES, 2))
    expected = np.zeros(2)
    for time, of_noise in enumerate(jax.random.split(key, navigation.TIME)):
        mean = np.tanh(position @ kernel + bias)
        noise = np.asarray(jax.random.normal(of_noise, position.shape), np.float64)
        past = past + 0.1 * noise / navigation.NOISE * (1 - mean**2)  # of the bias
        position = position + np.clip(0.1 * mean + navigation.NOISE * noise, -0.1, 0.1)
        reward = -((position - np.asarray(goal)) ** 2).sum(-1, keepdims=True)
        expected -= navigation.DISCOUNT**time * ((reward - reward.mean()) * past).mean(0)
    found = jax.grad(objective)(jnp.asarray(bias, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_the_figure_has_both_curves(tmp_path):
    row = {"mean": -1.0, "ci95": 0.1}
    rows = {name.format(steps): row for name in returns.CURVES for steps in returns.STEPS}
    returns.draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
