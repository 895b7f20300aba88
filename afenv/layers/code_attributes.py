"""Git attributes of paths, from the ``.gitattributes`` files of a tree and nothing else.

Format and precedence are those of gitattributes(5), patterns those of gitignore(5) without negation. What a
user or a host has of its own (``info/attributes``, ``core.attributesFile``) is not read, so that a tree has
the same attributes everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

FILE_NAME = b".gitattributes"
SIZE_LIMIT = 1 << 20  # bytes of one such file
_LINE_LIMIT = 2048  # bytes of a line; git ignores longer ones

Value = bytes | bool | None  # a text, set, unset, or unspecified
_BUILT_IN: Mapping[bytes, Sequence[tuple[bytes, Value]]] = {
    b"binary": ((b"diff", False), (b"merge", False), (b"text", False))
}
_CLASSES = {
    b"alnum": b"0-9A-Za-z", b"alpha": b"A-Za-z", b"blank": b" \\t", b"cntrl": b"\\x00-\\x1f\\x7f",
    b"digit": b"0-9", b"graph": b"!-~", b"lower": b"a-z", b"print": b" -~",
    b"punct": b"!-/:-@\\[-`{-~", b"space": b"\\s", b"upper": b"A-Z", b"xdigit": b"0-9A-Fa-f",
}  # fmt: skip
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: a pattern, by its components, and what it says of attributes, in its order."""

    parts: tuple[bytes, ...]
    anchored: bool  # the pattern had a slash: it is matched from the folder of its file
    folders_only: bool
    values: tuple[tuple[bytes, Value], ...]

    def matches(self, path: bytes, is_folder: bool) -> bool:
        """Whether the pattern fits a path relative to the folder of the rule's file."""
        if self.folders_only and not is_folder:
            return False
        names = path.split(b"/")
        return _fits(self.parts, tuple(names)) if self.anchored else _one(self.parts[0], names[-1])


@dataclass(frozen=True, slots=True)
class Attributes:
    """The rules of one ``.gitattributes``; ``folder`` is where it lies: empty, or ending in a slash."""

    folder: bytes
    rules: tuple[Rule, ...]
    macros: Mapping[bytes, tuple[tuple[bytes, Value], ...]]


def parse(data: bytes, folder: bytes = b"") -> Attributes:
    """A ``.gitattributes``; lines that git would not understand say nothing."""
    rules: list[Rule] = []
    macros: dict[bytes, tuple[tuple[bytes, Value], ...]] = {}
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw.strip(b" \t\r\n")
        if not line or line.startswith(b"#") or len(line) > _LINE_LIMIT:
            continue
        pattern, rest = _pattern(line)
        values = tuple(_values(rest))
        if pattern.startswith(b"[attr]"):
            if not folder:  # only those at the top count
                macros[pattern[6:]] = values
        elif pattern and not pattern.startswith(b"!"):
            folders_only = pattern.endswith(b"/") and pattern != b"/"
            inner = pattern.rstrip(b"/") if folders_only else pattern
            parts = tuple(inner.removeprefix(b"/").split(b"/"))
            rules.append(Rule(parts, b"/" in inner, folders_only, values))
    return Attributes(folder, tuple(rules), macros)


def only(attributes: Attributes, names: frozenset[bytes]) -> Attributes:
    """The same without the rules that say nothing of these attributes."""
    said = names | set(attributes.macros)
    rules = tuple(rule for rule in attributes.rules if any(name in said for name, _ in rule.values))
    return Attributes(attributes.folder, rules, attributes.macros)


def attributes_of(path: bytes, is_folder: bool, chain: Sequence[Attributes]) -> dict[bytes, Value]:
    """The attributes of a path; ``chain`` are the files that speak of it, that of the top first.

    An attribute that nothing specifies is missing, or None where a rule takes it back.
    """
    macros = dict(_BUILT_IN)
    for attributes in chain:
        macros |= attributes.macros
    found: dict[bytes, Value] = {}

    def settle(values: Sequence[tuple[bytes, Value]]) -> None:
        for name, value in reversed(values):
            if name not in found:
                found[name] = value
                if value is True and name in macros:
                    settle(macros[name])

    for attributes in reversed(chain):  # the nearest file and the last line decide
        inside = path[len(attributes.folder) :]
        for rule in reversed(attributes.rules):
            if rule.matches(inside, is_folder):
                settle(rule.values)
    return found


