"""Plots as SVG for the report: two histograms with their ratio, and differences in two dimensions."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from typing import Any

from afenv.compare.histogram import Histogram

WIDTH, TOP, RATIO = 560, 260, 110
LEFT, RIGHT, ABOVE, BETWEEN, BELOW = 64, 12, 12, 14, 34
BARS = 150  # bins with error bars
CELLS = 80  # bins of an axis in two dimensions


def overlay(first: Histogram, second: Histogram) -> str:
    """Two histograms of one dimension and the same bins, and the ratio of the second to the first."""
    edges = [float(edge) for edge in first.edges[0]]
    contents = [[float(x) for x in one.values[1:-1]] for one in (first, second)]
    errors = [[math.sqrt(max(0.0, float(x))) for x in one.errors2[1:-1]] for one in (first, second)]
    x = _Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    tops = [c + e for one, err in zip(contents, errors, strict=True) for c, e in zip(one, err, strict=True)]
    low, high = _span([*tops, *contents[0], *contents[1], 0.0])
    y = _Scale(low, high, ABOVE + TOP, ABOVE)
    base = ABOVE + TOP + BETWEEN
    parts = [
        *_frame(x, y, ABOVE, TOP, numbers=False),
        _text("middle", _middle(), base + RATIO + 30, _axis(first)),
    ]
    parts.append(_steps("first", edges, contents[0], x, y, area=True))
    parts.append(_steps("second", edges, contents[1], x, y))
    if len(edges) <= BARS:
        for name, one, err in zip(("first", "second"), contents, errors, strict=True):
            parts += _bars(name, edges, one, err, x, y)
    parts += _ratio(edges, contents, errors, x, base)
    return _svg(base + RATIO + BELOW + 4, parts, "both distributions, and their ratio")


def _ratio(edges: list[float], contents: Any, errors: Any, x: _Scale, base: float) -> Iterator[str]:
    points = []
    for number, (a, b, da, db) in enumerate(zip(*contents, *errors, strict=True)):
        if a and math.isfinite(a) and math.isfinite(b):
            ratio = b / a
            size = math.hypot(db / a, da / a * ratio)
            if math.isfinite(ratio) and math.isfinite(size):
                points.append(((edges[number] + edges[number + 1]) / 2, ratio, size))
    most = max((abs(ratio - 1) for _, ratio, _ in points), default=0.0)
    typical = sorted(size for _, _, size in points)[len(points) // 2] if points else 0.0
    half = min(max(1.2 * most, min(typical * 1.5, 0.5), 1e-12), 1.0)
    y = _Scale(1 - half, 1 + half, base + RATIO, base)
    yield from _frame(x, y, base, RATIO, numbers=True, ticks=3)
    yield f'<line class="one" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(1):.1f}" y2="{y(1):.1f}"/>'
    yield _text("side", 13, base + RATIO / 2, "second / first")
    for place, ratio, size in points:
        at, middle = x(place), y.kept(ratio)
        if len(edges) <= BARS:
            low, high = y.kept(ratio - size), y.kept(ratio + size)
            yield f'<line class="second bar" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        if 1 - half <= ratio <= 1 + half:
            yield f'<circle class="second dot" cx="{at:.1f}" cy="{middle:.1f}" r="2"/>'
        else:  # beyond the panel: a triangle at its edge
            way = 5.0 if ratio < 1 else -5.0
            far = middle - way
            shape = f"{at - 3:.1f},{far:.1f} {at + 3:.1f},{far:.1f} {at:.1f},{middle:.1f}"
            yield f'<polygon class="second dot" points="{shape}"/>'


def pulls(first: Histogram, second: Histogram) -> str | None:
    """Where two histograms of two dimensions differ, in units of the error; None for too many bins."""
    import numpy as np

    if len(first.edges) != 2 or max(len(edges) for edges in first.edges) > CELLS + 1:
        return None
    inside = (slice(1, -1), slice(1, -1))
    difference = second.values[inside] - first.values[inside]
    error = np.sqrt(first.errors2[inside] + second.errors2[inside])
    with np.errstate(all="ignore"):
        pull = np.where(
            error > 0, difference / error, np.where(difference != 0, np.sign(difference) * np.inf, 0)
        )
    x = _Scale(float(first.edges[0][0]), float(first.edges[0][-1]), LEFT, WIDTH - RIGHT)
    y = _Scale(float(first.edges[1][0]), float(first.edges[1][-1]), ABOVE + TOP, ABOVE)
    parts = []
    for i, j in np.argwhere(pull != 0):
        x0, x1 = x(float(first.edges[0][i])), x(float(first.edges[0][i + 1]))
        y1, y0 = y(float(first.edges[1][j])), y(float(first.edges[1][j + 1]))
        value = float(pull[i, j])
        name = "more" if value > 0 else "less" if value < 0 else "none"
        shade = 1.0 if math.isnan(value) else min(1.0, 0.1 + abs(value) / 5)
        parts.append(
            f'<rect class="{name}" x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
            f'fill-opacity="{shade:.2f}"><title>{value:.2f} σ</title></rect>'
        )
    parts += _frame(x, y, ABOVE, TOP, numbers=True)
    parts.append(_text("middle", _middle(), ABOVE + TOP + 30, "(second − first) / σ, from 0 to 5"))
    return _svg(ABOVE + TOP + BELOW + 4, parts, "where the two differ")


class _Scale:
    """From values to the place on the picture."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high
        self.start, self.end = start, end
        self._factor = (end - start) / ((high - low) or 1.0)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * self._factor

    def kept(self, value: float) -> float:
        """The place of a value, or of the end that it is beyond."""
        return self(min(max(value, self.low), self.high))

    def ticks(self, count: int) -> list[float]:
        """Round values, about so many."""
        rough = (self.high - self.low) / max(1, count)
        if not rough > 0 or not math.isfinite(rough):
            return []
        power = 10.0 ** math.floor(math.log10(rough))
        step = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
        start = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(start, start + 40) if k * step <= self.high + 1e-9 * step]


