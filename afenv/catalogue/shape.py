"""Checks of plain JSON values by the shape that a format states, fast enough for ten thousand records.

A shape is a function that takes a value and raises :class:`Misshapen` if it is not as it should be. The first
thing that is wrong is reported with its path: these documents are written by programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

Shape = Callable[[Any], None]
LONGEST = 4096  # letters of a text
MOST = 10_000  # entries of a list


class Misshapen(Exception):
    """A value is not as the format says; the path is completed on the way out."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def within(self, step: str) -> Misshapen:
        """The same, seen from one level further out."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return Misshapen(self.message, f"{step}{joint}{self.path}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def kind(value: Any) -> str:
    """A value in a word or two, for messages."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def text(pattern: str, expected: str, longest: int = LONGEST) -> Shape:
    """Text that a pattern fits as a whole."""
    whole = rf"(?:{pattern})\Z"  # compiled when it is first used, and kept

    def check(value: Any) -> None:
        if not isinstance(value, str) or len(value) > longest or not _compiled(whole).match(value):
            shown = repr(value[:80]) if isinstance(value, str) else kind(value)
            raise Misshapen(f"expected {expected}, found {shown}")

    return check


def integer(value: Any) -> None:
    """A whole number from 0 to 2^53 - 1, which every reader of JSON can hold."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise Misshapen(f"expected a whole number from 0 on, found {kind(value)}")


def boolean(value: Any) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise Misshapen(f"expected true or false, found {kind(value)}")


def choice(*words: str) -> Shape:
    """One of some words."""

    def check(value: Any) -> None:
        if value not in words or not isinstance(value, str):
            raise Misshapen(f"expected {' or '.join(words)}, found {value!r:.80}")

    return check


def listed(inner: Shape, *, least: int = 0) -> Shape:
    """A list of things of one shape."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise Misshapen(f"expected a list, found {kind(value)}")
        if not least <= len(value) <= MOST:
            raise Misshapen(f"expected {least} to {MOST} entries, found {len(value)}")
        for index, entry in enumerate(value):
            try:
                inner(entry)
            except Misshapen as error:
                raise error.within(f"[{index}]") from None

    return check


def mapped(name: Shape, inner: Shape) -> Shape:
    """An object with any names of one shape."""

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Misshapen(f"expected an object, found {kind(value)}")
        for key, entry in value.items():
            try:
                name(key)
                inner(entry)
            except Misshapen as error:
                raise error.within(str(key)[:80]) from None

    return check


def fields(needed: Mapping[str, Shape], optional: Mapping[str, Shape], *, more: bool = False) -> Shape:
    """An object with these keys; with ``more`` keys that are not known are left alone."""
    every = {**needed, **optional}

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise Misshapen(f"expected an object, found {kind(value)}")
        for key in needed:
            if key not in value:
                raise Misshapen(f"the key {key!r} is missing")
        for key, entry in value.items():
            inner = every.get(key)
            if inner is None:
                if more:
                    continue
                raise Misshapen(f"unknown key {key[:80]!r}", key[:80])
            try:
                inner(entry)
            except Misshapen as error:
                raise error.within(key) from None

    return check
