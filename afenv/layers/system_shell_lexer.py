"""The tokens of a shell script: words with their quoting and expansions, and operators.

Source: POSIX.1-2017, "Shell Command Language", "Token Recognition" and "Word Expansions".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from afenv.layers.system_shell_syntax import Part, ShellSyntaxError, Word


class Token(NamedTuple):
    """An operator, or a word."""

    operator: str  # empty for a word, "end" at the end
    word: Word | None
    line: int


NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXPANSION = re.compile(r"([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-])(:?[-+=?]|%%|%|##|#|)")
_OPERATORS = (";;", "&&", "||", "<<-", "<<", ">>", ">&", "<&", "<>", ">|", ";", "&", "|", "(", ")", "<", ">")
REDIRECTIONS = frozenset(("<<-", "<<", ">>", ">&", "<&", "<>", ">|", "<", ">"))
_SPECIAL = " \t\n;&|()<>"


class Lexer:
    """Cuts a script into tokens."""

    def __init__(self, text: str) -> None:
        self.text = text.replace("\\\n", "\0")  # a continued line; the lexer drops the mark
        self.position = 0
        self.line = 1
        self.heredocs: list[tuple[str, bool]] = []

    def fail(self, message: str) -> ShellSyntaxError:
        return ShellSyntaxError(f"line {self.line}: {message}")

    def tokens(self) -> list[Token]:
        """All tokens, the end as the last; ShellSyntaxError where something does not end."""
        result: list[Token] = []
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
                    result.append(Token("\n", None, self.line))
                    self.line += 1
            elif char == "\n":
                result.append(Token("\n", None, self.line))
                self.position += 1
                self.line += 1
                self.skip_heredocs()
            else:
                operator = next((item for item in _OPERATORS if text.startswith(item, self.position)), "")
                if operator:
                    self.position += len(operator)
                    result.append(Token(operator, None, self.line))
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
                result.append(Token("", word, line))
        result.append(Token("end", None, self.line))
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
        match = NAME.match(text, self.position)
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
