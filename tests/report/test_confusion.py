"""Pairs of classes are counted as by a slow, obvious twin."""

import itertools

import numpy as np

from maml_jax.report.confusion import confused_pairs


def test_pairs_are_those_of_a_loop_over_all_queries():
    draw = np.random.default_rng(0)
    tasks, ways, queries, of_split = 40, 3, 4, 7
    classes = np.stack([draw.permutation(of_split)[:ways] for _ in range(tasks)])
    labels = np.repeat(np.arange(ways), queries)[None].repeat(tasks, 0)
    predicted = draw.integers(0, ways, labels.shape)
    found = confused_pairs(classes, labels, predicted)
    assert {pair.classes for pair in found} <= set(itertools.combinations(range(of_split), 2))
    for pair in found:
        for (true, other), wrong, asked in zip(
            (pair.classes, pair.classes[::-1]), pair.wrong, pair.queries, strict=True
        ):
            together = [t for t in range(tasks) if {true, other} <= set(classes[t])]
            mistaken = [
                (t, q)
                for t in together
                for q in range(ways * queries)
                if classes[t, labels[t, q]] == true and classes[t, predicted[t, q]] == other
            ]
            assert wrong == len(mistaken)
            assert asked == queries * len(together)
        assert set(pair.classes) <= set(classes[pair.task])
    totals = [sum(pair.wrong) for pair in found]
    assert totals == sorted(totals, reverse=True)


def test_no_mistake_is_no_pair():
    labels = np.array([[0, 1]])
    assert confused_pairs(np.array([[5, 3]]), labels, labels) == []
