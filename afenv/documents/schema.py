"""What a JSON Schema says of a document, in sentences that a person can act on.

The schema is the norm; this module only turns its verdict into problems with a code, a position and a
message. Three keywords of our own help: ``x-expected`` is what a message says was expected,
``x-since`` and ``x-key`` are for the reference page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from afenv.documents.suggest import did_you_mean, one_of
from afenv.documents.yaml_tree import Document, DocumentPath, format_path
from afenv.errors import Problem

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


class _Reporter:
    """Turns validation errors into problems of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document

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
        wanted = one_of([_TYPES[name] for name in types])
        found = describe(error.instance)
        remedy = None
        source = self.document.node(path).source
        if types == ["string"] and source:
            remedy = f'Put it in quotes: "{source}".'
        elif types == ["array"] and isinstance(error.instance, str):
            remedy = f"Write a list: [{error.instance}]."
        yield self.at_value("E011", f"expected {wanted}, found {found}", path, remedy)

    def _enum(self, error: Any, path: DocumentPath) -> Iterator[Problem]:
        choices = [str(choice) for choice in error.validator_value]
        code = "E013" if isinstance(error.instance, str) else "E011"
        near = did_you_mean(error.instance, choices) if isinstance(error.instance, str) else ""
        label = _expected(error.schema)
        wanted = f"{label}: {one_of(choices)}" if label else one_of(choices)
        message = f"expected {wanted}, found {describe(error.instance)}{near}"
        yield self.at_value(code, message, path)

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
        known = list(error.schema["properties"])
        for key in error.instance:
            if key not in known:
                missing = [name for name in known if name not in error.instance]
                near = did_you_mean(key, missing) or did_you_mean(key, known)
                where = f" in {format_path(path)}" if path else ""
                listed = near or f"; known are {one_of(known, 'and')}"
                yield self.at_key("E010", f"unknown key {key!r}{where}{listed}", (*path, key))

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


def schema_problems(document: Document, schema: Mapping[str, Any]) -> list[Problem]:
    """Everything in which a document differs from a schema.

    A value of a wrong type is reported for that only, and what was reported while reading is not
    reported again.
    """
    import jsonschema

    validator = jsonschema.Draft202012Validator(schema)
    reporter = _Reporter(document)
    errors = [
        error
        for error in validator.iter_errors(document.root.plain())
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
