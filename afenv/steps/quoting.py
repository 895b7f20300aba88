"""Values in the text of a POSIX shell command: each is quoted for the place at which it stands.

Source: POSIX.1-2017, "Shell Command Language", 2.2 (quoting), 2.3 (comments), 2.6.3 (command
substitution) and 2.7.4 (here-documents).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

PLACEHOLDER = re.compile(r"\{(inputs|outputs|parameters)\.([^{}]*)\}")
_HERE = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]+)'|\"([^\"\n]+)\"|(\\?)([A-Za-z0-9_.+-]+))")
_SPECIAL = re.compile(r"([\\\"$`])")
_SPECIAL_HERE = re.compile(r"([\\$`])")
_WORD_BREAK = " \t\n;&|()<>"


def quoted(values: Sequence[str], state: str) -> str:
    """The values as words where ``state`` (the kind of text around them) is empty, else as text in it."""
    if not state:
        return " ".join(shlex.quote(value) for value in values)
    text = " ".join(values)
    if state == '"':
        return _SPECIAL.sub(r"\\\1", text)
    if state == "'":
        return text.replace("'", "'\\''")
    if state == "#":
        return text.replace("\n", " ")
    return _SPECIAL_HERE.sub(r"\\\1", text) if state == "<" else text


def replace_placeholders(template: str, value: Callable[[str, str], Sequence[str]]) -> str:
    """The template with each placeholder replaced by ``value(kind, name)``, quoted for where it stands."""
    return render_placeholders(template, lambda kind, name, state: quoted(value(kind, name), state))


def render_placeholders(template: str, render: Callable[[str, str, str], str]) -> str:
    """The template with each placeholder replaced by ``render(kind, name, state)``.

    ``state`` says where it stands: empty (it is a word), a quote, ``#`` (a comment), ``<`` (a here-document)
    or ``<'`` (one in which nothing is expanded).
    """
    return "".join(part if isinstance(part, str) else render(*part) for part in _parts(template))


def _parts(template: str) -> list[str | tuple[str, str, str]]:
    """Text, and placeholders as (kind, name, state).

    A state is empty, a quote, ``#`` (a comment), ``<`` or ``<'`` (a here-document, or one that is literal).
    """
    parts: list[str | tuple[str, str, str]] = []
    states = [""]  # from the outside inwards; "(" and "`" are command substitutions, which are as unquoted
    waiting: list[tuple[str, bool, bool]] = []  # here-documents of this line: end, quoted, tabs are taken off
    position = 0
    while position < len(template):
        state = states[-1]
        found = PLACEHOLDER.match(template, position)
        if found:
            parts.append((found[1], found[2], "" if state in ("(", "`") else state))
            position = found.end()
            continue
        taken = 1
        char = template[position]
        if state == "'":
            if char == "'":
                states.pop()
        elif char == "\\":
            taken = 2
        elif char == '"':
            if state == '"':
                states.pop()
            else:
                states.append('"')
        elif template.startswith("$(", position):
            states.append("(")
            taken = 2
        elif char == "`":
            if "`" in states:
                while states.pop() != "`":
                    pass
            else:
                states.append("`")
        elif state == '"':
            pass
        elif char == "'":
            states.append("'")
        elif char == "(":
            states.append("(")
        elif char == ")" and state == "(":
            states.pop()
        elif char == "#" and (position == 0 or template[position - 1] in _WORD_BREAK):
            end = template.find("\n", position)
            end = len(template) if end < 0 else end
            parts.extend(_plain(template[position:end], "#"))
            position = end
            continue
        elif here := _HERE.match(template, position):
            end_word = here[2] or here[3] or here[5]
            waiting.append((end_word, bool(here[2] or here[3] or here[4]), bool(here[1])))
            taken = len(here[0])
        elif char == "\n" and waiting:
            parts.append(char)
            position = _here_documents(template, position + 1, waiting, parts)
            waiting = []
            continue
        parts.append(template[position : position + taken])
        position += taken
    return parts


def _plain(text: str, state: str) -> list[str | tuple[str, str, str]]:
    found: list[str | tuple[str, str, str]] = []
    at = 0
    for match in PLACEHOLDER.finditer(text):
        found += [text[at : match.start()], (match[1], match[2], state)]
        at = match.end()
    return [*found, text[at:]]


def _here_documents(
    template: str,
    position: int,
    waiting: Sequence[tuple[str, bool, bool]],
    parts: list[str | tuple[str, str, str]],
) -> int:
    """Add the here-documents that begin at a position; where they end."""
    for end_word, literal, tabs in waiting:
        while position < len(template):
            end = template.find("\n", position) + 1 or len(template)
            line = template[position:end]
            parts.extend(_plain(line, "<'" if literal else "<"))
            position = end
            bare = line.rstrip("\n")
            if (bare.lstrip("\t") if tabs else bare) == end_word:
                break
    return position
