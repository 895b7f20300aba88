"""A Snakefile whose rules have containers, as a draft of a manifest.

A Snakefile is a program, and nothing of it is run: rules whose parts are plain values are taken over, and
all else is named in the draft.

Source: Snakemake's documentation, "Snakefiles and Rules" (grammar).
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.workflow.import_draft import Draft, identifier, read_mapping, shown

_RULE = re.compile(r"(rule|checkpoint)\s+(\w+)?\s*:\s*(?:#.*)?\Z")
_KEY = re.compile(r"\s+(\w+)\s*:(.*)\Z", re.DOTALL)
_TOP = re.compile(r"(container|singularity|configfile)\s*:(.*)\Z", re.DOTALL)
_FIELD = re.compile(r"\{\{|\}\}|\{(\w+)((?:\.\w+|\[[^\[\]{}]*\])*)(:q)?\}")
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
)
_CONTAINERS = ("container", "singularity")
_TAKEN = {"input", "output", "params", "threads", "resources", "shell", *_CONTAINERS, "message"}


@dataclass(slots=True)
class _Rule:
    name: str
    line: int
    parts: dict[str, str] = field(default_factory=dict)  # the text behind each keyword
    inputs: list[tuple[str | None, str]] = field(default_factory=list)
    outputs: list[tuple[str | None, str]] = field(default_factory=list)


def read_snakefile(path: Path) -> str:
    """The text of a Snakefile; E001 or E775."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AfenvError("E775", "the file is not text in UTF-8", place=str(path)) from None
    except OSError as error:
        raise AfenvError("E001", f"cannot read it: {error.strerror}", place=str(path)) from None


def take_snakefile(text: str, path: Path, draft: Draft) -> None:
    """Take over its rules; E775 for one that cannot be understood at all, E776 for a circle."""
    rules, top = _rules(text, path, draft)
    config: dict[str, Any] = {}
    if "configfile" in top:
        name = _single(top["configfile"], path)
        config = read_mapping(path.parent / name) if name and (path.parent / name).is_file() else {}
    common = next((_single(top[key], path) for key in _CONTAINERS if key in top), None)
    usable = []
    for rule in rules:
        if "shell" not in rule.parts and not ({"script", "notebook", "run", "wrapper"} & rule.parts.keys()):
            continue  # it only names what is wanted
        if _files_of(rule, draft):
            usable.append(rule)
    _check_circle(usable, path)
    if usable:
        message = "its commands were run by bash with `set -euo pipefail`; here it is /bin/sh with `set -e`"
        draft.todo.append(message)
    steps: dict[str, str] = {}
    for rule in usable:
        steps[rule.name] = identifier(rule.name, steps.values())
    owners: dict[str, tuple[str, str]] = {}
    keys: dict[str, dict[str, str]] = {}
    for rule in usable:
        keys[rule.name] = {}
        for number, (key, place) in enumerate(rule.outputs, 1):
            name = identifier(key or f"output-{number}", keys[rule.name].values())
            keys[rule.name][place] = name
            owners[place.rstrip("/")] = (steps[rule.name], name)
    for rule in usable:
        taken = _Step(rule, steps[rule.name], keys[rule.name], owners, config, draft)
        draft.steps.append(taken.step(common))


def _rules(text: str, path: Path, draft: Draft) -> tuple[list[_Rule], dict[str, str]]:
    """The rules, and what stands outside of them; code is noted in the draft."""
    rules: list[_Rule] = []
    top: dict[str, str] = {}
    code: list[int] = []
    current: _Rule | None = None
    for line, statement in _statements(text, path):
        stripped = statement.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if not statement[0].isspace():
            current = None
            if found := _RULE.match(statement):
                current = _Rule(name=found[2] or f"rule-{line}", line=line)
                rules.append(current)
                if found[1] == "checkpoint":
                    draft.todo.append(f"{found[2]} is a checkpoint: a manifest's steps are known beforehand")
            elif found := _TOP.match(statement):
                top[found[1]] = found[2]
            else:
                code.append(line)
        elif current is not None and (key := _KEY.match(statement)) and _is_key(statement, current):
            current.parts[key[1]] = key[2]
        elif current is not None and current.parts:
            last = next(reversed(current.parts))
            current.parts[last] += "\n" + statement
        else:
            code.append(line)
    if code:
        numbers = ", ".join(map(str, dict.fromkeys(code)))
        draft.todo.append(f"{path.name} has code outside of rules, in the lines {numbers}: it is not run")
    return rules, top


def _is_key(statement: str, rule: _Rule) -> bool:
    """Whether a line begins a part of the rule: it is indented as the first part is."""
    indent = len(statement) - len(statement.lstrip())
    first = rule.parts.get("", "")
    if not first:
        rule.parts[""] = " " * indent
        return True
    return indent == len(first)


