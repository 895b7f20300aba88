"""Conda packages as members of a layer: what an installation would have put into the image.

Each package is read once, as a stream, and its files go into the layer in the order of its archive,
checked against the package's own hashes on the way; then come the commands of entry points, bytecode,
and the record in ``conda-meta``. What the rules are, and why, is in ``docs/adr/0012-conda-layers.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from afenv.documents.lock import LockedConda, LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers import conda_meta
from afenv.layers.bytecode import Compiler, pyc_path
from afenv.layers.conda_archive import all_chunks
from afenv.layers.conda_open import OpenConda, open_package
from afenv.layers.conda_paths import PathEntry
from afenv.layers.conda_prefix import PrefixTooLong, StringTooLong, replace_binary, replace_text
from afenv.layers.deb_tar import TarMember, check_link
from afenv.layers.writer import LayerWriter

MAX_TEXT = 256 << 20  # bytes of a text whose prefix is replaced, or of bytecode
MAX_SOURCES = 256 << 20  # bytes of Python source of one package that are kept for compiling


def write_conda(
    packages: Sequence[LockedConda],
    paths: Mapping[str, Path],
    environment: LockedEnvironment,
    writer: LayerWriter,
    *,
    compiler: Compiler | None,
    lost: Mapping[str, frozenset[str]],
    opened: Mapping[str, OpenConda] = MappingProxyType({}),
    check: bool = True,
    done: Callable[[int], object] | None = None,
) -> None:
    """Write packages, one after the other, by name.

    ``paths`` leads from the sha256 of a package to its file; ``lost`` are the paths, relative to the
    prefix, that a package leaves to others; with ``compiler``, bytecode is added where a package has
    none. ``opened`` are packages whose metadata were read before, by name. ``done`` hears the size of
    each archive when it is written. Raises E301, E303, E304, E409 (no room for the prefix), and E401 and
    E404 of the writer and the compiler.
    """
    for package in sorted(packages, key=lambda package: package.name):
        one = opened.get(package.name)
        if one is None:
            one = open_package(package, paths[package.file.sha256], environment, check=check)
        writer.package = package.name
        _Writing(one, writer, lost.get(package.name, frozenset()), compiler).write()
        if done is not None:
            done(package.file.size)
    writer.package = ""


def bytecode_name(opened: OpenConda) -> str:
    """What names the bytecode of a package in the compiler's cache."""
    site = opened.python.site_packages if opened.python else ""
    return f"conda:{opened.package.file.sha256}:{opened.prefix}:{site}"


