"""YAML 1.2, a safe subset of it, as a tree whose every node knows its line and column.

What is accepted: one document in UTF-8, mappings with text keys, sequences, and scalars of the core
schema (YAML 1.2.2, section 10.3), where ``yes``, ``no``, ``on`` and ``off`` are text and a date is text.
What is not: tags, merge keys, YAML 1.1, recursion, and anything beyond the limits below. Aliases are
counted as what they stand for, before anything is expanded, so that a YAML bomb fails at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from afenv.errors import AfenvError, Problem

MAXIMUM_SIZE = 1 << 20  # bytes of a document
MAXIMUM_DEPTH = 64  # of nesting, aliases expanded
MAXIMUM_NODES = 100_000  # in a document, aliases expanded
MAXIMUM_DIGITS = 18  # of a whole number

PathKey = str | int
DocumentPath = tuple[PathKey, ...]

_HALF = re.compile("[\ud800-\udfff]")
_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


@dataclass(slots=True)
class Node:
    """A value with its position (line and column, from 1).

    ``value`` is a scalar, a dictionary of nodes or a list of nodes. ``source`` is the text of a plain
    scalar as it was written. ``opaque`` marks a value that could not be understood and was reported.
    """

    value: Any
    line: int
    column: int
    source: str | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1
    height: int = 0
    opaque: bool = False

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read: where it is from, its tree, and what was wrong with it so far."""

    place: str
    root: Node
    problems: tuple[Problem, ...]

    def _walk(self, path: DocumentPath) -> Iterator[Node]:
        node = self.root
        yield node
        for part in path:
            value = node.value
            inside = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if not inside and not (isinstance(value, dict) and part in value):
                return
            node = value[part]
            yield node

    def node(self, path: DocumentPath) -> Node:
        """The node at ``path``, or the last one on the way that exists."""
        *_, last = self._walk(path)
        return last

    def is_opaque(self, path: DocumentPath) -> bool:
        """Whether ``path`` lies in a value that was reported already."""
        return any(node.opaque for node in self._walk(path))

    def value_place(self, path: DocumentPath) -> str:
        """``file:line:column`` of a value."""
        node = self.node(path)
        if node.source == "" and path and isinstance(path[-1], str):  # nothing was written: show the key
            line, column = self.node(path[:-1]).keys.get(path[-1], (node.line, node.column))
            return f"{self.place}:{line}:{column}"
        return f"{self.place}:{node.line}:{node.column}"

    def key_place(self, path: DocumentPath) -> str:
        """``file:line:column`` of the key that holds a value; of the value itself if it has no key."""
        if path and isinstance(path[-1], str):
            position = self.node(path[:-1]).keys.get(path[-1])
            if position is not None:
                return f"{self.place}:{position[0]}:{position[1]}"
        return self.value_place(path)


