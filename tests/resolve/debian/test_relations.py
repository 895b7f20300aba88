from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.resolve.debian.relations import Relation, parse_clauses, parse_relations, render_clause


def test_alternatives_versions_and_qualifiers() -> None:
    clauses = parse_clauses("libc6 (>= 2.36), python3:any | python3.11(<<3.12~) , g++-12:amd64 (= 1:2-3+b1)")
    assert clauses == (
        (Relation("libc6", ">=", "2.36"),),
        (Relation("python3", qualifier="any"), Relation("python3.11", "<<", "3.12~")),
        (Relation("g++-12", "=", "1:2-3+b1", "amd64"),),
    )
    assert [render_clause(clause) for clause in clauses] == [
        "libc6 (>= 2.36)",
        "python3:any | python3.11 (<< 3.12~)",
        "g++-12:amd64 (= 1:2-3+b1)",
    ]


def test_empty_field_and_trailing_comma() -> None:
    assert parse_clauses("") == ()
    assert parse_relations("a, b,\n ") == (Relation("a"), Relation("b"))


def test_old_operators_are_inclusive() -> None:
    assert parse_relations("a (< 2), b (> 1)") == (Relation("a", "<=", "2"), Relation("b", ">=", "1"))


@pytest.mark.parametrize("text", ["a b", "a (1)", "a (>= )", "a (>= 1", "(>= 1)", "a | ", "ä"])
def test_malformed(text: str) -> None:
    with pytest.raises(AfenvError, match="E303"):
        parse_clauses(text)


def test_what_has_no_version_satisfies_only_a_relation_without_one() -> None:
    assert Relation("a").accepts(None)
    assert not Relation("a", ">=", "1").accepts(None)
    assert Relation("a", ">=", "1").accepts("1")
