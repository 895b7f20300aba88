"""When two numbers are the same, and trees of values as JSON and YAML have them.

Two numbers are the same if they are equal, or differ by no more than the larger one of ``absolute`` and
``relative`` times the larger magnitude: a rule that does not depend on which comes first. Not-a-number is the
same as not-a-number; an infinity only as itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from afenv.compare.outcome import DIFFERENT, PARTS_KEPT, Content, Part
from afenv.compare.rules import Limits
from afenv.documents.yaml_tree import format_path

Number = int | float
VISITED = 20_000_000  # values of one file
SHOWN = 200  # letters of a value

Path = tuple[str | int, ...]
Inside = Iterator[tuple[Path, Any, Any]]


def close(first: Number, second: Number, limits: Limits) -> bool:
    """Whether two numbers are the same."""
    if first == second:
        return True
    try:
        a, b = float(first), float(second)
    except OverflowError:
        return False
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    if math.isinf(a) or math.isinf(b):
        return False
    return abs(a - b) <= max(limits.absolute, limits.relative * max(abs(a), abs(b)))


def is_number(value: object) -> bool:
    """Whether a value is a number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: Any) -> Any:
    """A value as the verdict has it: JSON has no infinities, and long texts are cut."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 2**63:
        return f"{value:.6e}" if abs(value) < 10**300 else "a huge number"
    if value is None or isinstance(value, str | int | float):
        text = "null" if value is None else value
        return text[:SHOWN] + "…" if isinstance(text, str) and len(text) > SHOWN else text
    return str(value)[:SHOWN]


def number_measures(first: Number, second: Number) -> dict[str, Any]:
    """How far two numbers are apart."""
    try:
        a, b = float(first), float(second)
    except OverflowError:
        return {}
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(a - b)):
        return {}
    largest = max(abs(a), abs(b))
    return {"absolute": abs(a - b), "relative": abs(a - b) / largest if largest else 0.0}


class Tree:
    """Compares two trees of values, and keeps the differences; ``limits`` are those at a path."""

    def __init__(self, kind: str, limits: Callable[[str], Limits]) -> None:
        self.kind = kind
        self.limits = limits
        self.parts: list[Part] = []
        self.compared = 0
        self.different = 0
        self.ignored = 0

    def content(self) -> Content:
        """What was found."""
        message = f"{self.different} of {self.compared} values differ" if self.different else None
        return Content(
            kind=self.kind,
            parts=tuple(self.parts),
            compared=self.compared,
            outcome=DIFFERENT if self.different else None,
            reason="values" if self.different else None,
            message=message,
        )

    def compare(self, first: Any, second: Any) -> Content:
        """Compare two trees."""
        stack: list[Iterator[tuple[Path, Any, Any]]] = [iter([((), first, second)])]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
                continue
            inside = self._one(*entry)
            if inside is not None:
                stack.append(inside)
        return self.content()

    def _one(self, path: Path, first: Any, second: Any) -> Iterator[tuple[Path, Any, Any]] | None:
        self.compared += 1
        if self.compared > VISITED:
            raise OverflowError(f"it has more than {VISITED:,} values")
        if isinstance(first, dict) and isinstance(second, dict):
            return self._mappings(path, first, second)
        if isinstance(first, list) and isinstance(second, list):
            return self._lists(path, first, second)
        if first is second:
            return None
        if is_number(first) and is_number(second):
            if first != second and not close(first, second, limits := self.limits(format_path(path))):
                self._note(path, "value", first, second, limits, number_measures(first, second))
        elif type(first) is not type(second):
            self._note(path, "type", first, second, message=f"{_named(first)} and {_named(second)}")
        elif first != second:
            self._note(path, "value", first, second)
        return None

    def _mappings(self, path: Path, first: dict[str, Any], second: dict[str, Any]) -> Inside:
        for key, value in first.items():
            if key in second:
                yield ((*path, key), value, second[key])
            else:
                self._note((*path, key), "missing", value, None, message="only in the first")
        for key, value in second.items():
            if key not in first:
                self._note((*path, key), "missing", None, value, message="only in the second")

    def _lists(self, path: Path, first: list[Any], second: list[Any]) -> Inside:
        if len(first) != len(second):
            self._note(
                path, "length", len(first), len(second), message=f"{len(first)} and {len(second)} items"
            )
        for index, (one, other) in enumerate(zip(first, second, strict=False)):
            yield ((*path, index), one, other)

    def _note(
        self,
        path: Path,
        reason: str,
        first: Any,
        second: Any,
        limits: Limits | None = None,
        measures: Mapping[str, Any] | None = None,
        message: str | None = None,
    ) -> None:
        place = format_path(path)
        if (limits or self.limits(place)).ignore or self._above_ignored(path):
            self.ignored += 1
            return
        self.different += 1
        if len(self.parts) < PARTS_KEPT:
            self.parts.append(
                Part(
                    path=place or "(all)",
                    kind="value",
                    outcome=DIFFERENT,
                    reason=reason,
                    message=message,
                    first=None if message == "only in the second" else shown(first),
                    second=None if message == "only in the first" else shown(second),
                    measures=measures or {},
                )
            )

    def _above_ignored(self, path: Path) -> bool:
        return any(self.limits(format_path(path[:end])).ignore for end in range(1, len(path)))


def _named(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a mapping" if isinstance(value, dict) else type(value).__name__)