def _span(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    room = (high - low) * 0.05 or 1.0
    return (low - room if low < 0 else low), high + room


def _frame(
    x: _Scale, y: _Scale, top: float, height: float, *, numbers: bool, ticks: int = 5
) -> Iterator[str]:
    size = f'width="{WIDTH - LEFT - RIGHT}" height="{height}"'
    yield f'<rect class="frame" x="{LEFT}" y="{top}" {size} fill="none"/>'
    for value in x.ticks(6):
        at = x(value)
        yield f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{top + height}" y2="{top + height - 4}"/>'
        if numbers:
            yield _text("middle", at, top + height + 14, _number(value, x))
    for value in y.ticks(ticks):
        at = y(value)
        yield f'<line class="tick" x1="{LEFT}" x2="{LEFT + 4}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield _text("end", LEFT - 5, at + 4, _number(value, y))


def _number(value: float, scale: _Scale) -> str:
    step = (scale.high - scale.low) / 10
    places = max(3, math.ceil(math.log10(max(abs(value), step) / step)) + 2) if value else 1
    text = f"{value:.{min(places, 12)}g}"
    return f"{value:.0f}" if "e" in text and 1 <= abs(value) < 1e7 else text


def _steps(
    name: str, edges: list[float], values: list[float], x: _Scale, y: _Scale, *, area: bool = False
) -> str:
    zero = y.kept(0)
    path = [f"M{x(edges[0]):.1f} {zero:.1f}"]
    for at, value in enumerate(values):
        height = y.kept(value) if math.isfinite(value) else zero
        path.append(f"V{height:.1f}H{x(edges[at + 1]):.1f}")
    path.append(f"V{zero:.1f}")
    return f'<path class="{name}{" area" if area else " line"}" d="{"".join(path)}"/>'


def _bars(name: str, edges: list[float], values: Any, errors: Any, x: _Scale, y: _Scale) -> Iterator[str]:
    shift = -1.5 if name == "first" else 1.5
    for at, (value, error) in enumerate(zip(values, errors, strict=True)):
        if error and math.isfinite(value) and math.isfinite(error):
            place = x((edges[at] + edges[at + 1]) / 2) + shift
            low, high = y.kept(value - error), y.kept(value + error)
            ends = f'y1="{low:.1f}" y2="{high:.1f}"'
            yield f'<line class="{name} bar" x1="{place:.1f}" x2="{place:.1f}" {ends}/>'


def _middle() -> float:
    return (LEFT + WIDTH - RIGHT) / 2


def _axis(histogram: Histogram) -> str:
    return histogram.axes[0] if histogram.axes else ""


def _text(kind: str, x: float, y: float, text: str) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if kind == "side" else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{turned}>{html.escape(text[:80])}</text>'


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}</svg>'
    )
