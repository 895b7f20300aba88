"""``afenv-archive.json``: what a bag holds, as frozen values. The norm is ``specs/archive/v1``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from afenv import canonical
from afenv.archive.names import check_path
from afenv.errors import AfenvError, Problem
from afenv.record import field, record

FORMAT_VERSION = 1
LIMIT = 256 << 20  # bytes

PARTS = ("image", "sif", "vm", "inputs", "documents", "data", "results", "software")


@record
class ArchivedFile:
    """A file of the bag: its path below ``data/``, its content, and what it belongs to."""

    path: str
    size: int
    sha256: str
    part: str
    about: str = ""

    @property
    def digest(self) -> str:
        """The digest in the form of OCI."""
        return "sha256:" + self.sha256


@record
class ArchivedEnvironment:
    """An environment whose image is in the bag: ``manifest`` is the digest of its image manifest.

    ``sif`` is the path of its SIF, ``vm`` that of the description of its virtual machine, where there is one.
    """

    platform: str
    image_id: str
    manifest: str
    sif: str | None = None
    vm: str | None = None


@record
class ArchivedRepository:
    """A git repository as a bundle: ``index`` is git's index of the pack that the bundle ends in.

    ``complete`` tells whether it has the history.
    """

    url: str
    commit: str
    bundle: str
    index: str
    complete: bool = True


@record
class ArchivedCode:
    """Where the content of one entry of the lock's ``code`` is: a tar of its files, or repositories."""

    into: str
    tree: str
    files: str | None = None
    repositories: tuple[ArchivedRepository, ...] = ()


@record
class LeftOut:
    """A file that the bag lacks on purpose, with what finds it again."""

    name: str
    sha256: str
    size: int
    reason: str
    urls: tuple[str, ...] = ()


@record
class Restricted:
    """A package whose licence limits who may pass it on: in the bag, unless it is among those left out."""

    name: str
    license: str
    reason: str


