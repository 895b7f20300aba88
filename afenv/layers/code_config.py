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
    at = 0
    while at < len(text):
        end = text.find("\n", at) % (len(text) + 1)  # that of the text if no line ends
        line = text[at:end].lstrip()
        head = _HEAD.match(line)
        if head:
            here = config.setdefault((head[1].lower(), re.sub(r"\\(.)", r"\1", head[2] or "")), {})
            line = line[head.end() :].lstrip()
        if not line or line[0] in "#;":
            at = end + 1
            continue
        key = _KEY.match(line)
        if key is None or here is None:
            raise ValueError(f"not a line of a git configuration: {line[:60]!r}")
        if key[2]:
            here[key[1].lower()], at = _value(text, end - len(line) + key.end())
        elif not line[key.end() :].strip() or line[key.end()] in "#;":
            here[key[1].lower()], at = "true", end + 1
        else:
            raise ValueError(f"not a line of a git configuration: {line[:60]!r}")
    return config


def _value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at a place, without its quotes and comment, and where the next line begins.

    Blanks at its end are dropped unless they are quoted or a backslash follows them.
    """
    start, result, quoted, kept = at, "", False, 0
    while at < len(text) and text[at] != "\n":
        sign = text[at]
        at += 1
        if sign == "\\":
            escaped = text[at : at + 1]
            if escaped not in ("\\", '"', "n", "t", "b", "\n", ""):
                raise ValueError(f"an escape that means nothing: {text[start : start + 60]!r}")
            result += "" if escaped == "\n" else _ESCAPES.get(escaped, escaped)
            at += 1
            kept = len(result)
        elif sign == '"':
            quoted = not quoted
            kept = len(result)
        elif sign in "#;" and not quoted:
            at = text.find("\n", at) % (len(text) + 1)
        elif quoted or result or not sign.isspace():
            result += sign
            if quoted or not sign.isspace():
                kept = len(result)
    if quoted:
        raise ValueError(f"a quotation without an end: {text[start : start + 60]!r}")
    return result[:kept], at + 1
