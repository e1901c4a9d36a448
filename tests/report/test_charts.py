"""Charts have their points where they belong, and their gaps."""

import math
import re

import pytest

from maml_jax.report.charts import HEIGHT, WIDTH, Line, chart


def drawn(*lines, log=False):
    return chart(lines, x_label="x", y_label="y", log=log)


def paths(svg, style):
    """The numbers of the line of a style, as pairs, a list for each stroke."""
    group = re.search(rf'<g class="line {style}">(.*?)</g>', svg)[1]
    found = re.findall(r'<path d="([^"]*)"', group)
    strokes = [part for path in found for part in path.split("M") if part]
    return [[tuple(map(float, at.split())) for at in stroke.split("L")] for stroke in strokes]


def ticks(svg):
    return re.findall(rf'<text x="(?!{WIDTH}")\d+" y="[^"]*" text-anchor="end">([^<]*)<', svg)


def test_points_are_in_proportion():
    ((a, b, c),) = paths(drawn(Line([0, 1, 4], [2.0, 4.0, 10.0], "one", "good")), "good")
    assert (b[0] - a[0]) / (c[0] - a[0]) == pytest.approx(0.25, abs=1e-3)
    assert (b[1] - a[1]) / (c[1] - a[1]) == pytest.approx(0.25, abs=1e-3)
    assert c[1] < a[1]  # larger values are higher
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in (a, b, c))


def test_what_is_not_finite_is_a_gap():
    svg = drawn(Line([0, 1, 2, 3, 4], [1.0, 2.0, None, 1.0, 2.0], "one", "good"))
    assert [len(stroke) for stroke in paths(svg, "good")] == [2, 2]
    assert "nan" not in drawn(Line([0, 1], [math.nan, 1.0], "one"))
    assert "nan" not in drawn(Line([0, 1], [1.0, 2.0], "one", error=[math.nan, None]))
    assert "<svg" in drawn(Line([0], [None], "nothing"))


@pytest.mark.parametrize(
    ("values", "log", "expected"),
    [
        ([0.0, 100.0], False, ["0", "20", "40", "60", "80", "100"]),
        ([1e-3, 1.0], True, ["0.001", "0.01", "0.1", "1"]),
        ([0.3, 4.0], True, ["0.5", "1", "2"]),
        ([1.45, 1.5], True, ["1.45", "1.46", "1.47", "1.48", "1.49", "1.5"]),
        ([3.0, 3.0], False, ["2.6", "2.8", "3", "3.2", "3.4"]),
    ],
)
def test_ticks_are_round(values, log, expected):
    assert ticks(drawn(Line([0, 1], values, "one"), log=log)) == expected


def test_labels_are_escaped():
    svg = chart([Line([0], [1.0], "<i>")], x_label="<b>", y_label='"<u>')
    assert "<i>" not in svg
    assert "<b>" not in svg
    assert "<u>" not in svg