@record
class ArchiveIndex:
    """A whole index. ``epoch`` is the time of the images, in seconds since 1970."""

    name: str
    version: str
    written_by: str
    epoch: int
    environments: Mapping[str, ArchivedEnvironment]
    files: tuple[ArchivedFile, ...]
    code: tuple[ArchivedCode, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    restricted: tuple[Restricted, ...] = ()
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # keys of a newer minor version

    def by_digest(self) -> dict[str, ArchivedFile]:
        """The files by their sha256 in the form of OCI."""
        return {one.digest: one for one in reversed(self.files)}


def dump_index(index: ArchiveIndex) -> bytes:
    """The canonical bytes of an index."""
    value: dict[str, Any] = {
        **index.extra,
        "afenv-archive": FORMAT_VERSION,
        "name": index.name,
        "version": index.version,
        "written-by": index.written_by,
        "epoch": index.epoch,
        "environments": {
            name: {
                "platform": one.platform,
                "image-id": one.image_id,
                "manifest": one.manifest,
                **({"sif": one.sif} if one.sif else {}),
                **({"vm": one.vm} if one.vm else {}),
            }
            for name, one in index.environments.items()
        },
        "files": [
            {
                "path": one.path,
                "size": one.size,
                "sha256": one.sha256,
                "part": one.part,
                **({"about": one.about} if one.about else {}),
            }
            for one in sorted(index.files, key=lambda one: one.path)
        ],
    }
    if index.code:
        value["code"] = [_code_json(one) for one in index.code]
    if index.left_out:
        value["left-out"] = [
            {
                "name": one.name,
                "sha256": one.sha256,
                "size": one.size,
                "reason": one.reason,
                "urls": list(one.urls),
            }
            for one in index.left_out
        ]
    if index.restricted:
        value["restricted"] = [
            {"name": one.name, "license": one.license, "reason": one.reason} for one in index.restricted
        ]
    if index.notes:
        value["notes"] = list(index.notes)
    return canonical.indented(value)


def _code_json(code: ArchivedCode) -> dict[str, Any]:
    value: dict[str, Any] = {"into": code.into, "tree": code.tree}
    if code.files:
        value["files"] = code.files
    if code.repositories:
        value["repositories"] = [
            {
                "url": one.url,
                "commit": one.commit,
                "bundle": one.bundle,
                "index": one.index,
                **({} if one.complete else {"complete": False}),
            }
            for one in code.repositories
        ]
    return value


KNOWN = {
    "afenv-archive",
    "name",
    "version",
    "written-by",
    "epoch",
    "environments",
    "files",
    "code",
    "left-out",
    "restricted",
    "notes",
}


def parse_index(data: bytes, place: str) -> ArchiveIndex:
    """The index in some bytes; E726 if it is newer, E727 if it is damaged, E725 for a path outside."""
    from afenv.documents.schema import schema_errors, schema_of

    try:
        if len(data) > LIMIT:
            raise ValueError("it is too large")
        value = json.loads(data)
        if not isinstance(value, dict):
            raise ValueError("it is not an object")
    except (ValueError, RecursionError) as error:
        raise AfenvError("E727", f"not JSON: {error}", place=place) from None
    version = value.get("afenv-archive")
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT_VERSION:
        raise AfenvError("E726", f"the archive has format version {version}", place=place)
    errors = schema_errors(value, schema_of("archive"))
    if errors:
        raise AfenvError.many(
            [
                Problem("E727", str(error.message)[:300], place, ".".join(map(str, error.absolute_path)))
                for error in errors[:10]
            ]
        )
    index = _from_json(value)
    seen: set[str] = set()
    for one in index.files:
        check_path(one.path, place)
        if one.path in seen:
            raise AfenvError("E727", f"it names {one.path} twice", place=place)
        seen.add(one.path)
    _check_references(index, seen, place)
    return index


def _check_references(index: ArchiveIndex, paths: set[str], place: str) -> None:
    wanted = [path for one in index.environments.values() for path in (one.sif, one.vm) if path]
    for code in index.code:
        wanted += [code.files] if code.files else []
        for repository in code.repositories:
            wanted += [repository.bundle, repository.index]
    for path in wanted:
        if path not in paths:
            raise AfenvError("E727", f"it refers to {path}, which is not among its files", place=place)


def _from_json(value: Mapping[str, Any]) -> ArchiveIndex:
    return ArchiveIndex(
        name=value["name"],
        version=value["version"],
        written_by=value["written-by"],
        epoch=value["epoch"],
        environments={
            name: ArchivedEnvironment(
                platform=one["platform"],
                image_id=one["image-id"],
                manifest=one["manifest"],
                sif=one.get("sif"),
                vm=one.get("vm"),
            )
            for name, one in value["environments"].items()
        },
        files=tuple(
            ArchivedFile(
                path=one["path"],
                size=one["size"],
                sha256=one["sha256"],
                part=one["part"],
                about=one.get("about", ""),
            )
            for one in value["files"]
        ),
        code=tuple(
            ArchivedCode(
                into=one["into"],
                tree=one["tree"],
                files=one.get("files"),
                repositories=tuple(
                    ArchivedRepository(
                        url=each["url"],
                        commit=each["commit"],
                        bundle=each["bundle"],
                        index=each["index"],
                        complete=each.get("complete", True),
                    )
                    for each in one.get("repositories", ())
                ),
            )
            for one in value.get("code", ())
        ),
        left_out=tuple(
            LeftOut(
                name=one["name"],
                sha256=one["sha256"],
                size=one["size"],
                reason=one["reason"],
                urls=tuple(one.get("urls", ())),
            )
            for one in value.get("left-out", ())
        ),
        restricted=tuple(
            Restricted(name=one["name"], license=one["license"], reason=one["reason"])
            for one in value.get("restricted", ())
        ),
        notes=tuple(value.get("notes", ())),
        extra={key: entry for key, entry in value.items() if key not in KNOWN},
    )
