"""Line charts as SVG, in the colours and letters of the page around them."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 220
"""Of a chart, in pixels of a telephone's page."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 34
_TICKS = 6


@dataclass(frozen=True)
class Line:
    """A line or a set of points; None among its values leaves a gap."""

    x: Sequence[float]
    y: Sequence[float | None]
    label: str
    style: str = "quiet"
    """A class of the page's style sheet: quiet, good, bad or plain."""
    dashed: bool = False
    dots: bool = False
    """Points instead of a line; dashed ones are rings."""
    error: Sequence[float | None] | None = None
    """Half the length of the bar at each point."""


def chart(
    lines: Sequence[Line], *, x_label: str, y_label: str, log: bool = False, whole: bool = False
) -> str:
    """A figure with its legend.

    Args:
      lines: what is drawn; values that are not finite are left out.
      x_label: of the horizontal axis.
      y_label: of the vertical axis.
      log: a logarithmic vertical axis; all values must be above 0.
      whole: ticks of the horizontal axis at whole numbers alone.
    """
    across = _Axis([x for line in lines for x in line.x], _LEFT, WIDTH - _RIGHT, whole=whole)
    up = _Axis(_heights(lines, log), HEIGHT - _BOTTOM, _TOP, log=log, margin=0.05)
    shapes = [_grid(across, up), *(_shape(line, across, up) for line in lines)]
    name = f"{y_label} over {x_label}: {', '.join(line.label for line in lines)}"
    titles = (
        f'<text x="{(_LEFT + WIDTH) / 2:g}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )
    keys = "".join(
        f"<li>{_swatch(line)}{html.escape(line.label)}</li>" for line in lines if line.label
    )
    return (
        f'<figure class="chart"><figcaption>{html.escape(y_label)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(name)}">'
        f'{"".join(shapes)}{titles}</svg><ul class="legend">{keys}</ul></figure>'
    )


class _Axis:
    """Values to pixels, and ticks at round values; `margin` is the room beyond the ends."""

    def __init__(
        self,
        values: Sequence[float],
        start: float,
        end: float,
        *,
        log: bool = False,
        whole: bool = False,
        margin: float = 0.0,
    ):
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        self._start, self._end, self.log = start, end, log
        self._low, self._high = (self._scale(end_of(finite)) for end_of in (min, max))
        if self._low == self._high:
            self._low, self._high = self._low - 0.5, self._high + 0.5
        room = margin * (self._high - self._low)
        self._low, self._high = self._low - room, self._high + room
        self._whole = whole

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def at(self, value: float) -> float:
        part = (self._scale(value) - self._low) / (self._high - self._low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> list[float]:
        if not self.log:
            return _round_values(self._low, self._high, 1.0 if self._whole else 0.0)
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        several = (1,) if len(decades) > 4 else (1, 2, 5)
        values = [m * 10.0**decade for decade in decades for m in several]
        values = [value for value in values if self._low <= math.log10(value) <= self._high]
        return values if len(values) > 1 else _round_values(10**self._low, 10**self._high)


def _round_values(low: float, high: float, least: float = 0.0) -> list[float]:
    """About six multiples of 1, 2 or 5 times a power of ten, and of `least` at the smallest."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    step = max(step, least)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def _heights(lines: Sequence[Line], log: bool) -> list[float]:
    """All values that the vertical axis must hold, with the ends of the bars."""
    heights = []
    for line in lines:
        for y, error in zip(line.y, line.error or [0.0] * len(line.y), strict=True):
            if y is not None:
                heights += [y, *(end for end in _bar(y, error) if end > 0 or not log)]
    return heights


def _bar(y: float, error: float | None) -> tuple[float, ...]:
    known = error is not None and math.isfinite(error) and error > 0
    return (y - error, y + error) if known and error is not None else ()


def _grid(across: _Axis, up: _Axis) -> str:
    parts = []
    for value in up.ticks():
        y = up.at(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in across.ticks():
        x, text = across.at(value), f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
        place = f'x="{x:.1f}" y="{HEIGHT - 19}" text-anchor="middle"'
        if x > WIDTH - 20:  # its middle there would reach over the edge
            place = f'x="{WIDTH}" y="{HEIGHT - 19}" text-anchor="end"'
        parts.append(f"<text {place}>{text}</text>")
        parts.append(f'<path class="grid" d="M{x:.1f} {HEIGHT - _BOTTOM}v4"/>')
    return "".join(parts)


def _shape(line: Line, across: _Axis, up: _Axis) -> str:
    runs: list[list[tuple[float, float]]] = [[]]
    bars = []
    for x, y, error in zip(line.x, line.y, line.error or [None] * len(line.x), strict=True):
        if y is None or not math.isfinite(y):
            runs.append([])
            continue
        runs[-1].append((across.at(x), up.at(y)))
        ends = _bar(y, error)
        if ends and (ends[0] > 0 or not up.log):
            low, high = (up.at(end) for end in ends)
            bars.append(f"M{across.at(x):.1f} {low:.1f}V{high:.1f}")
    points = [point for run in runs for point in run]
    alone = [run[0] for run in runs if len(run) == 1]
    dotted = points if line.dots or line.error is not None else alone
    parts = [f'<path class="bar" d="{"".join(bars)}"/>'] if bars else []
    if not line.dots:
        drawn = ["M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in run) for run in runs if len(run) > 1]
        parts.append(f'<path d="{"".join(drawn)}"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in dotted]
    return f'<g class="{_classes(line)}">{"".join(parts)}</g>'


def _swatch(line: Line) -> str:
    mark = '<circle cx="12" cy="5" r="2.5"/>' if line.dots else '<path d="M1 5H23"/>'
    return f'<svg class="swatch" viewBox="0 0 24 10"><g class="{_classes(line)}">{mark}</g></svg>'


def _classes(line: Line) -> str:
    return f"line {line.style}" + " dashed" * line.dashed
