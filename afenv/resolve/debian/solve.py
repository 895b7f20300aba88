"""Choosing the packages: depth first, the preferred candidate first, going back where it must.

Without a conflict this is one walk: the packages asked for are chosen, then what each of them needs, in
the order of its fields, an alternative that is chosen already satisfying a clause. Where nothing is left
to satisfy a clause, the search goes back to the last choice that has a part in that (conflict-directed
backjumping), so a failure that has one cause is not tried again with every other choice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from afenv.resolve.debian.candidates import Candidate, Candidates
from afenv.resolve.debian.relations import Clause, Relation

STEPS = 200_000  # choices after which the search gives up; real ones take some hundred


@dataclass(frozen=True, slots=True)
class Need:
    """A clause that must hold, and the package that says so; None: it was asked for, or is ``installed``."""

    clause: Clause
    by: str | None
    installed: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """A candidate that cannot be chosen, and the chosen package that stands against it.

    ``word`` is ``conflicts``, ``breaks`` or, for another version of the same package, ``is``; ``relation``
    is that of the chosen package or, if ``backwards``, that of the candidate.
    """

    candidate: Candidate
    by: Candidate
    word: str
    relation: Relation | None = None
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a need could not be met: all candidates with what blocks each; ``reasons`` as they were then."""

    need: Need
    blocked: tuple[Blocked, ...]
    reasons: dict[str, tuple[Candidate, Need]]
    gave_up: bool = False


# What is left to do, as a linked list, so that a choice can keep its state: a need, or the name of a chosen
# package whose needs are to be met.
_Agenda = tuple["Need | str", "_Agenda"] | None


@dataclass(slots=True)
class _Choice:
    """A need, what remains to be tried for it, what is to be done after it, and what failed so far."""

    need: Need
    remaining: Iterator[Candidate]
    after: _Agenda
    blocked: list[Blocked] = field(default_factory=list)
    conflict: set[str] = field(default_factory=set)  # the chosen packages that have a part in the failures


class _Chosen:
    """The packages chosen so far, found by name, by what they provide and by what they stand against."""

    def __init__(self) -> None:
        self.by_name: dict[str, tuple[Candidate, Need]] = {}
        self._providers: dict[str, list[Candidate]] = {}
        self._against: dict[str, list[tuple[Candidate, str, Relation]]] = {}

    def add(self, candidate: Candidate, need: Need) -> None:
        self.by_name[candidate.name] = (candidate, need)
        for name in candidate.provides:
            self._providers.setdefault(name, []).append(candidate)
        for word, relation in candidate.against:
            self._against.setdefault(relation.name, []).append((candidate, word, relation))

    def remove(self, candidate: Candidate) -> None:
        """Take back the package that was added last."""
        del self.by_name[candidate.name]
        for name in candidate.provides:
            self._providers[name].pop()
        for _, relation in candidate.against:
            self._against[relation.name].pop()

    def _named(self, name: str) -> list[Candidate]:
        own = self.by_name.get(name)
        return [*([own[0]] if own else ()), *self._providers.get(name, ())]

    def satisfies(self, clause: Clause) -> bool:
        return any(found.matches(relation) for relation in clause for found in self._named(relation.name))

    def blocking(self, candidate: Candidate) -> Blocked | None:
        """What stands against a candidate; None if it may be chosen. A package never blocks itself."""
        same = self.by_name.get(candidate.name)
        if same is not None:
            return Blocked(candidate, same[0], "is")
        for word, relation in candidate.against:
            for found in self._named(relation.name):
                if found.matches(relation, negative=True):
                    return Blocked(candidate, found, word, relation, backwards=True)
        for name in (candidate.name, *candidate.provides):
            for owner, word, relation in self._against.get(name, ()):
                if candidate.matches(relation, negative=True):
                    return Blocked(candidate, owner, word, relation)
        return None


def solve(
    candidates: Candidates, roots: Sequence[str], *, installed: Collection[str] = ()
) -> dict[str, Candidate] | Failure:
    """The packages to install so that ``roots`` and all that they need are there, or why there are none.

    ``roots`` are names of packages, each once; those in ``installed`` are there already, in some version.
    The failure given is the first one met, that of the preferred choices.
    """
    chosen = _Chosen()
    choices: list[tuple[_Choice, Candidate]] = []
    first: Failure | None = None
    agenda: _Agenda = None
    for name in reversed(roots):
        agenda = (name, agenda)
    for name in reversed(roots):
        agenda = (Need((Relation(name),), None, name in installed), agenda)

    def advance(choice: _Choice) -> bool:
        for option in choice.remaining:
            blocked = chosen.blocking(option)
            if blocked is None:
                chosen.add(option, choice.need)
                choices.append((choice, option))
                return True
            choice.blocked.append(blocked)
            choice.conflict.add(blocked.by.name)
        return False

    def go_back(failed: set[str]) -> _Choice | None:
        while choices:
            choice, option = choices.pop()
            chosen.remove(option)
            if option.name in failed:
                choice.conflict |= failed - {option.name}
                return choice
        return None

    for _ in range(STEPS):
        if agenda is None:
            return {name: found for name, (found, _) in sorted(chosen.by_name.items())}
        item, after = agenda
        if isinstance(item, str):
            for clause in reversed(chosen.by_name[item][0].depends):
                after = (Need(clause, item), after)
            agenda = after
            continue
        if item.by is not None and chosen.satisfies(item.clause):
            agenda = after
            continue
        options = (
            iter(candidates.versions(item.clause[0].name))
            if item.by is None
            else candidates.solutions(item.clause)
        )
        choice = _Choice(item, options, after, conflict=set() if item.by is None else {item.by})
        while not advance(choice):
            if first is None:
                first = Failure(item, tuple(choice.blocked), dict(chosen.by_name))
            earlier = go_back(choice.conflict)
            if earlier is None:
                return first
            choice = earlier
        agenda = choice.after if choice.need.by is None else (choices[-1][1].name, choice.after)
    assert first is not None
    return Failure(first.need, first.blocked, first.reasons, gave_up=True)