def _pattern(line: bytes) -> tuple[bytes, bytes]:
    """The pattern at the start of a line, and the rest."""
    if line.startswith(b'"'):
        text, at = bytearray(), 1
        while at < len(line) and line[at : at + 1] != b'"':
            if line[at : at + 1] == b"\\":
                octal = re.match(rb"[0-3][0-7]{2}", line[at + 1 : at + 4])
                if octal:
                    text.append(int(octal[0], 8))
                    at += 4
                    continue
                at += 1
                text += _ESCAPES.get(line[at : at + 1], line[at : at + 1])
            else:
                text += line[at : at + 1]
            at += 1
        if at < len(line):
            return bytes(text), line[at + 1 :]
    pattern, *rest = re.split(rb"[ \t]+", line, maxsplit=1)
    return pattern, rest[0] if rest else b""


def _values(text: bytes) -> Iterator[tuple[bytes, Value]]:
    for word in text.split():
        if word.startswith(b"-"):
            yield word[1:], False
        elif word.startswith(b"!"):
            yield word[1:], None
        else:
            name, separator, value = word.partition(b"=")
            yield name, value if separator else True


def _fits(parts: tuple[bytes, ...], names: tuple[bytes, ...]) -> bool:
    """Whether components of a pattern, where ``**`` stands for any number of folders, fit those of a path."""
    reachable = {0}  # how many names the parts so far can stand for
    for number, part in enumerate(parts):
        if len(part) > 1 and not part.strip(b"*"):
            least = min(reachable, default=len(names) + 1)
            last = number == len(parts) - 1  # at the end it is everything inside, not the folder itself
            reachable = set(range(least + last, len(names) + 1))
        else:
            reachable = {n + 1 for n in reachable if n < len(names) and _one(part, names[n])}
        if not reachable:
            return False
    return len(names) in reachable


def _one(pattern: bytes, name: bytes) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    """One component as a regular expression that needs no backtracking over several stars."""
    pieces: list[bytes] = [b""]  # what stands between stars
    at = 0
    while at < len(pattern):
        sign = pattern[at : at + 1]
        at += 1
        if sign == b"*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append(b"")
        elif sign == b"?":
            pieces[-1] += b"."
        elif sign == b"[" and (found := _bracket(pattern, at)) is not None:
            expression, at = found
            pieces[-1] += expression
        else:
            if sign == b"\\" and at < len(pattern):
                sign = pattern[at : at + 1]
                at += 1
            pieces[-1] += re.escape(sign)
    first, *others = pieces
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    return re.compile(
        first + b"".join(b"(?>.*?" + piece + b")" for piece in middle) + b".*" + last, re.DOTALL
    )


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int] | None:
    """The set after a ``[``, and where it ends; None if it has no end."""
    text = b"["
    if pattern[at : at + 1] in (b"!", b"^"):
        text += b"^"
        at += 1
    first = True
    while at < len(pattern):
        sign = pattern[at : at + 1]
        if sign == b"]" and not first:
            try:
                re.compile(text + b"]")
            except re.error:  # such as a range that runs backwards: nothing fits
                return rb"(?!)", at + 1
            return text + b"]", at + 1
        named = re.match(rb"\[:([a-z]+):\]", pattern[at:])
        if named and named[1] in _CLASSES:
            text += _CLASSES[named[1]]
            at += len(named[0])
        elif sign == b"-" and not first and pattern[at + 1 : at + 2] not in (b"]", b""):
            text += b"-"
            at += 1
        else:
            if sign == b"\\" and at + 1 < len(pattern):
                at += 1
                sign = pattern[at : at + 1]
            text += b"\\x%02x" % sign[0]
            at += 1
        first = False
    return None
