"""CSV, by columns, and text, by lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from afenv.compare.numbers import Tree, is_number
from afenv.compare.outcome import DIFFERENT, PARTS_KEPT, Content, Part
from afenv.compare.rules import Limits, matches
from afenv.record import record

LINE = 200  # letters of a line in the verdict
FIELD = 1 << 24


@record
class TextPlot:
    """Lines of both, for the report; ``whole`` says that these are all."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    whole: bool


def read_csv(text: str, *, tab: bool = False) -> dict[str, list[object]]:
    """The columns by name: those of a first row without numbers, else ``column 1`` and so on.

    Semicolons separate where the first line has no comma. Lines that begin with ``#`` and empty ones do not
    count. ValueError if a row has another number of cells than the first one.
    """
    lines = [line for line in text.splitlines(keepends=True) if line.strip() and not line.startswith("#")]
    first = lines[0] if lines else ""
    separator = "\t" if tab else ";" if ";" in first and "," not in first else ","
    csv.field_size_limit(FIELD)
    rows = list(csv.reader(io.StringIO("".join(lines)), delimiter=separator, strict=True))
    if not rows:
        return {}
    head = [cell.strip() for cell in rows[0]]
    for number, row in enumerate(rows):
        if len(row) != len(head):
            raise ValueError(f"row {number + 1} has {len(row)} cells, not {len(head)}")
    if any(is_number(cell_value(cell)) for cell in head) or len(set(head)) != len(head) or len(rows) == 1:
        names = [f"column {number + 1}" for number in range(len(head))]
    else:
        names, rows = head, rows[1:]
    return {name: [cell_value(row[at]) for row in rows] for at, name in enumerate(names)}


def cell_value(cell: str) -> object:
    """A number if it is one, else the text without spaces around it."""
    text = cell.strip()
    try:
        return float(text) if not text.lstrip("+-").isdigit() or len(text) > 300 else int(text)
    except ValueError:
        return text


def compare_csv(
    first: dict[str, list[object]], second: dict[str, list[object]], limits: Callable[[str], Limits]
) -> Content:
    """Compare two tables column by column, whatever the order of the columns."""
    return Tree("csv", limits).compare(dict(first), dict(second))


def compare_text(first: str, second: str, limits: Limits) -> Content:
    """Compare line by line; how lines end does not count, nor do lines that are to be ignored."""
    kept = [_lines(text, limits.lines) for text in (first, second)]
    plot = TextPlot(
        first=tuple(line for _, line in kept[0][:PARTS_KEPT]),
        second=tuple(line for _, line in kept[1][:PARTS_KEPT]),
        whole=max(map(len, kept)) <= PARTS_KEPT,
    )
    compared = max(map(len, kept))
    parts: list[Part] = []
    different = 0
    for number in range(compared):
        one, other = (lines[number] if number < len(lines) else None for lines in kept)
        if one is not None and other is not None and one[1] == other[1]:
            continue
        different += 1
        if len(parts) < PARTS_KEPT:
            at = one[0] if one is not None else other[0] if other is not None else 0
            parts.append(
                Part(
                    path=f"line {at}",
                    kind="line",
                    outcome=DIFFERENT,
                    reason="missing" if one is None or other is None else "value",
                    first=one[1][:LINE] if one is not None else None,
                    second=other[1][:LINE] if other is not None else None,
                )
            )
    if not different:
        return Content(kind="text", compared=compared)
    message = f"{different} of {compared} lines differ"
    if len(kept[0]) != len(kept[1]):
        message = f"{len(kept[0])} and {len(kept[1])} lines; {message}"
    return Content(
        kind="text",
        parts=tuple(parts),
        compared=compared,
        outcome=DIFFERENT,
        reason="lines",
        message=message,
        plot=plot,
    )


def _lines(text: str, ignored: Sequence[str]) -> list[tuple[int, str]]:
    lines = text.replace("\r\n", "\n").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    numbered = enumerate(lines, 1)
    return [(at, line) for at, line in numbered if not any(matches(pattern, line) for pattern in ignored)]
