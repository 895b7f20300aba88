"""Git's configuration format (git-config(1), "Syntax"), for ``.gitmodules`` and ``.lfsconfig``.

Read by hand rather than by libgit2: that follows ``include.path``, and a repository must not choose files of
this machine.
"""

from __future__ import annotations

import re

_HEAD = re.compile(r'\[\s*([A-Za-z0-9.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9-]*)\s*(=?)\s*")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b"}

Config = dict[tuple[str, str], dict[str, str]]


def parse_config(data: bytes) -> Config:
    """Values by key, by (section, subsection); the last value of a key counts. ValueError if it is malformed.

    Sections and keys are in lower case; a key without a value is ``true``.
    """
    config: Config = {}
    here: dict[str, str] | None = None
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").replace("\r\n", "\n")
    lines = iter(text.split("\n"))
    for raw in lines:
        line = raw.lstrip()
        head = _HEAD.match(line)
        if head:
            name = re.sub(r"\\(.)", r"\1", head[2] or "")
            here = config.setdefault((head[1].lower(), name), {})
            line = line[head.end() :].lstrip()
        if not line or line[0] in "#;":
            continue
        key = _KEY.match(line)
        if key is None or here is None or (not key[2] and line[key.end() :].strip()):
            raise ValueError(f"not a line of a git configuration: {raw.strip()[:60]!r}")
        rest = line[key.end() :]
        while _continued(rest):
            rest = rest[:-1] + next(lines, "")
        here[key[1].lower()] = _value(rest) if key[2] else "true"
    return config


def _continued(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _value(text: str) -> str:
    """A value without its quotes and comment; blanks at its end are dropped unless they are quoted."""
    result, quoted, kept = "", False, 0
    at = 0
    while at < len(text):
        sign = text[at]
        at += 1
        if sign == "\\":
            if at == len(text) or text[at] not in '\\"ntb':
                raise ValueError(f"an escape that means nothing: {text[:60]!r}")
            result += _ESCAPES.get(text[at], text[at])
            at += 1
            kept = len(result)
        elif sign == '"':
            quoted = not quoted
            kept = len(result)
        elif sign in "#;" and not quoted:
            break
        else:
            result += sign
            if quoted or not sign.isspace():
                kept = len(result)
    if quoted:
        raise ValueError(f"a quotation without an end: {text[:60]!r}")
    return result[:kept]
