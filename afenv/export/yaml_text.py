"""YAML for other tools: commands are blocks, and a text means the same in YAML 1.1 and 1.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dump(value: Mapping[str, Any], engine: str, *remarks: str) -> str:
    """The text of a mapping in the order of its keys, below a comment that says what wrote it."""
    return header(engine, *remarks) + block(value)


def block(value: Mapping[str, Any]) -> str:
    """The text of a mapping in block style."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.version = (1, 1)
    yaml.width = 1 << 20
    yaml.allow_unicode = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    yaml.dump(_styled(value), stream)
    return stream.getvalue().removeprefix("%YAML 1.1\n---").lstrip()


def header(engine: str, *remarks: str) -> str:
    """The comment at the head of every document that is written."""
    lines = [f"Written by `afenv export {engine}`; export again instead of editing.", *remarks]
    return "".join(f"# {line}\n" for line in lines)


def _styled(value: Any) -> Any:
    from ruamel.yaml.scalarstring import LiteralScalarString

    if isinstance(value, Mapping):
        return {key: _styled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_styled(item) for item in value]
    if isinstance(value, str) and "\n" in value:
        plain = all(character.isprintable() or character in "\n" for character in value)
        trailing = any(line != line.rstrip() for line in value.splitlines())
        return LiteralScalarString(value) if plain and not trailing else value
    return value
