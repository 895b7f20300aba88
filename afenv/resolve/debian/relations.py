"""Relationship fields of binary packages (Debian Policy 7.1) as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from afenv.errors import AfenvError
from afenv.resolve.debian.version import satisfies

_RELATION = re.compile(
    r"\s*(?P<name>[a-zA-Z0-9][a-zA-Z0-9+.-]*)(?::(?P<qualifier>[a-z0-9-]+))?"
    r"\s*(?:\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s()<>=]+)\s*\))?\s*\Z"
)
_OLD_OPERATORS = {"<": "<=", ">": ">="}  # policy 7.1: "<" and ">" were always inclusive


@dataclass(frozen=True, slots=True)
class Relation:
    """One name in a relationship field, with the versions it accepts and an architecture qualifier."""

    name: str
    operator: str = ""
    version: str = ""
    qualifier: str = ""

    def accepts(self, version: str | None) -> bool:
        """Whether a package, or a provided name, of that version satisfies it; None: it has no version."""
        if not self.operator:
            return True
        return version is not None and satisfies(version, self.operator, self.version)

    def __str__(self) -> str:
        name = f"{self.name}:{self.qualifier}" if self.qualifier else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name


Clause = tuple[Relation, ...]  # alternatives, the preferred one first


def _relation(text: str) -> Relation:
    match = _RELATION.match(text)
    if match is None:
        raise AfenvError("E303", f"{text.strip()!r} is not a relation between packages")
    operator = match["operator"] or ""
    return Relation(
        match["name"],
        _OLD_OPERATORS.get(operator, operator),
        match["version"] or "",
        match["qualifier"] or "",
    )


@lru_cache(maxsize=16384)
def parse_clauses(field: str) -> tuple[Clause, ...]:
    """The clauses of a field such as ``Depends``, all of which must hold; E303 if it is malformed."""
    return tuple(
        tuple(_relation(alternative) for alternative in clause.split("|"))
        for clause in field.split(",")
        if clause.strip()
    )


def parse_relations(field: str) -> tuple[Relation, ...]:
    """The relations of a field that knows no alternatives, such as ``Conflicts`` or ``Provides``."""
    return tuple(relation for clause in parse_clauses(field) for relation in clause)


def render_clause(clause: Clause) -> str:
    """The clause as the field writes it."""
    return " | ".join(map(str, clause))
