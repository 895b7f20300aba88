"""The syntax tree of a shell script, as far as maintainer scripts use the language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ShellSyntaxError(Exception):
    """The script is not understood; the argument says where and why."""


class Part(NamedTuple):
    """A part of a word. ``kind`` is ``text``, ``variable``, ``command`` or ``unknown``.

    For a variable, ``operator`` and ``argument`` are those of ``${NAME<operator><argument>}``.
    """

    kind: str
    text: str
    quoted: bool = False
    operator: str = ""
    argument: Word = None  # type: ignore[assignment]  # only variables with an operator have one


@dataclass(frozen=True, slots=True)
class Word:
    """A word before expansion."""

    parts: tuple[Part, ...]

    def literal(self) -> str | None:
        """The text of a word without quotes and expansions; None for others."""
        if len(self.parts) == 1 and self.parts[0].kind == "text" and not self.parts[0].quoted:
            return self.parts[0].text
        return None


@dataclass(frozen=True, slots=True)
class Assignment:
    """``NAME=value``."""

    name: str
    value: Word


class Node:
    """A command of any kind."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Command(Node):
    """A simple command."""

    words: tuple[Word, ...]
    assignments: tuple[Assignment, ...] = ()
    redirected: bool = False


@dataclass(frozen=True, slots=True)
class Sequence_(Node):
    """Commands one after the other."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class And(Node):
    """``left && right``."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Or(Node):
    """``left || right``."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not(Node):
    """``! node``."""

    node: Node


@dataclass(frozen=True, slots=True)
class Pipe(Node):
    """``a | b``."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class If(Node):
    """``if``; ``branches`` are pairs of condition and body."""

    branches: tuple[tuple[Node, Node], ...]
    otherwise: Node | None


@dataclass(frozen=True, slots=True)
class Case(Node):
    """``case``."""

    subject: Word
    branches: tuple[tuple[tuple[Word, ...], Node], ...]


@dataclass(frozen=True, slots=True)
class For(Node):
    """``for``; without ``words`` it goes through the positional parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: Node


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """``while`` or ``until``."""

    condition: Node
    body: Node


@dataclass(frozen=True, slots=True)
class Function(Node):
    """A function definition."""

    name: str
    body: Node


@dataclass(frozen=True, slots=True)
class Group(Node):
    """``{ … }`` or ``( … )``."""

    body: Node
    subshell: bool
