"""Intervals by hand, and a log that survives being cut short."""

import math

import numpy as np

from maml_jax.training import metrics


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
    assert metrics.read(tmp_path) == []
    log = metrics.Log(tmp_path, 0)
    log.append({"update": 1, "loss": 0.5})
    log.append({"update": 2, "loss": math.nan})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"upda')
    records = [{"update": 1, "loss": 0.5}, {"update": 2, "loss": None}]
    assert metrics.read(tmp_path) == log.records == records


def test_a_log_that_goes_on_forgets_what_was_not_saved(tmp_path):
    log = metrics.Log(tmp_path, 0)
    for update in (1, 2, 3):
        log.append({"update": update})
    log = metrics.Log(tmp_path, 2)
    assert log.records == metrics.read(tmp_path) == [{"update": 1}, {"update": 2}]
    log.append({"update": 3, "loss": 1.0})
    assert [record["update"] for record in metrics.read(tmp_path)] == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_the_last_and_the_best_validation_in_words():
    def validated(update, **scores):
        return {"update": update, "validation": scores}

    one, two = validated(100, accuracy=0.75, accuracy_ci95=0.0125), validated(200, accuracy=0.5)
    assert metrics.on_validation([{"update": 1, "loss": 2.0}]) == []
    assert metrics.on_validation([one]) == ["validation after 100 updates: accuracy 75.0 ± 1.2 %"]
    assert metrics.on_validation([one, two]) == [
        "validation after 200 updates: accuracy 50.0 %",
        "the best was after 100: accuracy 75.0 ± 1.2 %; evaluate takes it by --checkpoint best",
    ]
    # No better to the digits that are shown.
    same = validated(200, accuracy=0.7499, accuracy_ci95=0.0125)
    assert len(metrics.on_validation([one, same])) == 1
    lost = validated(200, loss=None)
    assert metrics.on_validation([lost]) == ["validation after 200 updates: loss not finite"]
    assert metrics.on_validation([validated(5, loss=0.25)]) == [
        "validation after 5 updates: loss 0.25"
    ]
