"""What may be installed: the versions of each package, from the indexes and from the lock, in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from afenv.documents.lock import LockedDeb, LockedFile
from afenv.resolve.debian.archives import ArchiveState
from afenv.resolve.debian.index import CONTROL_FIELDS
from afenv.resolve.debian.relations import Clause, Relation, parse_clauses, parse_relations
from afenv.resolve.debian.version import version_key

_PRIORITIES = ("required", "important", "standard", "optional", "extra")


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One version of a package, with its relations parsed.

    ``depends`` has what must be there, pre-dependencies first; ``against`` has what must not be, each with
    the word for it (``conflicts`` or ``breaks``); ``provides`` gives the versions of each provided name.
    """

    deb: LockedDeb
    depends: tuple[Clause, ...]
    against: tuple[tuple[str, Relation], ...]
    provides: Mapping[str, tuple[str | None, ...]]

    @property
    def name(self) -> str:
        """The package's name."""
        return self.deb.name

    @property
    def version(self) -> str:
        """The package's version."""
        return self.deb.version

    def matches(self, relation: Relation, *, negative: bool = False) -> bool:
        """Whether the package itself, or something it provides, is what the relation names.

        A dependency on ``NAME:any`` needs a package that allows it (``Multi-Arch: allowed``).
        """
        qualifier = relation.qualifier
        if relation.name == self.name and relation.accepts(self.version):
            if qualifier in ("", "native"):
                return True
            if qualifier == "any":
                return negative or self.deb.control.get("Multi-Arch") == "allowed"
            return qualifier == self.deb.architecture or self.deb.architecture == "all"
        return qualifier in ("", "any") and any(
            relation.accepts(version) for version in self.provides.get(relation.name, ())
        )

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def candidate(deb: LockedDeb) -> Candidate:
    """The candidate that a record describes; E303 if a relationship field is malformed."""
    control = deb.control
    provides: dict[str, tuple[str | None, ...]] = {}
    for relation in parse_relations(control.get("Provides", "")):
        version = relation.version if relation.operator == "=" else None
        provides[relation.name] = (*provides.get(relation.name, ()), version)
    return Candidate(
        deb,
        (*parse_clauses(control.get("Pre-Depends", "")), *parse_clauses(control.get("Depends", ""))),
        tuple(
            (word.lower(), relation)
            for word in ("Conflicts", "Breaks")
            for relation in parse_relations(control.get(word, ""))
        ),
        provides,
    )


@dataclass(slots=True)
class Candidates:
    """All that may be installed. A version that is locked is preferred, unless it is to be updated."""

    archives: Sequence[ArchiveState]
    architecture: str
    locked: Mapping[str, LockedDeb]
    update: Collection[str]
    strict: bool = False  # of what is to be updated, only the newest version
    _versions: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)

    def versions(self, name: str) -> tuple[Candidate, ...]:
        """The versions of a package, the preferred one first, then from the newest to the oldest."""
        found = self._versions.get(name)
        if found is None:
            found = self._versions[name] = tuple(self._ordered(name))
        return found

    def _ordered(self, name: str) -> list[Candidate]:
        records: dict[str, LockedDeb] = {}
        locked = self.locked.get(name)
        if locked is not None:
            records[locked.version] = locked
        for archive in self.archives:
            for stanza in archive.packages.stanzas_of(name):
                if stanza.get("Architecture") in (self.architecture, "all"):
                    records.setdefault(stanza["Version"], _record(stanza, archive.roots))
        newest_first = sorted(records.values(), key=lambda deb: version_key(deb.version), reverse=True)
        if name in self.update:
            if self.strict:
                newest_first = newest_first[:1]
        elif locked is not None:
            newest_first.sort(key=lambda deb: deb.version != locked.version)
        return [candidate(deb) for deb in newest_first]

    def providers(self, name: str) -> list[str]:
        """The packages that provide a name, some version of them, without the package of that name."""
        names = {
            provider for archive in self.archives for provider in archive.packages.provides.get(name, ())
        }
        for deb in self.locked.values():
            if any(relation.name == name for relation in parse_relations(deb.control.get("Provides", ""))):
                names.add(deb.name)
        return sorted(names - {name})

    def exists(self, name: str) -> bool:
        """Whether there is a package of that name."""
        return bool(self.versions(name))

    def essential(self) -> list[str]:
        """The packages that every Debian system has, sorted."""
        names = {name for archive in self.archives for name in archive.packages.essential}
        return sorted(
            name
            for name in names
            if self.exists(name) and self.versions(name)[0].deb.control.get("Essential") == "yes"
        )

    def solutions(self, clause: Clause) -> Iterator[Candidate]:
        """What satisfies a clause, in the order in which it is tried.

        The preferred versions first, alternative by alternative; of one alternative the package of that
        name comes before those that provide it, and these by how essential they are. Then other versions.
        """
        first: list[Candidate] = []
        rest: list[Candidate] = []
        for relation in clause:
            real = [relation.name] if self.exists(relation.name) else []
            providers = sorted(
                (self.versions(name) for name in self.providers(relation.name) if self.exists(name)),
                key=_precedence,
            )
            for versions in [*map(self.versions, real), *providers]:
                for place, version in enumerate(versions):
                    if version.matches(relation):
                        (rest if place else first).append(version)
        if self.locked:
            first.sort(key=lambda found: found.name not in self.locked)
        seen: set[int] = set()
        for found in (*first, *rest):
            if id(found) not in seen:
                seen.add(id(found))
                yield found


def _precedence(versions: tuple[Candidate, ...]) -> tuple[bool, int, str]:
    """Of several providers: essential ones, then by priority, then by name."""
    control = versions[0].deb.control
    priority = control.get("Priority", "")
    return (
        control.get("Essential") != "yes",
        _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES),
        versions[0].name,
    )


def _record(stanza: Mapping[str, str], roots: tuple[str, ...]) -> LockedDeb:
    source = stanza.get("Source", stanza["Package"]).partition(" ")[0]
    return LockedDeb(
        name=stanza["Package"],
        version=stanza["Version"],
        architecture=stanza["Architecture"],
        source=source,
        file=LockedFile(
            urls=tuple(f"{root}/{stanza['Filename']}" for root in roots),
            size=int(stanza["Size"]),
            sha256=stanza["SHA256"].lower(),
        ),
        control={field: stanza[field] for field in CONTROL_FIELDS if field in stanza},
    )