def format_path(path: DocumentPath) -> str:
    """A path in the document as messages show it, such as ``steps[0].outputs.hist``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


class _Composer:
    """Builds the tree from the parser's events."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node | None] = {}  # None: still open

    def fatal(self, code: str, message: str, line: int, column: int) -> AfenvError:
        where = f"{self.place}:{line}:{column}"
        return AfenvError.many([*self.problems, Problem(code, message, where)])

    def report(self, code: str, message: str, line: int, column: int, path: DocumentPath) -> None:
        where = f"{self.place}:{line}:{column}"
        self.problems.append(Problem(code, message, where, format_path(path) or None))

    def compose(self, events: Iterator[Any]) -> Node:
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent, StreamStartEvent

        root: Node | None = None
        for event in events:
            mark = event.start_mark
            if isinstance(event, StreamStartEvent):
                continue
            if isinstance(event, StreamEndEvent):
                break
            if not isinstance(event, DocumentStartEvent):
                continue  # the end of a document
            line, column = mark.line + 1, mark.column + 1
            if root is not None:
                raise self.fatal("E002", "expected one document, found a second one", line, column)
            if event.version not in (None, (1, 2)):
                raise self.fatal("E004", "expected YAML 1.2, found another version", line, column)
            if event.tags:
                raise self.fatal("E004", "tags are not accepted", line, column)
            root = self.node(next(events), events, (), 0)
        return root if root is not None else Node(None, 1, 1, "")

    def node(self, event: Any, events: Iterator[Any], path: DocumentPath, depth: int) -> Node:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent

        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if depth > MAXIMUM_DEPTH:
            raise self.fatal("E004", f"nested more than {MAXIMUM_DEPTH} levels deep", line, column)
        if isinstance(event, AliasEvent):
            return self.alias(event.anchor, depth, line, column)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        tagged = event.tag is not None
        if isinstance(event, ScalarEvent):
            node = self.scalar(event, line, column, path, tagged)
        elif isinstance(event, MappingStartEvent):
            node = self.mapping(events, line, column, path, depth)
        else:
            node = self.sequence(events, line, column, path, depth)
        if tagged:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            self.report("E004", f"tags are not accepted, found {tag!r}", line, column, path)
            node.opaque = True
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, anchor: str, depth: int, line: int, column: int) -> Node:
        if anchor not in self.anchors:
            raise self.fatal("E002", f"the alias *{anchor} has no anchor before it", line, column)
        node = self.anchors[anchor]
        if node is None:
            raise self.fatal("E004", f"the alias *{anchor} is inside what it stands for", line, column)
        if depth + node.height > MAXIMUM_DEPTH:
            raise self.fatal("E004", f"nested more than {MAXIMUM_DEPTH} levels deep", line, column)
        return node

    def count(self, parent: Node, child: Node, line: int, column: int) -> None:
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)
        if parent.size > MAXIMUM_NODES:
            raise self.fatal(
                "E004", f"more than {MAXIMUM_NODES} values when aliases are expanded", line, column
            )

    def sequence(self, events: Iterator[Any], line: int, column: int, path: DocumentPath, depth: int) -> Node:
        from ruamel.yaml.events import SequenceEndEvent

        items: list[Node] = []
        node = Node(items, line, column)
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            child = self.node(event, events, (*path, len(items)), depth + 1)
            items.append(child)
            self.count(node, child, event.start_mark.line + 1, event.start_mark.column + 1)
        return node

    def mapping(self, events: Iterator[Any], line: int, column: int, path: DocumentPath, depth: int) -> Node:
        from ruamel.yaml.events import MappingEndEvent, ScalarEvent

        members: dict[str, Node] = {}
        node = Node(members, line, column)
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            at = (event.start_mark.line + 1, event.start_mark.column + 1)
            if not isinstance(event, ScalarEvent):
                raise self.fatal("E004", "a key must be text, found another kind of value", *at)
            key = self.text(event)
            if key is None:
                raise self.fatal("E004", "half of a character", *at)
            plain = event.style is None
            child = self.node(next(events), events, (*path, key), depth + 1)
            self.count(node, child, *at)
            if event.tag is not None or event.anchor is not None:
                self.report("E004", f"the key {key!r} has a tag or an anchor", *at, path)
            elif plain and key == "<<":
                self.report("E004", "merge keys are not accepted", *at, path)
                node.opaque = True
            elif plain and not isinstance(_resolve(key), str):
                self.report("E011", f"expected a key that is text, found {key or 'nothing'}", *at, path)
            elif key in members:
                first = node.keys[key][0]
                self.report("E003", f"the key {key!r} stands here and on line {first}", *at, (*path, key))
            else:
                members[key] = child
                node.keys[key] = at
        return node

    def text(self, event: Any) -> str | None:
        """The text of a scalar, with characters that JSON writes as two halves; None if there is one half."""
        text: str = event.value
        if not _HALF.search(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            return None

    def scalar(self, event: Any, line: int, column: int, path: DocumentPath, tagged: bool) -> Node:
        if event.style is not None or tagged:
            node = Node(self.text(event), line, column)
            if node.value is None:
                self.report("E004", "half of a character", line, column, path)
                node.opaque = True
            return node
        node = Node(_resolve(event.value), line, column, event.value)
        if isinstance(node.value, _Unfit):
            self.report("E004", f"the number {event.value[:40]} {node.value.reason}", line, column, path)
            node.value, node.opaque = None, True
        return node


@dataclass(frozen=True, slots=True)
class _Unfit:
    reason: str


def _resolve(text: str) -> Any:
    """A plain scalar by the core schema."""
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    for pattern, start, radix in ((_INTEGER, 0, 10), (_OCTAL, 2, 8), (_HEXADECIMAL, 2, 16)):
        if pattern.match(text):
            digits = text[start:]
            if len(digits.lstrip("+-0")) > MAXIMUM_DIGITS:
                return _Unfit(f"has more than {MAXIMUM_DIGITS} digits")
            return int(digits, radix)
    if _NOT_FINITE.match(text):
        return _Unfit("is not finite")
    if _FLOAT.match(text):
        number = float(text)
        return number if math.isfinite(number) else _Unfit("is too large")
    return text


_REMEDIES = {
    "found character '\\t' that cannot start any token": "Indent with spaces: YAML does not accept tabs.",
    "mapping values are not allowed here": "Put text that has a colon and a space in it in quotes.",
}


def _syntax_error(error: Any, place: str) -> AfenvError:
    """The error of the YAML parser with its place, and with where the construct began."""
    mark, begin = error.problem_mark or error.context_mark, error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    message = ", ".join(str(part) for part in (error.context, error.problem) if part)
    if begin is not None and begin.line + 1 < line:
        message += f" (it began on line {begin.line + 1})"
    remedy = _REMEDIES.get(str(error.problem))
    return AfenvError("E002", message, place=f"{place}:{line}:{column}", remedy=remedy)


def read_yaml(data: bytes, place: str) -> Document:
    """The tree of a YAML document.

    Raises E002 if it is not YAML in UTF-8, and E004 for a document beyond the limits. Smaller
    transgressions (E003, E004, E011) are kept in ``problems``, so that everything is reported at once.
    """
    if len(data) > MAXIMUM_SIZE:
        raise AfenvError("E004", f"larger than {MAXIMUM_SIZE} bytes: {len(data)} bytes", place=place)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        message = f"expected UTF-8, found the byte 0x{data[error.start]:02x}"
        raise AfenvError("E002", message, place=f"{place}:{line}:{column}") from None

    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    composer = _Composer(place)
    try:
        root = composer.compose(iter(YAML(typ="safe", pure=True).parse(text.removeprefix("\ufeff"))))
    except ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise composer.fatal("E002", "a character that YAML does not allow", line, column) from None
    except MarkedYAMLError as error:
        raise _syntax_error(error, place) from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise composer.fatal("E002", str(error).split("\n")[0], 1, 1) from None
    return Document(place, root, tuple(composer.problems))
