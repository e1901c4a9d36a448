"""Training ends where validation reaches the goal, and what is said of it adds up."""

from dataclasses import replace

import pytest

from benchmarks import to_accuracy
from maml_jax.training.recipes import recipe


@pytest.mark.slow  # trains twice
def test_training_ends_at_the_goal(monkeypatch):
    monkeypatch.setattr(to_accuracy, "EVERY", 2)
    monkeypatch.setattr(to_accuracy, "VALIDATION_TASKS", 4)
    monkeypatch.setattr(to_accuracy, "TEST_TASKS", 4)
    config = replace(recipe("quickstart"), model="mlp", hidden=(4,), tasks=2, updates=8)
    early, whole = (to_accuracy.reach(config, goal) for goal in (0.0, 1.1))
    assert [point["update"] for point in early["curve"]] == [2, 4]
    assert whole["updates"] == 8
    assert 0 < early["training_s"] < early["training_s"] + early["compile_s"]
    assert 0 <= early["test"]["accuracy"] <= 1
