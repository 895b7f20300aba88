"""Debian packages on a Debian base image: what it has installed stays, unless something needs a newer one.

The installed packages are read from the base's own records (``/var/lib/dpkg``). They are part of the
question as packages that have to be there; their own version comes first, a newer one is taken only where
something that is added depends on it, and none is removed. So an answer is what ``apt-get install
--no-install-recommends`` would do, or an explanation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from afenv.documents.lock import LockedDeb, LockedFile
from afenv.errors import AfenvError
from afenv.layers.base_tree import BaseTree
from afenv.resolve.debian.archives import archives_of, read_archive
from afenv.resolve.debian.candidates import Candidate, Candidates, candidate
from afenv.resolve.debian.explain import conflict_error, missing_error
from afenv.resolve.debian.index import CONTROL_FIELDS, Fetcher
from afenv.resolve.debian.release import trusted_keys
from afenv.resolve.debian.resolver import ARCHITECTURES, DebianResult
from afenv.resolve.debian.solve import Failure, solve
from afenv.resolve.debian.version import version_key
from afenv.store.content import ContentStore

_STATUS = "var/lib/dpkg/status"
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)\Z")


def installed_debs(tree: BaseTree, architecture: str) -> dict[str, LockedDeb]:
    """The packages that a base has installed, by name; their files are unknown.

    ``/var/lib/dpkg/status`` counts and, as in images that were made without dpkg, ``status.d``.
    """
    texts = [tree.read(_STATUS) or b""]
    texts += [kept.data for path, kept in tree.kept.items() if path.startswith(f"{_STATUS}.d/")]
    found = {}
    for text in texts:
        for fields in _stanzas(text.decode("utf-8", "replace")):
            status = fields.get("Status", "install ok installed")
            if not status.endswith(" installed") or not fields.get("Package") or not fields.get("Version"):
                continue
            if fields.get("Architecture") not in (architecture, "all"):
                continue
            found[fields["Package"]] = LockedDeb(
                name=fields["Package"],
                version=fields["Version"],
                architecture=fields["Architecture"],
                source=fields.get("Source", fields["Package"]).partition(" ")[0],
                file=LockedFile(urls=(), size=0, sha256=""),
                control={name: fields[name] for name in CONTROL_FIELDS if name in fields},
            )
    return found


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            match = _FIELD.match(line)
            if match:
                name = match[1]
                fields[name] = match[2].strip()
            elif name in CONTROL_FIELDS and line[:1] in (" ", "\t"):
                fields[name] += " " + line.strip()
        if fields:
            yield fields


@dataclass(slots=True)
class _OnBase(Candidates):
    """What may be installed on a base, and what is there."""

    installed: Mapping[str, LockedDeb] = field(default_factory=dict)
    satisfied: Mapping[str, Candidate] = field(default_factory=dict)

    def _ordered(self, name: str) -> list[Candidate]:
        found = Candidates._ordered(self, name)
        present = self.satisfied.get(name)
        if present is None:
            return found
        least = version_key(present.version)
        newer = [one for one in found if version_key(one.version) > least]
        if name in self.update:
            return newer if self.strict and newer else [*newer, present]
        return [present, *newer]


def _present(installed: Mapping[str, LockedDeb]) -> dict[str, Candidate]:
    """The installed packages as candidates, without dependencies that the base does not satisfy itself.

    An image may be made without some: then they are not this question's matter.
    """
    found = {name: candidate(deb) for name, deb in installed.items()}
    provided: dict[str, list[Candidate]] = {}
    for one in found.values():
        for name in (one.name, *one.provides):
            provided.setdefault(name, []).append(one)
    return {
        name: replace(
            one,
            depends=tuple(
                clause
                for clause in one.depends
                if any(other.matches(rel) for rel in clause for other in provided.get(rel.name, ()))
            ),
        )
        for name, one in found.items()
    }


def resolve_on_base(
    suite: str,
    packages: Sequence[str],
    installed: Mapping[str, LockedDeb],
    platform: str,
    as_of: datetime,
    fetcher: Fetcher,
    store: ContentStore,
    *,
    locked: Sequence[LockedDeb] = (),
    update: frozenset[str] | None = None,
    keys: tuple[bytes, ...] | None = None,
) -> DebianResult:
    """The packages to add to a base of ``suite``, and those to replace by newer ones, sorted by name.

    Arguments and errors are those of :func:`afenv.resolve.debian.resolve_debian`.
    """
    architecture = ARCHITECTURES.get(platform)
    if architecture is None:
        message = f"Debian is supported on {', '.join(ARCHITECTURES)}, not on {platform}"
        raise AfenvError("E013", message, path="platform")
    time = as_of.astimezone(UTC).replace(microsecond=0)
    trusted = trusted_keys() if keys is None else keys
    archives = tuple(
        read_archive(archive, architecture, time, fetcher, store, trusted) for archive in archives_of(suite)
    )
    present = _present(installed)
    before = {deb.name: deb for deb in locked if deb.architecture in (architecture, "all")}
    candidates = _OnBase(
        archives,
        architecture,
        {**installed, **before},
        update or (),
        installed=installed,
        satisfied=present,
    )
    named = [_real_name(candidates, name) for name in sorted(packages)]
    missing = [name for name in named if not candidates.exists(name)]
    if missing:
        raise missing_error(candidates, missing, suite)
    found = _solve(candidates, list(dict.fromkeys([*named, *sorted(installed)])), installed)
    if isinstance(found, Failure):
        raise _explained(conflict_error(candidates, found, suite))
    requested = set(named)
    debs = tuple(
        replace(one.deb, requested=one.name in requested)
        for one in found.values()
        if one.name not in installed or one.version != installed[one.name].version
    )
    return DebianResult(tuple(archive.locked for archive in archives), debs)


def _solve(
    candidates: _OnBase, roots: Sequence[str], installed: Mapping[str, LockedDeb]
) -> dict[str, Candidate] | Failure:
    if candidates.update:
        found = solve(replace(candidates, strict=True, _versions={}), roots, installed=installed)
        if not isinstance(found, Failure):
            return found
    return solve(candidates, roots, installed=installed)


def _real_name(candidates: Candidates, name: str) -> str:
    """The package that a name stands for: a virtual package that one package provides is that one."""
    providers = [] if candidates.exists(name) else candidates.providers(name)
    return providers[0] if len(providers) == 1 else name


def _explained(error: AfenvError) -> AfenvError:
    problem = error.problems[0]
    return AfenvError(
        problem.code,
        problem.message,
        path=problem.path,
        remedy="Nothing that the base image has is removed: choose another package, or another base.",
    )
