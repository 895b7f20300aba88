"""Which tolerances hold for a result, or for a part of one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from afenv.documents.compare import CompareRule
from afenv.record import field, record, values_of

PATTERNS = ("files", "parts")


@record
class Limits:
    """The limits for one thing; the defaults are those of the specification."""

    kind: str | None = None
    ignore: bool = False
    relative: float = 1e-9
    absolute: float = 0.0
    chi2: float | None = None
    ks: float | None = None
    pixels: float = 0.0
    shade: int = 0
    lines: tuple[str, ...] = ()


@cache
def _pattern(pattern: str, *, paths: bool) -> re.Pattern[str]:
    words = {"*": "[^/]*" if paths else ".*", "?": "[^/]" if paths else ".", "**/": "(?:.*/)?", "**": ".*"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    text = "".join(words.get(part, re.escape(part)) for part in parts)
    return re.compile(text, re.DOTALL)


def matches(pattern: str, text: str, *, paths: bool = False) -> bool:
    """Whether a pattern fits a whole text: ``*`` is any text, ``?`` one letter; brackets are just themselves.

    Of ``paths``, ``*`` stays within one folder and ``**`` does not; a pattern without a slash fits the last
    part.
    """
    if paths and "/" not in pattern:
        text = text.rpartition("/")[2]
    return _pattern(pattern, paths=paths).fullmatch(text) is not None


@record
class Rules:
    """All rules, in their order."""

    rules: tuple[CompareRule, ...] = ()
    _known: dict[tuple[str, str | None], Limits] = field(default_factory=dict, hash=False)

    def limits(self, file: str, part: str | None = None) -> Limits:
        """The limits for a file (``part`` None: those that hold for all of it), or for a part of it."""
        if part is not None and not any(rule.parts for rule in self.rules):
            part = None
        found = self._known.get((file, part))
        if found is None:
            found = _limits(self.rules, file, part)
            if len(self._known) < 100_000:
                self._known[file, part] = found
        return found


def _limits(rules: Iterable[CompareRule], file: str, part: str | None) -> Limits:
    values: dict[str, Any] = {}
    for rule in rules:
        if rule.files is not None and not matches(rule.files, file, paths=True):
            continue
        if rule.parts is not None and (part is None or not matches(rule.parts, part)):
            continue
        said = {name: value for name, value in values_of(rule).items() if value is not None}
        values |= {name: value for name, value in said.items() if name not in PATTERNS}
    return Limits(**values)
