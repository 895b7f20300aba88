"""What a maintainer script would run on a first installation, found without running it.

A small evaluator of the POSIX shell: it follows quoting, variables, functions, `if`, `case`, `for`, and
the tests whose answer is known (``$1`` is ``configure``, ``$2`` is empty, files exist as the packages
say), and collects the invocations of chosen commands. Nothing is executed. A command whose outcome is
not known makes what depends on it uncertain; uncertain invocations are reported, never guessed.

Source of the language: POSIX.1-2017, "Shell Command Language".
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

from afenv.layers.system_shell_parser import parse
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
    Pipe,
    Sequence_,
    ShellSyntaxError,
)
from afenv.layers.system_shell_words import Invocation, State, fields, join

MAX_STEPS = 20_000
MAX_DEPTH = 60

_FOLDERS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
_STATUS = {":": True, "true": True, "false": False, "echo": True, "printf": True, "set": True, "umask": True}


class ShellLimitError(Exception):
    """The script is too long, or not understood; the argument says why."""


class _Exit(Exception):
    pass


class _Return(Exception):
    def __init__(self, status: bool | None) -> None:
        self.status = status


def invocations(
    script: str,
    commands: Sequence[str],
    *,
    exists: Callable[[str], bool],
    variables: Mapping[str, str],
    arguments: Sequence[str] = ("configure", ""),
) -> list[Invocation]:
    """The invocations of ``commands`` when ``script`` runs with ``arguments``.

    ``exists`` answers whether an absolute path exists. Raises :class:`ShellLimitError` where the script
    cannot be followed.
    """
    state = State(frozenset(commands), exists, dict(variables), list(arguments))
    try:
        _run(parse(script), state)
    except (_Exit, _Return):
        pass
    except ShellSyntaxError as error:
        raise ShellLimitError(str(error)) from error
    except RecursionError as error:
        raise ShellLimitError("it is nested too deeply") from error
    return state.found


# --- commands; a status is True, False, or None where it is not known ---


def _run(node: Node, state: State) -> bool | None:
    state.steps += 1
    if state.steps > MAX_STEPS:
        raise ShellLimitError("it takes too many steps")
    state.depth += 1
    if state.depth > MAX_DEPTH:
        raise ShellLimitError("it is nested too deeply")
    try:
        return _run_node(node, state)
    finally:
        state.depth -= 1


def _run_node(node: Node, state: State) -> bool | None:
    if isinstance(node, Command):
        return _command(node, state)
    if isinstance(node, Sequence_):
        status: bool | None = True
        for item in node.nodes:
            status = _run(item, state)
        return status
    if isinstance(node, Not):
        status = _run(node.node, state)
        return None if status is None else not status
    if isinstance(node, And):
        left = _run(node.left, state)
        if left is False:
            return False
        right = _perhaps(node.right, state) if left is None else _run(node.right, state)
        return right if left else (False if right is False else None)
    if isinstance(node, Or):
        left = _run(node.left, state)
        if left is True:
            return True
        right = _perhaps(node.right, state) if left is None else _run(node.right, state)
        return right if left is False else (True if right is True else None)
    if isinstance(node, If):
        return _if(node, state)
    if isinstance(node, Case):
        return _case(node, state)
    if isinstance(node, For):
        return _for(node, state)
    if isinstance(node, Loop):  # how often is not known
        _perhaps(node.condition, state)
        _perhaps(node.body, state)
        return None
    if isinstance(node, Function):
        state.functions[node.name] = node.body
        return True
    if isinstance(node, Group):
        if not node.subshell:
            return _run(node.body, state)
        saved = dict(state.variables)
        try:
            return _run(node.body, state)
        except _Exit:
            return None
        finally:
            state.variables = saved
    assert isinstance(node, Pipe)
    for item in node.nodes:
        _perhaps(item, state)
    return None


def _perhaps(node: Node, state: State) -> bool | None:
    """Follow what may or may not run."""
    state.uncertain += 1
    try:
        return _run(node, state)
    except (_Exit, _Return):
        return None
    finally:
        state.uncertain -= 1


def _if(node: If, state: State) -> bool | None:
    for condition, body in node.branches:
        status = _run(condition, state)
        if status is True:
            return _run(body, state)
        if status is None:
            _perhaps(body, state)
            rest = If(node.branches[node.branches.index((condition, body)) + 1 :], node.otherwise)
            _perhaps(rest, state)
            return None
    return True if node.otherwise is None else _run(node.otherwise, state)


def _case(node: Case, state: State) -> bool | None:
    subject = join(node.subject, state)
    doubt = subject is None
    for patterns, body in node.branches:
        match: bool | None = False
        for pattern in patterns:
            text = join(pattern, state)
            if subject is None or text is None:
                match = None
            elif fnmatch.fnmatchcase(subject, text):
                match = True
                break
        if match is True and not doubt:
            return _run(body, state)
        if match is not False:
            doubt = True
            _perhaps(body, state)
    return None if doubt else True


def _for(node: For, state: State) -> bool | None:
    values = list(state.positional) if node.words is None else fields(node.words, state)
    status: bool | None = True
    for value in values:
        state.variables[node.name] = value
        status = _run(node.body, state) if value is not None else _perhaps(node.body, state)
    return status


def _assign(assignment: Assignment, state: State) -> None:
    value = join(assignment.value, state)
    if not state.certain and state.variables.get(assignment.name, "") != value:
        value = None
    state.variables[assignment.name] = value


def _command(node: Command, state: State) -> bool | None:
    values = fields(node.words, state)
    if not values:
        for assignment in node.assignments:
            _assign(assignment, state)
        return True
    name, arguments = values[0], values[1:]
    if name is None:
        return None
    name = name.rpartition("/")[2] if name.startswith(("/usr/", "/bin/", "/sbin/")) else name
    if name in state.wanted:
        certain = state.certain and None not in arguments
        state.found.append(Invocation((name, *arguments), certain))
        return True if state.certain else None
    if name in state.functions:
        return _call(state.functions[name], arguments, state)
    if name in ("[", "test"):
        if name == "[":
            arguments = arguments[:-1]
        return _test(arguments, state)
    if name in ("local", "export", "readonly"):
        for argument in arguments:
            if argument is not None and "=" in argument:
                variable, _, value = argument.partition("=")
                state.variables[variable] = value
        return True
    if name == "unset":
        for argument in arguments:
            if argument is not None:
                state.variables.pop(argument, None)
        return True
    if name in ("exit", "return"):
        _leave(name, arguments, state)
        return None
    if name in ("shift", "set"):
        if name == "shift":
            state.positional = state.positional[1:]
        elif "--" in arguments:
            state.positional = arguments[arguments.index("--") + 1 :]
        if not state.certain:
            state.positional = [None] * len(state.positional)
        return True
    if name in ("read", "getopts", "eval") or name.startswith("db_"):
        changed = state.variables if name == "eval" else [item for item in arguments if item]
        state.variables |= dict.fromkeys([*changed, "RET", "REPLY"])
        return None
    if name == "dpkg" and arguments[:1] == ["--compare-versions"] and len(arguments) == 4:
        return _compare_versions(arguments[1], arguments[2])
    if name in ("which", "command", "type") and arguments:
        target = arguments[-1]
        if target is None:
            return None
        return any(state.exists(f"{folder}/{target}") for folder in _FOLDERS)
    return _STATUS.get(name)


def _leave(name: str, arguments: list[str | None], state: State) -> None:
    """``exit`` and ``return``."""
    status = (arguments[0] if arguments else "0") == "0" if None not in arguments else None
    if not state.uncertain:
        if name == "exit":
            raise _Exit
        raise _Return(status)
    if name == "return":
        state.may_have_returned = True
    elif status is not False:  # a script that fails installs nothing: it is taken to succeed
        state.may_have_ended = True


def _call(body: Node, arguments: list[str | None], state: State) -> bool | None:
    saved, state.positional = state.positional, arguments
    before, state.may_have_returned = state.may_have_returned, False
    try:
        return _run(body, state)
    except _Return as result:
        return result.status
    finally:
        state.positional, state.may_have_returned = saved, before


def _compare_versions(left: str | None, operator: str | None) -> bool | None:
    """Comparison with no previously installed version, the only one whose answer is known."""
    if left != "":
        return None
    return {
        "lt": True, "le": True, "eq": False, "ne": True, "ge": False, "gt": False,
        "lt-nl": False, "le-nl": False, "ge-nl": True, "gt-nl": True,
        "<<": True, "<=": True, "=": False, ">=": False, ">>": False,
    }.get(operator or "")  # fmt: skip


_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}


def _test(words: list[str | None], state: State) -> bool | None:
    """``test``: the forms of up to three arguments, ``!``, ``-a`` and ``-o``."""
    if not words:
        return False
    for operator in ("-o", "-a"):
        for index in range(1, len(words) - 1):
            if words[index] == operator and (len(words) != 3):
                left, right = _test(words[:index], state), _test(words[index + 1 :], state)
                if operator == "-o":
                    return True if left or right else (None if None in (left, right) else False)
                return False if left is False or right is False else (None if None in (left, right) else True)
    if words[0] == "!" and len(words) > 1:
        answer = _test(words[1:], state)
        return None if answer is None else not answer
    if len(words) == 1:
        return None if words[0] is None else words[0] != ""
    if len(words) == 2:
        operator, value = words[0] or "", words[1]
        if value is None:
            return None
        if operator == "-n":
            return value != ""
        if operator == "-z":
            return value == ""
        if operator in ("-e", "-f", "-d", "-x", "-r", "-s", "-h", "-L"):
            return state.exists(value) if value.startswith("/") else (False if not value else None)
        return None
    if len(words) == 3:
        left_word, middle, right_word = words
        if left_word is None or right_word is None:
            return None
        if middle in ("=", "=="):
            return left_word == right_word
        if middle == "!=":
            return left_word != right_word
        compare = _NUMBERS.get(middle or "")
        if compare is not None and left_word.isdigit() and right_word.isdigit():
            return compare(int(left_word), int(right_word))
    return None
