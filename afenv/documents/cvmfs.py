"""CVMFS in the documents: what a manifest takes of a repository, and what the lock pins of it. Frozen values.

Design goals: a root hash, never a tag, says which revision; what goes into an image is named by content, so
that layers can be shared between revisions; what stays on CVMFS is a need that a facility can be asked for.
The norms are ``specs/manifest/v1`` and ``specs/lock/v1``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from afenv.record import field, record

MOUNT, EMBED, TRACE = "mount", "embed", "trace"
CVMFS_PATH = re.compile(r"/cvmfs/[A-Za-z0-9._-]+(?:/(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f]+)*\Z")
_PLATFORM = re.compile(r"(?:x86_64|aarch64|arm64|i[36]86|ppc64le|riscv64)[-_+][A-Za-z0-9+_.-]+\Z")


@record
class CvmfsSource:
    """What a manifest takes of CVMFS: a path below ``/cvmfs``, and how it gets to where the image runs.

    ``view`` says that the path is a view, which is set up; ``run`` is the command of ``delivery: trace``.
    """

    path: str
    view: bool = False
    delivery: str = MOUNT
    run: str | None = None
    tag: str | None = None

    @property
    def repository(self) -> str:
        """The name of the repository."""
        return self.path.split("/")[2]


@record
class LockedCvmfsPart:
    """What goes into an image of one folder of a repository, such as that of one package.

    ``listing`` is the digest of a canonical listing that has the SHA-256 of every file's content (see
    ``specs/lock/v1``); ``files`` counts them, and ``size`` is their content in bytes.
    """

    path: str
    files: int
    size: int
    listing: str


@record
class LockedCvmfsResult:
    """What was found by running something of the image: the digest of what went in, and what came out.

    Of a trace, ``paths`` are those that the command read, sorted; of a setup script, ``variables`` are
    what it sets.
    """

    inputs: str
    paths: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict, hash=False)


@record
class LockedCvmfs:
    """What is taken of CVMFS, at one revision.

    ``path``, ``view``, ``delivery``, ``run`` and ``tag`` are the manifest's. ``timestamp`` is when the
    revision was published (RFC 3339, UTC); ``platform`` that of the view, such as ``x86_64-el9-gcc13-opt``.
    ``parts`` is what is embedded; ``traced`` and ``setup`` are written by the first build.
    """

    path: str
    repository: str
    root_hash: str
    revision: int
    timestamp: str
    view: bool = False
    delivery: str = MOUNT
    run: str | None = None
    tag: str | None = None
    platform: str | None = None
    parts: tuple[LockedCvmfsPart, ...] = ()
    traced: LockedCvmfsResult | None = None
    setup: LockedCvmfsResult | None = None


def platform_of(path: str) -> str | None:
    """The platform that a path is for: the last of its parts that looks like one; None if none does."""
    return next((part for part in reversed(path.split("/")) if is_platform(part)), None)


def is_platform(name: str) -> bool:
    """Whether a name is that of a platform, such as ``x86_64-el9-gcc13-opt``."""
    return _PLATFORM.match(name) is not None


def source_from_tree(tree: Mapping[str, Any]) -> CvmfsSource:
    """The value of a valid entry of a manifest's ``cvmfs``."""
    return CvmfsSource(
        path=(tree.get("view") or tree["path"]).rstrip("/"),
        view="view" in tree,
        delivery=tree.get("delivery", MOUNT),
        run=tree.get("run"),
        tag=tree.get("tag"),
    )


_ASKED = ("path", "view", "delivery", "run", "tag")


def is_locked(locked: LockedCvmfs, wanted: CvmfsSource) -> bool:
    """Whether the lock has what the manifest asks for, whatever the revision."""
    return all(getattr(locked, key) == getattr(wanted, key) for key in _ASKED)


def _result_json(result: LockedCvmfsResult) -> dict[str, Any]:
    value: dict[str, Any] = {"inputs": result.inputs}
    if result.paths:
        value["paths"] = list(result.paths)
    if result.variables:
        value["variables"] = dict(result.variables)
    return value


def cvmfs_json(locked: LockedCvmfs) -> dict[str, Any]:
    """The JSON object of a lock's entry."""
    value: dict[str, Any] = {
        "path": locked.path,
        "repository": locked.repository,
        "root-hash": locked.root_hash,
        "revision": locked.revision,
        "timestamp": locked.timestamp,
    }
    if locked.view:
        value["view"] = True
    if locked.delivery != MOUNT:
        value["delivery"] = locked.delivery
    for key in ("run", "tag", "platform"):
        if getattr(locked, key) is not None:
            value[key] = getattr(locked, key)
    if locked.parts:
        value["parts"] = [
            {"path": part.path, "files": part.files, "size": part.size, "listing": part.listing}
            for part in locked.parts
        ]
    for key in ("traced", "setup"):
        result = getattr(locked, key)
        if result is not None:
            value[key] = _result_json(result)
    return value
