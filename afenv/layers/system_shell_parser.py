"""The grammar of the POSIX shell, as far as maintainer scripts use it.

Source: POSIX.1-2017, "Shell Command Language", "Shell Grammar".
"""

from __future__ import annotations

from afenv.layers.system_shell_lexer import NAME, REDIRECTIONS, Lexer, Token
from afenv.layers.system_shell_syntax import (
    And,
    Assignment,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Loop,
    Node,
    Not,
    Or,
    Part,
    Pipe,
    Sequence_,
    ShellSyntaxError,
    Word,
)

_CLOSING = frozenset(("then", "else", "elif", "fi", "do", "done", "esac", "}"))


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    @property
    def token(self) -> Token:
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
        while self.token.operator in REDIRECTIONS:
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
        if not NAME.fullmatch(name):
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
    if not sign or not NAME.fullmatch(name):
        return None
    first = (Part("text", rest),) if rest else ()
    return Assignment(name, Word((*first, *word.parts[1:])))


def parse(script: str) -> Node:
    """The syntax tree of a script; :class:`ShellSyntaxError` where it is not understood."""
    if "\0" in script:
        raise ShellSyntaxError("the script holds a NUL")
    parser = _Parser(Lexer(script).tokens())
    tree = parser.list()
    if parser.token.operator != "end":
        raise parser.fail("the end of the script")
    return tree
