"""YAML of lock files: read without guessing types, written in one way.

Programs write these files, people do not; a version such as ``1.10`` may stand there without quotes. So every
scalar is read as text. What is written means the same in YAML 1.1 and 1.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from afenv.errors import AfenvError

MAXIMUM_SIZE = 64 << 20  # bytes of a lock file

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*\Z")
_DIGEST = re.compile(r"(?!0[box])(?=[0-9a-f]*[abcdf])(?:[0-9a-f]{32}|[0-9a-f]{64})\Z")
_WORDS = re.compile(r"(?:y|n|yes|no|on|off|true|false|null)\Z", re.IGNORECASE)
_SPECIAL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufeff\u2028\u2029]")


def load(data: bytes, place: str) -> dict[str, Any]:
    """The mapping in a YAML file, all scalars as text; E002 if it is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(data) > MAXIMUM_SIZE:
        raise AfenvError("E002", f"larger than {MAXIMUM_SIZE >> 20} MiB", place=place)
    yaml = YAML(typ="base", pure=True)
    try:
        tree = yaml.load(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise AfenvError("E002", "the file is not text in UTF-8", place=place) from None
    except (YAMLError, RecursionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise AfenvError("E002", f"not YAML: {reason}", place=place) from None
    if not isinstance(tree, dict):
        raise AfenvError("E002", "expected a mapping", place=place)
    return tree


def dump(value: Mapping[str, Any]) -> str:
    """The text of a mapping, in the order of its keys."""
    return "".join(line + "\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            head = _scalar(key) + ":"
            if isinstance(item, Mapping | list | tuple) and item:
                yield head
                indent = "  " if isinstance(item, Mapping) else ""
                yield from (indent + line for line in _lines(item))
            else:
                yield f"{head} {_scalar(item)}"
    else:
        for item in value:
            lines = (
                list(_lines(item)) if isinstance(item, Mapping | list | tuple) and item else [_scalar(item)]
            )
            yield "- " + lines[0]
            yield from ("  " + line for line in lines[1:])


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[]"
    text = str(value)
    if _DIGEST.match(text) or (_PLAIN.match(text) and not _WORDS.match(text)):
        return text
    if _SPECIAL.search(text):
        return _SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
    return "'" + text.replace("'", "''") + "'"


class Reader:
    """Takes values out of a tree of text; what is not as expected is E002 with its place."""

    def __init__(self, place: str) -> None:
        self.place = place

    def bad(self, message: str) -> AfenvError:
        """The error for something unexpected."""
        return AfenvError("E002", message, place=self.place)

    def mapping(self, value: Any, what: str) -> dict[str, Any]:
        """A mapping; nothing stands for an empty one."""
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            raise self.bad(f"{what}: expected a mapping")
        return value

    def sequence(self, value: Any, what: str) -> list[Any]:
        """A list; nothing stands for an empty one."""
        if value in (None, ""):
            return []
        if not isinstance(value, list):
            raise self.bad(f"{what}: expected a list")
        return value

    def texts(self, value: Any, what: str) -> tuple[str, ...]:
        """A list of text."""
        return tuple(self.text(item, what) for item in self.sequence(value, what))

    def text(self, value: Any, what: str) -> str:
        """Some text that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.bad(f"{what}: expected text")
        return value

    def optional(self, value: Any, what: str) -> str | None:
        """Some text, or None where there is none."""
        return None if value in (None, "", "null", "~") else self.text(value, what)

    def integer(self, value: Any, what: str) -> int | None:
        """A whole number, or None where there is none."""
        text = self.optional(value, what)
        if text is None:
            return None
        if not (text.isdigit() and text.isascii() and len(text) < 19):
            raise self.bad(f"{what}: expected a whole number, found {text!r}")
        return int(text)

    def digest(self, value: Any, digits: int, what: str) -> str | None:
        """A digest of so many hexadecimal digits, or None where there is none."""
        text = self.optional(value, what)
        if text is None:
            return None
        if not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", text):
            raise self.bad(f"{what}: expected {digits} hexadecimal digits, found {text!r}")
        return text.lower()
