"""The prefix in conda packages: from the place where a package was built to the place where it goes.

A file is either text, where the prefix may be replaced anywhere, or binary, where it may be replaced
inside a C string only: what the string loses in length is filled with NUL at its end, so that nothing
moves. The rules are those of conda, mamba and rattler; see ``docs/adr/0012-conda-layers.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

DEFAULT_PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"
MAX_STRING = 64 << 20  # bytes of a C string that holds a prefix
MAX_SHEBANG = 127  # bytes of a first line that Linux reads (128 with the newline)

_SHEBANG = re.compile(rb"#![ ]*(?P<path>/(?:\\ |[^ \n\r\t])*)(?P<rest>.*)\Z", re.DOTALL)
_PYTHON = re.compile(rb"python(?:[0-9]+(?:\.[0-9]+)?)?\Z")


class PrefixTooLong(Exception):
    """The new prefix has no room where the old one stands."""


class StringTooLong(Exception):
    """A C string that holds a prefix is implausibly long."""


def replace_text(data: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    """``data`` with the prefix replaced.

    A first line ``#!`` that would be longer than the system reads, or whose interpreter's path would
    have a space, becomes one that ``/bin/sh`` and Python both understand; where the interpreter is not
    Python, it is looked for through ``/usr/bin/env``.
    """
    if data[:2] != b"#!":
        return data.replace(placeholder, prefix)
    end = data.find(b"\n")
    line, rest = (data, b"") if end < 0 else (data[:end], data[end:])
    return _shebang(line, placeholder, prefix) + rest.replace(placeholder, prefix)


def _shebang(line: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    line = line.decode("utf-8", "replace").encode()
    new = line.replace(placeholder, prefix)
    spaced = b" " in prefix and placeholder in line
    if len(new) <= MAX_SHEBANG and not spaced:
        return new
    match = _SHEBANG.match(line if spaced else new)
    if match is None:
        return new
    path, rest = (match[part].replace(placeholder, prefix) for part in ("path", "rest"))
    name = match["path"].rpartition(b"/")[2]
    if _PYTHON.match(name):
        return b"#!/bin/sh\n'''exec' \"" + path + b'"' + rest + b' "$0" "$@" #' + b"'''"
    return b"#!/usr/bin/env " + name + rest


def replace_binary(chunks: Iterable[bytes], placeholder: bytes, prefix: bytes) -> Iterator[bytes]:
    """The content that comes in ``chunks`` with the prefix replaced inside its C strings; of equal size.

    :class:`PrefixTooLong` if the new prefix is longer than the old one; :class:`StringTooLong`.
    """
    if len(prefix) > len(placeholder):
        raise PrefixTooLong
    kept = b""  # may hold the start of a placeholder, or starts with one whose string has no end yet
    for chunk in chunks:
        data = kept + chunk if kept else chunk
        at = 0
        while (start := data.find(placeholder, at)) >= 0:
            end = data.find(b"\0", start + len(placeholder))
            if end < 0:
                break
            if start > at:
                yield data[at:start]
            yield _string(data[start:end], placeholder, prefix)
            at = end
        hold = start if start >= 0 else max(at, len(data) - len(placeholder) + 1)
        if hold > at:
            yield data[at:hold]
        kept = data[hold:]
        if len(kept) > MAX_STRING:
            raise StringTooLong
    if kept.startswith(placeholder):
        yield _string(kept, placeholder, prefix)
    elif kept:
        yield kept


def _string(old: bytes, placeholder: bytes, prefix: bytes) -> bytes:
    return old.replace(placeholder, prefix).ljust(len(old), b"\0")
