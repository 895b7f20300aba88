"""JSON read into frozen values by hand, strictly: the first thing that is wrong, with its path.

A schema validator says the same more slowly; documents that every command reads go this way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_MISSING = object()


class Damaged(Exception):
    """Something is not as the format says; the path is completed on the way out."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def within(self, step: str) -> Damaged:
        """The same, seen from what holds the value."""
        if self.path and not self.path.startswith("["):
            step += "."
        return Damaged(self.message, step + self.path)


class Record:
    """A JSON object whose keys are taken one by one; what is left over is unknown."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise Damaged(f"expected an object, found {kind(value)}")
        self.left = dict(value)

    def take(self, key: str, convert: Callable[[Any], T]) -> T:
        """A key that has to be there."""
        value = self.left.pop(key, _MISSING)
        if value is _MISSING:
            raise Damaged(f"the key {key!r} is missing")
        try:
            return convert(value)
        except Damaged as damaged:
            raise damaged.within(key) from None

    def take_or(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        """A key that may be absent."""
        return self.take(key, convert) if key in self.left else default

    def end(self) -> None:
        """Nothing may be left over."""
        for key in self.left:
            raise Damaged(f"unknown key {key!r}", key)


def kind(value: Any) -> str:
    """What a value is, for a message."""

    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def text(value: Any) -> str:
    """Text that is not empty."""

    if not isinstance(value, str) or not value:
        raise Damaged(f"expected text, found {kind(value) if value != '' else 'empty text'}")
    return value


def any_text(value: Any) -> str:
    """Text, or none of it."""

    if not isinstance(value, str):
        raise Damaged(f"expected text, found {kind(value)}")
    return value


def form(pattern: re.Pattern[str], expected: str) -> Callable[[Any], str]:
    """The reader of text that a pattern matches from its start; ``expected`` says which in words."""

    def convert(value: Any) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise Damaged(f"expected {expected}, found {value if isinstance(value, str) else kind(value)}")
        return value

    return convert


def integer(least: int) -> Callable[[Any], int]:
    """The reader of a whole number that is not below ``least``."""

    def convert(value: Any) -> int:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool) or not isinstance(whole, int):
            raise Damaged(f"expected a whole number, found {kind(value)}")
        if whole < least:
            raise Damaged(f"expected at least {least}, found {whole}")
        return whole

    return convert


def boolean(value: Any) -> bool:
    """True or false."""

    if not isinstance(value, bool):
        raise Damaged(f"expected true or false, found {kind(value)}")
    return value


def json_object(value: Any) -> Mapping[str, Any]:
    """An object, its keys unread."""

    if not isinstance(value, dict):
        raise Damaged(f"expected an object, found {kind(value)}")
    return value


def list_of(convert: Callable[[Any], T], least: int = 0) -> Callable[[Any], tuple[T, ...]]:
    """The reader of a list of ``least`` items or more."""

    def convert_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Damaged(f"expected a list, found {kind(value)}")
        if len(value) < least:
            raise Damaged("expected a list that is not empty")
        result = []
        for index, item in enumerate(value):
            try:
                result.append(convert(item))
            except Damaged as damaged:
                raise damaged.within(f"[{index}]") from None
        return tuple(result)

    return convert_all


def by_name(convert: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    """The reader of an object whose keys are names that somebody chose."""

    def convert_all(value: Any) -> dict[str, T]:
        result = {}
        for key, item in json_object(value).items():
            try:
                result[key] = convert(item)
            except Damaged as damaged:
                raise damaged.within(key) from None
        return result

    return convert_all


def object_of(read: Callable[[Record], T]) -> Callable[[Any], T]:
    """The reader of a JSON object that has the keys which ``read`` takes, and no others."""

    def convert(value: Any) -> T:
        record = Record(value)
        found = read(record)
        record.end()
        return found

    return convert