@dataclass(slots=True)
class _Writing:
    """One package on its way into a layer."""

    opened: OpenConda
    writer: LayerWriter
    lost: frozenset[str]
    compiler: Compiler | None
    root: str = ""
    left_out: frozenset[str] = frozenset()  # what is lost, and files that a command takes the place of
    written: dict[str, tuple[str, int]] = field(default_factory=dict)  # sha256 and size, as in the package
    records: dict[str, dict[str, Any]] = field(default_factory=dict)  # of paths_data, by path in the prefix
    later: dict[str, list[PathEntry]] = field(default_factory=dict)  # links whose target has to be read again
    sources: dict[str, bytes] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def write(self) -> None:
        opened = self.opened
        self.root = opened.prefix.strip("/")
        self.left_out = self.lost | opened.commands.keys()
        wanted = self._modules()
        for member in opened.archive.members():
            entry = opened.info.paths.get(member.path)
            if entry is None:
                continue  # what the package does not list is not installed
            if member.path in self.seen:
                opened.archive.bad(f"{member.path} is in the archive twice")
            self.seen.add(member.path)
            self._member(member, entry, wanted)
        self._write_later()
        missing = [path for path, entry in opened.info.paths.items() if path not in self.seen]
        for path in missing:
            if opened.info.paths[path].kind != "directory":
                opened.archive.bad(f"{path} is listed, and is not in the archive")
            self._directory(path)
        self._write_commands()
        self._write_bytecode(wanted)
        record = conda_meta.record_text(opened.package, [self.records[p] for p in sorted(self.records)])
        self.writer.file(f"{self.root}/{conda_meta.record_path(opened.package)}", 0o644, record)

    # --- members of the archive ---

    def _member(self, member: TarMember, entry: PathEntry, wanted: frozenset[str]) -> None:
        kind = entry.kind or ("softlink" if member.kind == "symlink" else "hardlink")
        found = {"file": "hardlink", "symlink": "softlink"}.get(member.kind, member.kind)
        if found != kind and not (entry.kind is None and member.kind == "directory"):
            self.opened.archive.bad(f"{member.path} is a {member.kind}, and is listed as a {kind}")
        if member.kind == "file":
            self._file(member.path, entry, member, wanted)
        elif member.kind == "directory":
            self._directory(member.path)
        elif member.kind == "symlink":
            self._symlink(member, entry)
        else:
            self._hardlink(member, entry)

    def _directory(self, path: str) -> None:
        place = self.opened.places[path]
        self.writer.directory(f"{self.root}/{place}")
        self.records[place] = {"_path": place, "path_type": "directory"}

    def _symlink(self, member: TarMember, entry: PathEntry) -> None:
        place, target, name = self.opened.places[member.path], member.linkname, self.opened.archive.place
        if target.startswith("/") and not _inside(target, self.opened.prefix):
            raise AfenvError("E304", f"the link {member.path!r} leads outside, to {target!r}", place=name)
        check_link(place, target, name)
        self._record(place, entry, "softlink", entry.sha256, entry.size)
        if place not in self.left_out:
            self.writer.symlink(f"{self.root}/{place}", target)

    def _hardlink(self, member: TarMember, entry: PathEntry) -> None:
        target = self.opened.info.paths.get(member.linkname)
        known = self.written.get(member.linkname)
        if target is None or known is None:
            self.later.setdefault(member.linkname, []).append(entry)
            return
        place, target_place = self.opened.places[member.path], self.opened.places[member.linkname]
        same = (target.placeholder, target.binary) == (entry.placeholder, entry.binary)
        if not same or place in self.left_out or target_place in self.left_out:
            self.later.setdefault(member.linkname, []).append(entry)
            return
        self._check(entry, *known)
        self.written[member.path] = known
        self.writer.hardlink(f"{self.root}/{place}", f"{self.root}/{target_place}")
        record = self.records[target_place]
        self.records[place] = record | {"_path": place}

    def _write_later(self) -> None:
        """Hard links that cannot be links in the layer: their content is read again."""
        if not self.later:
            return
        for member in self.opened.archive.members():
            entries = self.later.pop(member.path, None) if member.kind == "file" else None
            if entries is not None:
                data = member._replace(chunks=(all_chunks(member),))
                for entry in entries:
                    self._file(entry.path, entry, data, frozenset())
        for target, entries in self.later.items():
            self.opened.archive.bad(f"{entries[0].path} is a hard link to {target}, which is not a file")

    def _file(self, path: str, entry: PathEntry, member: TarMember, wanted: frozenset[str]) -> None:
        place = self.opened.places[path]
        if entry.size is not None and entry.size != member.size:
            self.opened.archive.bad(f"{path} has {member.size} bytes, and is listed with {entry.size}")
        mode = 0o755 if member.mode & 0o111 else 0o644
        target = f"{self.root}/{place}"
        changes = path.endswith(".pyc") or (entry.placeholder and not entry.binary)
        if isinstance(member.chunks, tuple) or changes:
            if member.size > MAX_TEXT:
                self.opened.archive.bad(f"{path} is too large for bytecode, or for a text with a prefix")
            data = all_chunks(member)
            sha256 = hashlib.sha256(data).hexdigest()
            self._check(entry, sha256, member.size, hashed=True)
            self.written[path] = sha256, member.size
            if place in wanted:
                self.sources[place] = data
            changed = self._replaced(path, entry, data)
            self._record(
                place,
                entry,
                "hardlink",
                sha256,
                member.size,
                sha256 if changed is data else hashlib.sha256(changed).hexdigest(),
            )
            if place not in self.left_out:
                self.writer.file(target, mode, changed)
            return
        before, after = hashlib.sha256(), hashlib.sha256()
        chunks = _hashed(member.chunks, before)
        if entry.placeholder:
            chunks = _hashed(self._binary(path, entry, chunks), after)
        if place in self.left_out:
            for _ in chunks:
                pass
        else:
            self.writer.stream(target, mode, member.size, chunks)
        sha256 = before.hexdigest()
        self._check(entry, sha256, member.size, hashed=True)
        self.written[path] = sha256, member.size
        in_prefix = after.hexdigest() if entry.placeholder else sha256
        self._record(place, entry, "hardlink", sha256, member.size, in_prefix)

    def _replaced(self, path: str, entry: PathEntry, data: bytes) -> bytes:
        if entry.placeholder:
            if entry.binary:
                return b"".join(self._binary(path, entry, (data,)))
            return replace_text(data, entry.placeholder.encode(), self.opened.prefix.encode())
        if path.endswith(".pyc"):
            return _unchecked(data)
        return data

    def _binary(self, path: str, entry: PathEntry, chunks: Iterable[bytes]) -> Iterator[bytes]:
        prefix = self.opened.prefix
        try:
            yield from replace_binary(chunks, entry.placeholder.encode(), prefix.encode())
        except StringTooLong:
            self.opened.archive.bad(f"{path} has a string with a prefix that is implausibly long")
        except PrefixTooLong:
            raise AfenvError(
                "E409",
                f"the prefix {prefix} has {len(prefix.encode())} bytes, and {path} has room for "
                f"{len(entry.placeholder.encode())}",
                place=self.opened.archive.place,
            ) from None

    def _check(self, entry: PathEntry, sha256: str, size: int, *, hashed: bool = False) -> None:
        if entry.sha256 is not None and entry.sha256 != sha256:
            self.opened.archive.bad(
                f"{entry.path} has sha256 {sha256}, and info/paths.json says {entry.sha256}"
            )
        if not hashed and entry.size is not None and entry.size != size:
            self.opened.archive.bad(f"{entry.path} has {size} bytes, and is listed with {entry.size}")

    def _record(
        self,
        place: str,
        entry: PathEntry,
        kind: str,
        sha256: str | None,
        size: int | None,
        in_prefix: str | None = None,
    ) -> None:
        if place in self.left_out:
            return
        record: dict[str, Any] = {"_path": place, "path_type": kind}
        if place != entry.path:
            record["original_path"] = entry.path
        if sha256 is not None:
            record["sha256"] = sha256
        if in_prefix is not None:
            record["sha256_in_prefix"] = in_prefix
        if size is not None:
            record["size_in_bytes"] = size
        if entry.placeholder:
            record["prefix_placeholder"] = entry.placeholder
            record["file_mode"] = "binary" if entry.binary else "text"
        if entry.no_link:
            record["no_link"] = True
        self.records[place] = record

    # --- what is made ---

    def _write_commands(self) -> None:
        for place, text in sorted(self.opened.commands.items()):
            if place in self.lost:
                continue
            self.writer.file(f"{self.root}/{place}", 0o755, text)
            digest = hashlib.sha256(text).hexdigest()
            self.records[place] = {
                "_path": place,
                "path_type": "unix_python_entry_point",
                "sha256_in_prefix": digest,
                "size_in_bytes": len(text),
            }

    def _modules(self) -> frozenset[str]:
        """The Python files to compile: those of the environment's Python that come without bytecode."""
        python = self.opened.python
        if self.compiler is None or python is None:
            return frozenset()
        folder = python.library + "/"
        places = frozenset(self.opened.places.values())
        tag = self.compiler.cache_tag
        return frozenset(
            place
            for place in places
            if place.startswith(folder) and place.endswith(".py") and pyc_path(place, tag) not in places
        )

    def _write_bytecode(self, wanted: frozenset[str]) -> None:
        if self.compiler is None or not wanted:
            return
        room = MAX_SOURCES
        sources = []
        for place in sorted(self.sources):
            room -= len(self.sources[place])
            if room >= 0:
                sources.append((f"{self.opened.prefix}/{place}", self.sources[place]))
        compiled = self.compiler.compile(bytecode_name(self.opened), sources)
        for source, pyc in sorted(compiled.items()):
            if source.removeprefix(self.opened.prefix + "/") in self.lost:
                continue
            pyc.write(self.writer)
            place = pyc.path.removeprefix(self.root + "/")
            self.records[place] = {"_path": place, "path_type": "pyc_file"}


def _inside(target: str, prefix: str) -> bool:
    """Whether an absolute path stays in the prefix."""
    return target.startswith(prefix + "/") and ".." not in target.split("/")


def _hashed(chunks: Iterable[bytes], into: Any) -> Iterator[bytes]:
    for chunk in chunks:
        into.update(chunk)
        yield chunk


def _unchecked(data: bytes) -> bytes:
    """Bytecode that names the time of its source, as bytecode that is not compared with it (PEP 552).

    Files of a layer have one time, so the comparison would fail and the bytecode never be used. Only
    the flag changes; nothing reads the eight bytes that follow it then.
    """
    if len(data) > 16 and data[2:8] == b"\r\n\0\0\0\0":
        return data[:4] + b"\1\0\0\0" + data[8:]
    return data
