"""Why packages cannot be had, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from afenv.errors import AfenvError, Problem
from afenv.resolve.debian.candidates import Candidates
from afenv.resolve.debian.relations import Relation, render_clause
from afenv.resolve.debian.solve import Blocked, Failure, Need


def _chain(failure: Failure, name: str) -> str:
    """How the package came in: ``requested a → depends b (>= 2)``, or ``installed a``."""
    steps: list[str] = []
    while True:
        _, need = failure.reasons[name]
        if need.by is None:
            break
        steps.append(f"depends {render_clause(need.clause)}")
        name = need.by
    return " → ".join([f"{_word(need)} {name}", *reversed(steps)])


def _word(need: Need) -> str:
    return "installed" if need.installed else "requested"


def _need(failure: Failure, need: Need) -> str:
    if need.by is None:
        return f"{_word(need)} {render_clause(need.clause)}"
    return f"{_chain(failure, need.by)} → depends {render_clause(need.clause)}"


def _obstacle(failure: Failure, blocked: Blocked) -> str:
    own, other = blocked.candidate, blocked.by
    if blocked.word == "is":
        return f"{_chain(failure, other.name)} takes {other.name} {other.version}, and not {own.version}"
    if blocked.backwards:
        return f"{own} {blocked.word} {blocked.relation}; {_chain(failure, other.name)} is {other}"
    return (
        f"{_chain(failure, other.name)} ({other.version}) → {blocked.word} {blocked.relation}; that is {own}"
    )


def _absence(candidates: Candidates, relation: Relation) -> str:
    """Why nothing at all satisfies a relation."""
    versions = candidates.versions(relation.name)
    if versions:
        return f"{relation.name} is there as {', '.join(found.version for found in versions)}"
    if candidates.providers(relation.name):
        return (
            f"{relation.name} is provided in other versions by {_some(candidates.providers(relation.name))}"
        )
    return f"there is no package {relation.name}"


def _some(names: Sequence[str], limit: int = 6) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def conflict_error(candidates: Candidates, failure: Failure, suite: str) -> AfenvError:
    """E102 for a failed search: what is needed, and what stands against each way to have it."""
    if failure.blocked:
        obstacles = list(dict.fromkeys(_obstacle(failure, blocked) for blocked in failure.blocked))
    else:
        obstacles = [f"in {suite}, {_absence(candidates, relation)}" for relation in failure.need.clause]
    message = "; ".join([_need(failure, failure.need), *obstacles])
    if failure.gave_up:
        message += "; no other choice of packages was found in reasonable time"
    return AfenvError("E102", message, path="base.packages")


def missing_error(candidates: Candidates, names: Sequence[str], suite: str) -> AfenvError:
    """E101 for names that are no packages of the suite: what they may have meant."""
    return AfenvError.many([_missing(candidates, name, suite) for name in names])


def _missing(candidates: Candidates, name: str, suite: str) -> Problem:
    providers = candidates.providers(name)
    if providers:
        return Problem(
            "E101",
            f"{name} is a virtual package in {suite}, provided by {_some(providers)}",
            path="base.packages",
            remedy="Name the one that you want.",
        )
    elsewhere = sorted(
        {
            stanza["Architecture"]
            for archive in candidates.archives
            for stanza in archive.packages.stanzas_of(name)
        }
    )
    if elsewhere:
        message = f"{name} exists in {suite} only for {', '.join(elsewhere)}"
        return Problem("E101", message, path="base.packages")
    known = {known for archive in candidates.archives for known in archive.packages.names}
    near = [other for other in known if other[:1] == name[:1] and abs(len(other) - len(name)) <= 2]
    close = get_close_matches(name, sorted(near), 3, 0.75)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return Problem("E101", f"there is no package {name} in {suite}{meant}", path="base.packages")