def _statements(text: str, path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers; those inside of a string or of brackets belong to the one that began it."""
    import io
    import tokenize

    lines = text.splitlines(keepends=True)
    inner: set[int] = set()
    try:
        depth, opened = 0, 0
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.STRING:
                inner.update(range(token.start[0] + 1, token.end[0] + 1))
            elif token.type == tokenize.OP and token.string in "([{":
                depth, opened = depth + 1, opened if depth else token.start[0]
            elif token.type == tokenize.OP and token.string in ")]}":
                depth -= 1
                if not depth:
                    inner.update(range(opened + 1, token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError) as error:  # IndentationError is one
        raise AfenvError("E775", f"not a Snakefile: {error.args[0]}", place=str(path)) from None
    found: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        if number in inner and found:
            found[-1] = (found[-1][0], found[-1][1] + line)
        else:
            found.append((number, line))
    return [(number, line.rstrip("\n")) for number, line in found]


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]] | None:
    """What is given to a part of a rule, as a call has it; None if it is not plain enough to be parsed."""
    try:
        call = ast.parse(f"f({text.strip()}\n)", mode="eval").body
    except (SyntaxError, ValueError):
        return None
    assert isinstance(call, ast.Call)
    named = {one.arg: one.value for one in call.keywords if one.arg is not None}
    if len(named) < len(call.keywords):
        return None
    return list(call.args), named


class _Unknown(Exception):
    pass


def _value(node: Any, config: dict[str, Any]) -> Any:
    """The value of an expression: a literal, ``config["x"]``, ``lambda wildcards: …``, ``directory("…")``."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Lambda):
        return _value(node.body, config)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one, config) for one in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1:
        value = _value(node.args[0], config)
        if node.func.id == "directory" and isinstance(value, str):
            return value.rstrip("/") + "/"
        if node.func.id in ("temp", "protected", "ancient", "touch") and isinstance(value, str):
            return value
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "config":
        key = _value(node.slice, config)
        if key in config:
            return config[key]
    raise _Unknown(ast.unparse(node))


def _single(text: str, path: Path) -> str | None:
    given = _arguments(text)
    if given is None or not given[0]:
        return None
    try:
        value = _value(given[0][0], {})
    except _Unknown:
        return None
    return value if isinstance(value, str) else None


def _files_of(rule: _Rule, draft: Draft) -> bool:
    """Fill in what a rule reads and writes; whether it is all known."""
    for part, place in (("input", rule.inputs), ("output", rule.outputs)):
        given = _arguments(rule.parts.get(part, ""))
        try:
            if given is None:
                raise _Unknown(rule.parts[part].strip())
            pairs = [(None, one) for one in given[0]] + list(given[1].items())
            for key, node in pairs:
                value = _value(node, {})
                for one in value if isinstance(value, list) else [value]:
                    if not isinstance(one, str):
                        raise _Unknown(repr(one))
                    plain = one.replace("{{", "").replace("}}", "")
                    if "{" in plain:
                        raise _Unknown(f"{one}, which has wildcards")
                    fixed = one.replace("{{", "{").replace("}}", "}").removeprefix("./")
                    place.append((key, fixed))
        except _Unknown as error:
            message = f"the rule {rule.name} (line {rule.line}) is not taken over, for its {part} is"
            draft.todo.append(f"{message} {shown(str(error))}")
            return False
    if "shell" not in rule.parts:
        kind = next(key for key in rule.parts if key in ("script", "notebook", "run", "wrapper"))
        draft.todo.append(f"the rule {rule.name} (line {rule.line}) is not taken over, for it has `{kind}:`")
        return False
    return True


def _check_circle(rules: list[_Rule], path: Path) -> None:
    owner = {place.rstrip("/"): rule.name for rule in rules for _, place in rule.outputs}
    waiting = {
        rule.name: {owner[place.rstrip("/")] for _, place in rule.inputs if place.rstrip("/") in owner}
        for rule in rules
    }
    while ready := [name for name, before in waiting.items() if not before & waiting.keys()]:
        for name in ready:
            del waiting[name]
    if waiting:
        message = f"rules wait for each other in a circle: {', '.join(waiting)}"
        raise AfenvError("E776", message, place=str(path))


