"""What an activation script does to the variables of an environment, found without running it.

Most scripts of ``etc/conda/activate.d`` only export variables, depending on what is set and on which
files exist; the answer is known when the image is built. Such a script is followed here exactly. One
that does anything else is refused as a whole (:class:`NotStatic`), never half followed.

Source of the language: POSIX.1-2017, "Shell Command Language", and bash's manual for ``[[``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from afenv.layers.system_shell_lexer import Lexer
from afenv.layers.system_shell_parser import parse
from afenv.layers.system_shell_syntax import (
    And,
    Command,
    Group,
    If,
    Node,
    Not,
    Or,
    Part,
    Sequence_,
    ShellSyntaxError,
    Word,
)

Exists = Callable[[str], Literal["file", "folder", ""]]

# Variables whose value is known only when the container runs.
_RUNTIME = frozenset(
    (
        *("COLUMNS", "HOME", "HOSTNAME", "IFS", "LINES", "LOGNAME", "MAIL", "OLDPWD", "PPID", "PS1"),
        *("PWD", "SHELL", "SHLVL", "TERM", "TMPDIR", "UID", "USER", "_"),
    )
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SPECIAL = re.compile(r"[\s*?\[~]")
MAX_VALUE = 1 << 16
MAX_DEPTH = 50


class NotStatic(Exception):
    """The script does something whose result is not known before it runs; the argument says what."""


class _Return(Exception):
    pass


def exported(script: str, variables: Mapping[str, str], exists: Exists) -> dict[str, str]:
    """The environment after ``script`` was sourced into a shell that has ``variables``; pure.

    ``exists`` tells what lies at an absolute path of the image, and raises :class:`NotStatic` where that
    is not known. A variable that is removed is not in the result.
    """
    shell = _Shell(variables, exists)
    try:
        if any(token.operator == "&" for token in Lexer(script).tokens()):
            raise NotStatic("it runs something in the background")
        shell.run(parse(script), 0)
    except _Return:
        pass
    except ShellSyntaxError as error:
        raise NotStatic(f"it is not understood: {error}") from None
    except RecursionError:
        raise NotStatic("it is nested too deeply") from None
    return {name: value for name, value in shell.variables.items() if name in shell.exported}


class _Shell:
    def __init__(self, variables: Mapping[str, str], exists: Exists) -> None:
        self.variables = dict(variables)
        self.exported = set(variables)
        self._exists = exists

    def run(self, node: Node, depth: int) -> bool:
        """Follow a command; whether it succeeds."""
        if depth > MAX_DEPTH:
            raise NotStatic("it is nested too deeply")
        if isinstance(node, Sequence_):
            status = True
            for one in node.nodes:
                status = self.run(one, depth + 1)
            return status
        if isinstance(node, And):
            return self.run(node.left, depth + 1) and self.run(node.right, depth + 1)
        if isinstance(node, Or):
            return self.run(node.left, depth + 1) or self.run(node.right, depth + 1)
        if isinstance(node, Not):
            return not self.run(node.node, depth + 1)
        if isinstance(node, If):
            for condition, body in node.branches:
                if self.run(condition, depth + 1):
                    return self.run(body, depth + 1)
            return self.run(node.otherwise, depth + 1) if node.otherwise is not None else True
        if isinstance(node, Command):
            return self._command(node)
        if isinstance(node, Group) and not node.subshell:
            return self.run(node.body, depth + 1)
        raise NotStatic(f"it has a {type(node).__name__.strip('_').lower()}")

    def _command(self, node: Command) -> bool:
        if node.redirected:
            raise NotStatic("it redirects")
        if not node.words:
            for assignment in node.assignments:
                self._set(assignment.name, self._join(assignment.value))
            return True
        if node.assignments:
            raise NotStatic("it sets variables for one command")
        name = node.words[0].literal()
        if name == "export":
            return self._export(node.words[1:])
        expand = self._join if name == "[[" else self._field
        words = [expand(word) for word in node.words[1:]]
        if name == "unset":
            for word in words:
                if word == "-v":
                    continue
                self._known_name(word)
                self.variables.pop(word, None)
                self.exported.discard(word)
            return True
        if name in (":", "true"):
            return True
        if name == "false":
            return False
        if name == "return" and words in ([], ["0"]):
            raise _Return
        if name in ("[", "[["):
            if not words or words.pop() != ("]" if name == "[" else "]]"):
                raise NotStatic("it has a test that is not understood")
            return self._test(words, pattern=name == "[[")
        if name == "test":
            return self._test(words, pattern=False)
        raise NotStatic(f"it runs {name or 'a command that is not known'}")

    def _export(self, words: tuple[Word, ...]) -> bool:
        for word in words:
            name, equals, value = self._join(word).partition("=")
            self._known_name(name)
            if equals:
                self._set(name, value)
            if name in self.variables:
                self.exported.add(name)
            elif not equals:
                raise NotStatic(f"it exports {name}, which has no value")
        return True

    def _known_name(self, name: str) -> None:
        if not _NAME.match(name) or name in _RUNTIME or name in ("BASH_ENV", "ENV"):
            raise NotStatic(f"it changes {name or 'a variable that is not known'}")

    def _set(self, name: str, value: str) -> None:
        self._known_name(name)
        if len(value) > MAX_VALUE or "\0" in value or "\n" in value:
            raise NotStatic(f"it gives {name} a value that an image cannot hold")
        self.variables[name] = value

    # --- words ---

    def _join(self, word: Word) -> str:
        """The value of a word where the shell does not split it."""
        first = word.parts[0] if word.parts else None
        if first is not None and first.kind == "text" and not first.quoted and first.text.startswith("~"):
            raise NotStatic("it needs the home folder")
        if any(not part.quoted and part.kind == "text" and "=~" in part.text for part in word.parts):
            raise NotStatic("it needs the home folder")
        return "".join(self._part(part) for part in word.parts)

    def _field(self, word: Word) -> str:
        """The value of a word that has to be one field after splitting."""
        for part in word.parts:
            value = self._part(part)
            if not part.quoted and _SPECIAL.search(value):
                raise NotStatic("it depends on how a word is split or a pattern expands")
            if not part.quoted and part.kind == "variable" and not value and len(word.parts) == 1:
                raise NotStatic("it depends on how an empty word is dropped")
        return self._join(word)

    def _part(self, part: Part) -> str:
        if part.kind == "text":
            return part.text
        if part.kind != "variable":
            raise NotStatic("it runs a command inside a word")
        name = part.text
        if name not in self.variables and (not _NAME.match(name) or name in _RUNTIME):
            raise NotStatic(f"it depends on ${name}")
        value = self.variables.get(name)
        if not part.operator:
            return value or ""
        missing = not value if part.operator[0] == ":" else value is None
        if part.operator in (":-", "-"):
            return self._join(part.argument) if missing else value or ""
        if part.operator in (":+", "+"):
            return "" if missing else self._join(part.argument)
        raise NotStatic(f"it uses ${{{name}{part.operator}…}}")

    # --- tests ---

    def _test(self, words: list[str], *, pattern: bool) -> bool:
        if words[:1] == ["!"] and len(words) > 1:
            return not self._test(words[1:], pattern=pattern)
        if not words:
            return False
        if len(words) == 1:
            return bool(words[0])
        if len(words) == 2:
            operator, value = words
            if operator in ("-n", "-z"):
                return bool(value) is (operator == "-n")
            if operator in ("-d", "-e", "-f", "-r"):
                found = self._exists(value) if value else ""
                wanted = {"-d": ("folder",), "-f": ("file",)}.get(operator, ("file", "folder"))
                return found in wanted
        if len(words) == 3:
            left, operator, right = words
            if pattern and _SPECIAL.search(right):
                raise NotStatic("it compares with a pattern")
            if operator in ("=", "=="):
                return left == right
            if operator == "!=":
                return left != right
        raise NotStatic("it has a test that is not understood")
