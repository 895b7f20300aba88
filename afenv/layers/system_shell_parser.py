"""The syntax of the POSIX shell, as far as maintainer scripts use it.

Source of the grammar: POSIX.1-2017, "Shell Command Language", "Shell Grammar".
"""

from __future__ import annotations

import re
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


class _Token(NamedTuple):
    operator: str  # empty for a word, "end" at the end
    word: Word | None
    line: int


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXPANSION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-])(:?[-+=?]|%%|%|##|#|)")
_OPERATORS = (";;", "&&", "||", "<<-", "<<", ">>", ">&", "<&", "<>", ">|", ";", "&", "|", "(", ")", "<", ">")
_REDIRECTIONS = frozenset(("<<-", "<<", ">>", ">&", "<&", "<>", ">|", "<", ">"))
_SPECIAL = " \t\n;&|()<>"


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\\\n", "\0")  # a continued line; the lexer drops the mark
        self.position = 0
        self.line = 1
        self.heredocs: list[tuple[str, bool]] = []

    def fail(self, message: str) -> ShellSyntaxError:
        return ShellSyntaxError(f"line {self.line}: {message}")

    def tokens(self) -> list[_Token]:
        result: list[_Token] = []
        text = self.text
        while self.position < len(text):
            char = text[self.position]
            if char in " \t":
                self.position += 1
            elif char == "\0":
                self.line += 1
                self.position += 1
            elif char == "#":
                # A continuation inside a comment is none: the comment ends with its line.
                ends = [end for end in (text.find(mark, self.position) for mark in "\n\0") if end >= 0]
                self.position = min(ends, default=len(text))
                if self.position < len(text) and text[self.position] == "\0":
                    self.position += 1
                    result.append(_Token("\n", None, self.line))
                    self.line += 1
            elif char == "\n":
                result.append(_Token("\n", None, self.line))
                self.position += 1
                self.line += 1
                self.skip_heredocs()
            else:
                operator = next((item for item in _OPERATORS if text.startswith(item, self.position)), "")
                if operator:
                    self.position += len(operator)
                    result.append(_Token(operator, None, self.line))
                    continue
                line = self.line
                word = self.word(_SPECIAL)
                following = text[self.position : self.position + 1]
                literal = word.literal()
                if following in ("<", ">") and following and literal is not None and literal.isdigit():
                    continue  # the number of a file that is redirected
                if result and result[-1].operator in ("<<", "<<-"):
                    delimiter = "".join(part.text for part in word.parts)
                    self.heredocs.append((delimiter, result[-1].operator == "<<-"))
                result.append(_Token("", word, line))
        result.append(_Token("end", None, self.line))
        return result

    def skip_heredocs(self) -> None:
        while self.heredocs:
            delimiter, stripped = self.heredocs.pop(0)
            while True:
                if self.position >= len(self.text):
                    raise self.fail(f"the here-document does not end with {delimiter!r}")
                end = self.text.find("\n", self.position)
                end = len(self.text) if end < 0 else end
                line = self.text[self.position : end]
                self.position = min(end + 1, len(self.text))
                self.line += 1 + line.count("\0")
                if (line.lstrip("\t") if stripped else line) == delimiter:
                    break

    def word(self, stop: str) -> Word:
        """A word up to a character of ``stop`` that is not quoted."""
        parts: list[Part] = []
        plain: list[str] = []
        text = self.text

        def flush() -> None:
            if plain:
                parts.append(Part("text", "".join(plain)))
                plain.clear()

        while self.position < len(text):
            char = text[self.position]
            if char in stop:
                break
            self.position += 1
            if char == "\0":
                self.line += 1
            elif char == "'":
                end = text.find("'", self.position)
                if end < 0:
                    raise self.fail("a quotation does not end")
                flush()
                quoted = text[self.position : end].replace("\0", "\\\n")
                parts.append(Part("text", quoted, True))
                self.line += quoted.count("\n")
                self.position = end + 1
            elif char == '"':
                flush()
                parts.extend(self.double_quoted())
            elif char == "\\":
                flush()
                parts.append(Part("text", text[self.position : self.position + 1], True))
                self.position += 1
            elif char in "$`":
                flush()
                parts.append(self.expansion(char, False))
            else:
                plain.append(char)
                if char == "\n":
                    self.line += 1
        flush()
        return Word(tuple(parts))

    def double_quoted(self) -> list[Part]:
        parts: list[Part] = []
        plain: list[str] = []
        text = self.text
        while True:
            if self.position >= len(text):
                raise self.fail("a quotation does not end")
            char = text[self.position]
            self.position += 1
            if char == '"':
                break
            if char == "\\" and text[self.position : self.position + 1] in ("$", "`", '"', "\\"):
                plain.append(text[self.position])
                self.position += 1
            elif char in "$`":
                if plain:
                    parts.append(Part("text", "".join(plain), True))
                    plain.clear()
                parts.append(self.expansion(char, True))
            elif char == "\0":
                self.line += 1
            else:
                plain.append(char)
                if char == "\n":
                    self.line += 1
        if plain or not parts:
            parts.append(Part("text", "".join(plain), True))
        return parts

    def expansion(self, char: str, quoted: bool) -> Part:
        """What follows ``$`` or a backquote."""
        text = self.text
        if char == "`":
            end = self.position
            while end < len(text) and text[end] != "`":
                end += 2 if text[end] == "\\" else 1
            if end >= len(text):
                raise self.fail("a command substitution does not end")
            inner = text[self.position : end]
            self.position = end + 1
            self.line += inner.count("\n") + inner.count("\0")
            return Part("command", inner.replace("\0", "\\\n"), quoted)
        if text.startswith("((", self.position):
            self.balanced()
            return Part("unknown", "", quoted)
        if text.startswith("(", self.position):
            return Part("command", self.balanced().replace("\0", "\\\n"), quoted)
        if text.startswith("{", self.position):
            self.position += 1
            if text.startswith("#", self.position) and not text.startswith("#}", self.position):
                self.word("}")
                self.position += 1
                return Part("unknown", "", quoted)
            match = _EXPANSION.match(text, self.position)
            if match is None:
                raise self.fail("an expansion is not understood")
            self.position = match.end()
            argument = self.word("}")
            if not text.startswith("}", self.position):
                raise self.fail("an expansion does not end")
            self.position += 1
            if argument.parts and not match[2]:
                return Part("unknown", "", quoted)
            return Part("variable", match[1], quoted, match[2], argument)
        match = _NAME.match(text, self.position)
        if match is not None:
            self.position = match.end()
            return Part("variable", match[0], quoted)
        if text[self.position : self.position + 1] in tuple("0123456789@*#?$!-"):
            self.position += 1
            return Part("variable", text[self.position - 1], quoted)
        return Part("text", "$", quoted)

    def balanced(self) -> str:
        """The text between this parenthesis and the one that closes it."""
        start = self.position + 1
        depth = 0
        text = self.text
        while self.position < len(text):
            char = text[self.position]
            self.position += 1
            if char == "(":
                depth += 1
            elif char == ")":
                depth -= 1
                if depth == 0:
                    return text[start : self.position - 1]
            elif char == "\\":
                self.position += 1
            elif char == "'":
                self.position = text.find("'", self.position) + 1 or len(text)
            elif char == '"':
                self.double_quoted()
            elif char in "\n\0":
                self.line += 1
        raise self.fail("a command substitution does not end")


_CLOSING = frozenset(("then", "else", "elif", "fi", "do", "done", "esac", "}"))


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def keyword(self) -> str:
        word = self.token.word
        return (word.literal() or "") if word is not None else ""

    def fail(self, expected: str) -> ShellSyntaxError:
        return ShellSyntaxError(f"line {self.token.line}: expected {expected}")

    def expect(self, keyword: str) -> None:
        if self.keyword() != keyword:
            raise self.fail(f"`{keyword}`")
        self.position += 1

    def expect_operator(self, operator: str) -> None:
        if self.token.operator != operator:
            raise self.fail(f"`{operator}`")
        self.position += 1

    def newlines(self) -> None:
        while self.token.operator == "\n":
            self.position += 1

    def list(self, *stops: str) -> Node:
        """Commands up to a closing keyword or operator."""
        self.depth += 1
        if self.depth > 100:
            raise self.fail("less nesting")
        nodes: list[Node] = []
        while True:
            while self.token.operator in ("\n", ";", "&"):
                self.position += 1
            if self.token.operator in ("end", ")", ";;", *stops) or self.keyword() in _CLOSING:
                break
            nodes.append(self.and_or())
            if self.token.operator not in ("\n", ";", "&", "end", ")", ";;"):
                raise self.fail("the end of the command")
        self.depth -= 1
        return Sequence_(tuple(nodes))

    def and_or(self) -> Node:
        node = self.pipeline()
        while self.token.operator in ("&&", "||"):
            operator = self.token.operator
            self.position += 1
            self.newlines()
            right = self.pipeline()
            node = And(node, right) if operator == "&&" else Or(node, right)
        return node

    def pipeline(self) -> Node:
        negated = False
        while self.keyword() == "!":
            negated = not negated
            self.position += 1
        nodes = [self.command()]
        while self.token.operator == "|":
            self.position += 1
            self.newlines()
            nodes.append(self.command())
        node = nodes[0] if len(nodes) == 1 else Pipe(tuple(nodes))
        return Not(node) if negated else node

    def command(self) -> Node:
        keyword = self.keyword()
        if self.token.operator == "(":
            self.position += 1
            node: Node = Group(self.list(), True)
            self.expect_operator(")")
        elif keyword == "{":
            self.position += 1
            node = Group(self.list(), False)
            self.expect("}")
        elif keyword == "if":
            node = self.if_()
        elif keyword == "case":
            node = self.case()
        elif keyword == "for":
            node = self.for_()
        elif keyword in ("while", "until"):
            self.position += 1
            condition = self.list()
            node = Loop(condition, self.do())
        else:
            return self.simple()
        self.redirections()
        return node

    def redirections(self) -> bool:
        some = False
        while self.token.operator in _REDIRECTIONS:
            self.position += 1
            if self.token.word is None:
                raise self.fail("the target of a redirection")
            self.position += 1
            some = True
        return some

    def do(self) -> Node:
        self.expect("do")
        body = self.list()
        self.expect("done")
        return body

    def if_(self) -> Node:
        branches: list[tuple[Node, Node]] = []
        otherwise: Node | None = None
        while self.keyword() in ("if", "elif"):
            self.position += 1
            condition = self.list()
            self.expect("then")
            branches.append((condition, self.list()))
        if self.keyword() == "else":
            self.position += 1
            otherwise = self.list()
        self.expect("fi")
        return If(tuple(branches), otherwise)

    def case(self) -> Node:
        self.position += 1
        subject = self.token.word
        if subject is None:
            raise self.fail("a word after `case`")
        self.position += 1
        self.newlines()
        self.expect("in")
        branches: list[tuple[tuple[Word, ...], Node]] = []
        while True:
            self.newlines()
            if self.keyword() == "esac":
                self.position += 1
                return Case(subject, tuple(branches))
            if self.token.operator == "(":
                self.position += 1
            patterns: list[Word] = []
            while True:
                if self.token.word is None:
                    raise self.fail("a pattern")
                patterns.append(self.token.word)
                self.position += 1
                if self.token.operator != "|":
                    break
                self.position += 1
            self.expect_operator(")")
            branches.append((tuple(patterns), self.list()))
            if self.token.operator == ";;":
                self.position += 1
            elif self.keyword() != "esac":
                raise self.fail("`;;` or `esac`")

    def for_(self) -> Node:
        self.position += 1
        name = self.keyword()
        if not _NAME.fullmatch(name):
            raise self.fail("a name after `for`")
        self.position += 1
        self.newlines()
        words: list[Word] | None = None
        if self.keyword() == "in":
            self.position += 1
            words = []
            while self.token.word is not None:
                words.append(self.token.word)
                self.position += 1
        while self.token.operator in ("\n", ";"):
            self.position += 1
        return For(name, None if words is None else tuple(words), self.do())

    def simple(self) -> Node:
        words: list[Word] = []
        assignments: list[Assignment] = []
        redirected = False
        while True:
            if self.redirections():
                redirected = True
                continue
            word = self.token.word
            if word is None:
                break
            assignment = None if words else _assignment(word)
            if assignment is not None:
                assignments.append(assignment)
                self.position += 1
                continue
            self.position += 1
            if not words and self.token.operator == "(":
                name = word.literal()
                self.position += 1
                self.expect_operator(")")
                if name is None or not name:
                    raise self.fail("a function's name")
                self.newlines()
                return Function(name, self.command())
            words.append(word)
        if not words and not assignments and not redirected:
            raise self.fail("a command")
        return Command(tuple(words), tuple(assignments), redirected)


def _assignment(word: Word) -> Assignment | None:
    if not word.parts or word.parts[0].kind != "text" or word.parts[0].quoted:
        return None
    name, sign, rest = word.parts[0].text.partition("=")
    if not sign or not _NAME.fullmatch(name):
        return None
    first = (Part("text", rest),) if rest else ()
    return Assignment(name, Word((*first, *word.parts[1:])))


def parse(script: str) -> Node:
    """The syntax tree of a script; :class:`ShellSyntaxError` where it is not understood."""
    if "\0" in script:
        raise ShellSyntaxError("the script holds a NUL")
    parser = _Parser(_Lexer(script).tokens())
    tree = parser.list()
    if parser.token.operator != "end":
        raise parser.fail("the end of the script")
    return tree
