"""Intervals by hand, and a log that survives being cut short."""

import math

import numpy as np

from maml_jax import metrics


def test_interval_by_hand():
    # 0.2, 0.4, 0.6: deviation 0.2 with T−1 = 2, over √3.
    interval = metrics.confidence_95(np.array([0.2, 0.4, 0.6]))
    np.testing.assert_allclose(interval, 1.96 * 0.2 / math.sqrt(3), rtol=1e-14)


def test_interval_covers_the_mean_19_times_in_20():
    rng = np.random.default_rng(0)
    samples = rng.binomial(15, 0.7, size=(400, 2000)) / 15  # 400 tasks, 2000 experiments
    covered = np.abs(samples.mean(0) - 0.7) < metrics.confidence_95(samples)
    # 0.95 within five deviations of a proportion of 2000.
    assert abs(covered.mean() - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 2000)


def test_one_task_has_no_interval():
    assert np.isnan(metrics.confidence_95(np.array([0.5])))


def test_a_log_comes_back_without_a_line_that_was_cut_short(tmp_path):
    log = tmp_path / "log.jsonl"
    assert metrics.read(log) == []
    metrics.append(log, {"update": 1})
    metrics.append(log, {"update": 2})
    with log.open("a") as file:
        file.write('{"upda')
    assert metrics.read(log) == [{"update": 1}, {"update": 2}]
    metrics.rewrite(log, [{"update": 1}])
    assert metrics.read(log) == [{"update": 1}]
    assert list(tmp_path.iterdir()) == [log]
