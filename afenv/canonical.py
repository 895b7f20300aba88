"""Canonical JSON: one value, one sequence of bytes.

Keys are sorted, text is UTF-8 and not escaped, there is no NaN. ``compact`` is what digests are taken
of; ``indented`` is what people read and version control compares.
"""

from __future__ import annotations

from json import JSONEncoder
from typing import Any

_compact = JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_indented = JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)


def compact(value: Any) -> bytes:
    """The value on one line, without spaces and without a final newline."""
    return _compact.encode(value).encode()


def indented(value: Any) -> bytes:
    """The value indented by two spaces, with a final newline."""
    return (_indented.encode(value) + "\n").encode()


def shown(value: Any, *, on_one_line: bool = False) -> str:
    """The value for whoever reads it, also where a text is no Unicode, as the names of files may be.

    Bytes of such a name are escaped as JSON has it (``\\udcff``), which Python reads back as they were.
    """
    text = (_compact if on_one_line else _indented).encode(value)
    return text.encode("utf-8", "backslashreplace").decode() + ("" if on_one_line else "\n")
