"""What the system layer needs to know of a package: a pure function of the package's archive.

The facts are gathered while the package's own layer is written, and kept in the content store under the
archive's digest, so that no archive is decompressed twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedDeb
from afenv.errors import AfenvError
from afenv.layers.deb_archive import open_deb
from afenv.layers.deb_tar import TarMember
from afenv.layers.dpkg_status import Stanza, conffile_paths, parse_control
from afenv.store.content import ContentStore

KIND = "deb-facts"  # of the key in the content store
VERSION = 1  # of what is kept there

# Files that maintainer scripts copy or read, and that are therefore kept as a whole.
_KEPT = (
    "etc/ld.so.conf",
    "etc/skel/",
    "usr/share/base-files/",
    "usr/share/base-passwd/",
    "usr/share/ca-certificates/",
    "usr/share/debianutils/shells",
    "usr/share/libc-bin/",
    "usr/share/readline/",
)
_KEPT_SIZE = 1 << 20  # bytes of one such file
_SCRIPTS = ("preinst", "postinst")
_TELLING = (b"update-alternatives", b"dpkg-divert", b"adduser", b"addgroup", b"useradd", b"groupadd")


@dataclass(frozen=True, kw_only=True, slots=True)
class DebFacts:
    """``paths`` are the files of the archive, ``links`` its symbolic links with their targets.

    ``kept`` is the content of some small files.
    ``scripts`` are the maintainer scripts in which something is to be looked for; ``triggers`` is the
    control file of that name.
    """

    stanza: Stanza
    conffiles: tuple[tuple[str, str], ...] = ()  # absolute path and MD5 sum
    paths: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, bytes] = field(default_factory=dict)
    scripts: Mapping[str, bytes] = field(default_factory=dict)
    triggers: bytes = b""

    def as_json(self) -> dict[str, Any]:
        """The facts as JSON; bytes are text with one character per byte."""
        return {
            "fields": dict(self.stanza.fields),
            "conffiles": [list(item) for item in self.conffiles],
            "paths": [_as_latin(path) for path in self.paths],
            "links": {_as_latin(path): _as_latin(target) for path, target in self.links.items()},
            "kept": {path: data.decode("latin-1") for path, data in self.kept.items()},
            "scripts": {name: data.decode("latin-1") for name, data in self.scripts.items()},
            "triggers": self.triggers.decode("latin-1"),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DebFacts:
        """The facts that :meth:`as_json` wrote."""
        return cls(
            stanza=Stanza(value["fields"]),
            conffiles=tuple((path, md5) for path, md5 in value["conffiles"]),
            paths=tuple(_from_latin(path) for path in value["paths"]),
            links={_from_latin(path): _from_latin(target) for path, target in value["links"].items()},
            kept={path: data.encode("latin-1") for path, data in value["kept"].items()},
            scripts={name: data.encode("latin-1") for name, data in value["scripts"].items()},
            triggers=value["triggers"].encode("latin-1"),
        )


def _as_latin(path: str) -> str:
    """A path as text with one character per byte; JSON cannot hold lone surrogates."""
    return path if path.isascii() else path.encode("utf-8", "surrogateescape").decode("latin-1")


def _from_latin(path: str) -> str:
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", "surrogateescape")


class FactGatherer:
    """Gathers the facts of one package while its members pass."""

    def __init__(self, control: Mapping[str, bytes], stanza: Stanza) -> None:
        self._stanza = stanza
        self._control = control
        self._order = [path.lstrip("/") for path in conffile_paths(control.get("conffiles", b""))]
        self._conffiles = dict.fromkeys(self._order, "")
        self._paths: list[str] = []
        self._links: dict[str, str] = {}
        self._kept: dict[str, bytes] = {}

    def wants(self, member: TarMember) -> bool:
        """Whether the content of the file matters; it is then to be given to :meth:`see`."""
        return member.path in self._conffiles or (member.size <= _KEPT_SIZE and member.path.startswith(_KEPT))

    def see(self, member: TarMember, data: bytes | None = None) -> None:
        """Note a member, with the whole content where it is wanted."""
        path = member.path
        if member.kind == "symlink":
            self._links[path] = member.linkname
        elif member.kind != "directory":
            self._paths.append(path)
        if data is not None:
            if path in self._conffiles:
                self._conffiles[path] = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if path.startswith(_KEPT):
                self._kept[path] = data

    def facts(self) -> DebFacts:
        """The facts, when the last member has passed."""
        return DebFacts(
            stanza=self._stanza,
            conffiles=tuple(
                (f"/{path}", self._conffiles[path]) for path in self._order if self._conffiles[path]
            ),
            paths=tuple(self._paths),
            links=self._links,
            kept=self._kept,
            scripts={
                name: self._control[name]
                for name in _SCRIPTS
                if any(word in self._control.get(name, b"") for word in _TELLING)
            },
            triggers=self._control.get("triggers", b""),
        )


def _key(sha256: str) -> str:
    return sha256_bytes(f"{KIND}\n{VERSION}\n{sha256}\n".encode())


def save_facts(store: ContentStore, sha256: str, facts: DebFacts) -> None:
    """Keep the facts of the archive with that digest (64 hexadecimal digits)."""
    store.save_key(KIND, _key(sha256), facts.as_json())


def read_facts(path: Path, deb: LockedDeb) -> DebFacts:
    """The facts of the archive at ``path``; E301, E303 or E304 if it is not as it should be."""
    with open_deb(path, sha256=deb.file.sha256) as archive:
        control = archive.control_files()
        gatherer = FactGatherer(control, parse_control(control["control"], str(path)))
        for member in archive.members():
            wanted = member.kind == "file" and gatherer.wants(member)
            gatherer.see(member, b"".join(member.chunks) if wanted else None)
        return gatherer.facts()


def load_facts(
    debs: Sequence[LockedDeb], paths: Mapping[str, Path], store: ContentStore | None
) -> Iterable[DebFacts]:
    """The facts of each package, in order: from the store where they are there, else from the archive.

    ``paths`` are the archives by sha256 (64 hexadecimal digits).
    """
    for deb in debs:
        sha256 = deb.file.sha256
        known = store.load_key(KIND, _key(sha256)) if store is not None else None
        if known is not None:
            try:
                yield DebFacts.from_json(known)
                continue
            except (KeyError, TypeError, ValueError, AttributeError):
                pass  # written by something else: gather them again
        if sha256 not in paths:
            raise AfenvError("E305", f"the archive of {deb.name} {deb.version} is not at hand")
        facts = read_facts(paths[sha256], deb)
        if store is not None:
            save_facts(store, sha256, facts)
        yield facts