class _Step:
    """A rule, while it becomes a step."""

    def __init__(
        self,
        rule: _Rule,
        name: str,
        keys: dict[str, str],
        owners: dict[str, tuple[str, str]],
        config: dict[str, Any],
        draft: Draft,
    ) -> None:
        self.rule, self.name, self.keys, self.config, self.draft = rule, name, keys, config, draft
        self.parameters: dict[str, Any] = {}
        self.read: list[tuple[str | None, str]] = []
        for key, place in rule.inputs:
            owner = owners.get(place.rstrip("/"))
            known = f"{owner[0]}.{owner[1]}" if owner else draft.add_data(place, Path(place).stem)
            self.read.append((key, known))
        self.params = self._params()
        self.used: set[str] = set()

    def todo(self, sentence: str) -> None:
        self.draft.todo.append(f"the rule {self.rule.name} (line {self.rule.line}) {sentence}")

    def step(self, common: str | None) -> dict[str, Any]:
        """The step as a manifest has it."""
        given = _arguments(self.rule.parts["shell"])
        try:
            if given is None or len(given[0]) != 1:
                raise _Unknown(self.rule.parts["shell"].strip())
            command = str(_value(given[0][0], {}))
        except _Unknown as error:
            self.todo(f"has a command that is not plain text: {shown(str(error))}")
            command = str(error)
        run = textwrap.dedent(_FIELD.sub(self._word, command)).strip()
        for (_, place), (_, known) in zip(self.rule.inputs, self.read, strict=True):
            if "." not in known and place in command:
                self.todo(f"has the path {place} in its command: write {{inputs.{known}}}")
        image = next(
            (_single(self.rule.parts[key], Path()) for key in _CONTAINERS if key in self.rule.parts), common
        )
        resources = self._resources()
        for key in sorted(self.rule.parts.keys() - _TAKEN - {""}):
            self.todo(f"has {key}: {shown(' '.join(self.rule.parts[key].split()))}")
        inputs = list(dict.fromkeys(known for _, known in self.read))
        outputs = {name: place for place, name in self.keys.items()}
        parameters = {name: one for name, one in self.parameters.items() if name in self.used}
        for name in sorted(self.parameters.keys() - parameters.keys()):
            self.todo(f"has the parameter {name}, which its command does not use")
        return {
            "name": self.name,
            "environment": self.draft.environment(image, self.name),
            "run": run or ":",
            **({"inputs": inputs} if inputs else {}),
            **({"outputs": outputs} if outputs else {}),
            **({"parameters": parameters} if parameters else {}),
            **({"resources": resources} if resources else {}),
        }

    def _params(self) -> dict[str, str]:
        """The names of parameters in the manifest, by those of the rule."""
        found: dict[str, str] = {}
        given = _arguments(self.rule.parts.get("params", ""))
        if given is None or given[0]:
            self.todo(
                f"has params that are not plain values by name: {shown(self.rule.parts['params'].strip())}"
            )
        for key, node in (given[1] if given else {}).items():
            try:
                value = _value(node, self.config)
            except _Unknown as error:
                self.todo(f"has the parameter {key}, the value of which is not known: {shown(str(error))}")
                continue
            if name := self._declare(key, value):
                found[key] = name
        return found

    def _declare(self, key: str, value: Any) -> str | None:
        kind = next((text for type_, text in _TYPES if isinstance(value, type_)), None)
        if kind is None:
            self.todo(f"has the parameter {key}, which is no text, number or boolean: {shown(value)}")
            return None
        name = identifier(key)
        self.parameters[name] = {"type": kind, "default": value}
        return name

    def _word(self, found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        kind, rest = found[1], found[2]
        key = re.sub(r"[\[\]'\".]", "", rest)
        words: list[str] = []
        if kind == "input":
            words = [f"{{inputs.{known}}}" for known in self._chosen(self.read, key)]
        elif kind == "output":
            places = self._chosen(self.rule.outputs, key)
            words = [f"{{outputs.{self.keys[place]}}}" for place in places]
        elif kind == "params" and key in self.params:
            words = [f"{{parameters.{self.params[key]}}}"]
        elif kind == "config" and key in self.config:
            name = identifier(key)
            if name in self.parameters or self._declare(key, self.config[key]):
                words = [f"{{parameters.{name}}}"]
        elif kind == "threads":
            words = [str(self._threads())]
        if not words:
            self.todo(f"has {found[0]} in its command, of which nothing is known")
            return found[0]
        self.used |= {word[12:-1] for word in words if word.startswith("{parameters.")}
        return " ".join(words)

    @staticmethod
    def _chosen(pairs: list[tuple[str | None, str]], key: str) -> list[str]:
        if not key:
            return [value for _, value in pairs]
        if key.isdecimal():
            return [pairs[int(key)][1]] if int(key) < len(pairs) else []
        return [value for name, value in pairs if name == key]

    def _threads(self) -> int:
        given = _arguments(self.rule.parts.get("threads", "1"))
        node = given[0][0] if given and given[0] else None
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else 1

    def _resources(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "threads" in self.rule.parts:
            found["cores"] = max(1, self._threads())
        given = _arguments(self.rule.parts.get("resources", ""))
        for key, node in (given[1] if given else {}).items():
            value = node.value if isinstance(node, ast.Constant) else None
            memory = re.fullmatch(r"([0-9]+)([KMGT])i", str(value))
            if key == "mem_mb" and isinstance(value, int):
                found["memory"] = f"{value} MB"
            elif key == "runtime" and isinstance(value, int):
                found["time"] = f"{value}m"
            elif key == "gpu" and isinstance(value, int):
                found["gpus"] = value
            elif key == "kubernetes_memory_limit" and memory:
                found["memory"] = f"{memory[1]} {memory[2]}iB"
            else:
                self.todo(f"has the resource {key}: {shown(ast.unparse(node))}")
        return found
