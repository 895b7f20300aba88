"""What a JSON Schema says of a document, in sentences that a person can act on.

The schema is the norm; this module only turns its verdict into problems with a code, a position and a
message. Three keywords of our own help: ``x-expected`` is what a message says was expected,
``x-support`` and ``x-key`` are for the reference page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from afenv.documents.suggest import did_you_mean, one_of
from afenv.documents.yaml_tree import Document, DocumentPath, format_path
from afenv.errors import AfenvError, Problem
from afenv.specs import specs_folder

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def describe(value: Any) -> str:
    """A value in a few words, for messages."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:57] + "…"
        return repr(shown)
    return "a list" if isinstance(value, list) else "a mapping"


def _expected(schema: Any) -> str | None:
    text = schema.get("x-expected") if isinstance(schema, Mapping) else None
    return text if isinstance(text, str) else None


def _flow_scalar(word: str) -> str:
    """A word as an item of a YAML list."""
    return word if re.fullmatch(r"[A-Za-z_./][\w./+-]*", word) else f'"{word}"'


class _Reporter:
    """Turns validation errors into problems of one document."""

    def __init__(self, document: Document, schema: Mapping[str, Any]) -> None:
        self.document = document
        self.schema = schema

    def at_value(self, code: str, message: str, path: DocumentPath, remedy: str | None = None) -> Problem:
        place = self.document.value_place(path)
        return Problem(code, message, place, format_path(path) or None, remedy)

    def at_key(self, code: str, message: str, path: DocumentPath, remedy: str | None = None) -> Problem:
        place = self.document.key_place(path)
        return Problem(code, message, place, format_path(path) or None, remedy)

    def problems(self, error: Any) -> Iterator[Problem]:
        """The problems that one validation error stands for."""
        path: DocumentPath = tuple(error.absolute_path)
        if "propertyNames" in error.relative_schema_path:
            name = str(error.instance)
            if error.validator == "not":
                yield self._excluded(error, name, path)
                return
            wanted = _expected(error.schema) or "another name"
            yield self.at_key("E013", f"expected {wanted}, found {name!r}", (*path, name))
            return
        keyword = error.validator
        handler = getattr(self, f"_{keyword}", None)
        if handler is not None:
            yield from handler(error, path)
        else:
            wanted = _expected(error.schema) or str(error.validator_value)
            yield self.at_value("E013", f"expected {wanted}, found {describe(error.instance)}", path)

    def _excluded(self, error: Any, key: str, path: DocumentPath) -> Problem:
        """A key that a neighbour excludes: ``propertyNames: {not: {enum: …}}`` in a condition."""
        way = list(error.absolute_schema_path)
        if "dependentSchemas" in way:
            other = str(way[len(way) - way[::-1].index("dependentSchemas")])
            message = f"{other!r} and {key!r} exclude each other"
        else:
            message = f"{key!r} is accepted {_expected(error.schema)}"
        return self.at_key("E014", message, (*path, key))

    def _type(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        types = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        if "enum" in error.schema:
            yield self._not_among(error, path, error.schema["enum"])
            return
        wanted = one_of([_TYPES[name] for name in types])
        if "const" in error.schema:
            wanted = _expected(error.schema) or wanted
        remedy = None
        source = self.document.node(path).source
        if types == ["string"] and source:
            remedy = f'Put it in quotes: "{source}".'
        elif types == ["array"] and isinstance(error.instance, str):
            remedy = f"Write a list: [{', '.join(map(_flow_scalar, error.instance.split()))}]."
        message = f"expected {wanted}, found {describe(error.instance)}"
        yield self.at_value("E011", message, path, remedy)

    def _enum(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        yield self._not_among(error, path, error.validator_value)

    def _not_among(self, error: Any, path: DocumentPath, choices: list[str]) -> Problem:
        found, label = error.instance, _expected(error.schema)
        scalar = isinstance(found, str | int | float)
        wanted = f"{label}: {one_of(choices)}" if label else one_of(choices)
        near = did_you_mean(str(found), choices) if scalar else ""
        code = "E013" if isinstance(found, str) else "E011"
        return self.at_value(code, f"expected {wanted}, found {describe(found)}{near}", path)

    def _required(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        for name in error.validator_value:
            if name not in error.instance:
                because = " (with 'delivery: trace')" if "then" in error.absolute_schema_path else ""
                yield self.at_key("E012", f"the key {name!r} is missing{because}", path)

    def _dependentRequired(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        for key, names in error.validator_value.items():
            for name in names:
                if key in error.instance and name not in error.instance:
                    message = f"the key {name!r} is missing, which {key!r} needs"
                    yield self.at_key("E012", message, (*path, key))

    def _anyOf(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        names = [repr(name) for branch in error.validator_value for name in branch["required"]]
        if isinstance(error.instance, dict):
            yield self.at_key("E012", f"one of the keys {one_of(names)} is missing", path)

    def _additionalProperties(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        known = error.schema["properties"]
        for key in error.instance:
            if key in known:
                continue
            missing = [name for name in known if name not in error.instance]
            owners = [repr(name) for name in known if key in self._members(known[name])]
            hint = did_you_mean(key, missing) or did_you_mean(key, known)
            if owners:
                hint = f"; it belongs in {one_of(owners)}"
            where = f" in {format_path(path)}" if path else ""
            listed = hint or f"; known are {one_of(list(known), 'and')}"
            yield self.at_key("E010", f"unknown key {key!r}{where}{listed}", (*path, key))

    def _members(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """The properties of the mapping, or of each mapping in the list, that a schema describes."""
        for _ in range(2):
            schema = schema.get("items", schema)
            name = schema.get("$ref", "").removeprefix("#/$defs/")
            schema = self.schema["$defs"].get(name, schema)
        properties: Mapping[str, Any] = schema.get("properties", {})
        return properties

    def _uniqueItems(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        for index, item in enumerate(error.instance):
            if item in error.instance[:index]:
                message = f"{describe(item)} is listed twice"
                yield self.at_value("E013", message, (*path, index), "Remove one of the two.")

    def _minItems(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        yield self.at_value("E013", "expected a list that is not empty", path)

    def _minProperties(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        yield self.at_key("E013", "expected at least one entry, found an empty mapping", path)

    def _maxLength(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        count = len(error.instance)
        message = f"expected at most {error.validator_value} characters, found {count}"
        yield self.at_value("E013", message, path)

    def _minimum(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        message = f"expected at least {error.validator_value}, found {error.instance}"
        yield self.at_value("E013", message, path)

    def _maximum(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        message = f"expected at most {error.validator_value}, found {error.instance}"
        yield self.at_value("E013", message, path)


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if isinstance(instance, str) and not re.search(re.sub(r"\$\Z", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


@cache
def _validator_class() -> Any:
    """JSON Schema 2020-12 whose ``$`` is that of ECMA-262: it does not match before a final newline."""
    import jsonschema

    extend: Any = jsonschema.validators.extend
    return extend(jsonschema.Draft202012Validator, {"pattern": _pattern})


def schema_of(document: str) -> Any:
    """The JSON Schema of a kind of document, by the name of its folder in ``specs/``."""
    return json.loads((specs_folder() / document / "v1" / "schema.json").read_bytes())


def check_json(value: Any, document: str, code: str, place: str) -> None:
    """An AfenvError of this code, with the path, for the first thing that the document's schema refuses."""
    for wrong in schema_errors(value, schema_of(document)):
        where = format_path(tuple(wrong.absolute_path))
        raise AfenvError(code, wrong.message[:200], place=place, path=where or None)


def schema_errors(value: Any, schema: Mapping[str, Any]) -> list[Any]:
    """The errors of ``jsonschema`` for a value; empty if it is valid."""
    return list(_validator_class()(schema).iter_errors(value))


def schema_problems(document: Document, schema: Mapping[str, Any]) -> list[Problem]:
    """Everything in which a document differs from a schema.

    A value of a wrong type is reported for that only, and what was reported while reading is not
    reported again.
    """
    reporter = _Reporter(document, schema)
    errors = [
        error
        for error in schema_errors(document.root.plain(), schema)
        if not document.is_opaque(tuple(error.absolute_path))
    ]
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    kept = (
        error for error in errors if error.validator == "type" or tuple(error.absolute_path) not in mistyped
    )
    return unique(problem for error in kept for problem in reporter.problems(error))


def unique(problems: Iterable[Problem]) -> list[Problem]:
    """The problems without repetition, in their order."""
    return list(dict.fromkeys(problems))
