"""The words of a shell script, expanded as far as their values are known.

Source: POSIX.1-2017, "Shell Command Language", "Word Expansions".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from afenv.layers.system_shell_parser import parse
from afenv.layers.system_shell_syntax import Command, Node, Part, Sequence_, ShellSyntaxError, Word

_GLOB = re.compile(r"[*?]|\[.*\]")


class Invocation(NamedTuple):
    """A command that the script runs; ``certain`` is False where that, or a word of it, is not known."""

    words: tuple[str | None, ...]
    certain: bool


@dataclass
class State:
    """What is known while a script is followed; None is a value that is not known."""

    wanted: frozenset[str]
    exists: Callable[[str], bool]
    variables: dict[str, str | None]
    positional: list[str | None]
    functions: dict[str, Node] = field(default_factory=dict)
    found: list[Invocation] = field(default_factory=list)
    uncertain: int = 0  # nesting of what may or may not run
    may_have_ended: bool = False  # the script
    may_have_returned: bool = False  # the function
    steps: int = 0
    depth: int = 0

    @property
    def certain(self) -> bool:
        """Whether what comes now certainly runs, if the script succeeds."""
        return not (self.uncertain or self.may_have_ended or self.may_have_returned)


# Variables that the environment has, with values that are not known.
_FOREIGN = frozenset(("PATH", "HOME", "PWD", "IFS", "TERM", "USER", "SHELL", "LANG", "DEBIAN_FRONTEND"))


def _parameter(name: str, state: State) -> str | None:
    """The value of a variable or parameter; None if it is not known, empty if it is not set."""
    if name.isdigit():
        number = int(name)
        if number == 0:
            return "postinst"
        return state.positional[number - 1] if number <= len(state.positional) else ""
    if name == "#":
        return str(len(state.positional))
    if name in "@*":
        values = state.positional
        return None if None in values else " ".join(value for value in values if value is not None)
    if name in "?$!-":
        return None
    return state.variables.get(name, None if name in _FOREIGN or name.startswith("LC_") else "")


def _part(part: Part, state: State) -> str | None:
    if part.kind == "text":
        return part.text
    if part.kind == "variable":
        value = _parameter(part.text, state)
        if part.operator in (":-", "-"):
            if value is None or value:
                return value
            return join(part.argument, state) if part.operator == ":-" or not value else value
        if part.operator in (":+", "+"):
            return None if value is None else (join(part.argument, state) if value else "")
        if part.operator in ("%", "%%", "#", "##"):
            return _trim(value, part.operator, join(part.argument, state))
        return value if not part.operator else None
    if part.kind == "command":
        return _substitution(part.text, state)
    return None


def _trim(value: str | None, operator: str, pattern: str | None) -> str | None:
    """``${x%pattern}`` and its like."""
    if value is None or pattern is None:
        return None
    lengths = range(len(value) + 1)
    for length in lengths if len(operator) == 1 else reversed(lengths):
        if operator[0] == "%":
            head, tail = value[: len(value) - length], value[len(value) - length :]
            if fnmatch.fnmatchcase(tail, pattern):
                return head
        elif fnmatch.fnmatchcase(value[:length], pattern):
            return value[length:]
    return value


def _substitution(script: str, state: State) -> str | None:
    """The output of a few commands whose answer is known."""
    words = script.split()
    if words[:2] == ["dpkg", "--print-architecture"] and len(words) == 2:
        return state.variables.get("DPKG_MAINTSCRIPT_ARCH")
    if words in (["uname", "-s"], ["uname"]):
        return "Linux"
    try:
        tree = parse(script)
    except ShellSyntaxError:
        return None
    if isinstance(tree, Sequence_) and len(tree.nodes) == 1 and isinstance(tree.nodes[0], Command):
        command = tree.nodes[0]
        values = fields(command.words, state)
        if command.assignments or command.redirected or not values or None in values:
            return None
        known = [value for value in values if value is not None]
        if known[0] == "echo" and known[1:2] != ["-n"] and not any("\\" in word for word in known):
            return " ".join(known[1:])
        if known[0] == "basename" and len(known) in (2, 3):
            name = known[1].rstrip("/").rpartition("/")[2]
            return name.removesuffix(known[2]) if len(known) == 3 else name
        if known[0] == "dirname" and len(known) == 2:
            return known[1].rpartition("/")[0] or ("/" if known[1].startswith("/") else ".")
        if known[0] == "expr" and len(known) == 4 and known[2] in ("+", "-"):
            if not (known[1].isdigit() and known[3].isdigit()):
                return None
            left, right = int(known[1]), int(known[3])
            return str(left + right if known[2] == "+" else left - right)
    return None


def join(word: Word, state: State) -> str | None:
    """The word as one string, without field splitting."""
    values = [_part(part, state) for part in word.parts]
    return None if None in values else "".join(value for value in values if value is not None)


def fields(words: Sequence[Word], state: State) -> list[str | None]:
    """The words after expansion and field splitting; None stands for one that is not known."""
    result: list[str | None] = []
    for word in words:
        if len(word.parts) == 1 and word.parts[0].kind == "variable" and word.parts[0].text == "@":
            result.extend(state.positional)
            continue
        current: str | None = ""
        started = False
        for part in word.parts:
            value = _part(part, state)
            if value is None:
                current, started = None, True
            elif part.quoted or part.kind == "text":
                current = None if current is None else current + value
                started = True
            else:
                pieces = value.split()
                if not pieces:
                    continue
                if value[0].isspace() and started:
                    result.append(current)
                    current = ""
                for index, piece in enumerate(pieces):
                    if index:
                        result.append(current)
                        current = ""
                    current = None if current is None else current + piece
                started = True
                if value[-1].isspace():
                    result.append(current)
                    current, started = "", False
        if started:
            if current is not None and any(
                part.kind == "text" and not part.quoted and _GLOB.search(part.text) for part in word.parts
            ):
                current = None  # a file name pattern: what it matches is not known
            result.append(current)
    return result
