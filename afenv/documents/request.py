"""What the lock of an environment answers: the part of the manifest that it resolves, as one digest."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.manifest import AnalysisManifest, PypiSection
from afenv.errors import AfenvError

_INCLUDE = re.compile(
    rb"^\s*(?:-r|-c|--requirements?|--constraints?)(?:\s*=\s*|\s+|(?=[^-\s]))(.+?)\s*$", re.M
)
_COMMENT = re.compile(rb"(?:^|\s)#.*$")


def _digests(folder: Path, name: str, found: dict[str, str]) -> None:
    """Add the digest of a file, and of those that it includes, by names relative to the manifest."""
    name = os.path.normpath(name)
    if name in found:
        return
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot read {name}, which the manifest refers to: {error.strerror}"
        raise AfenvError(
            "E001", message, place=str(path), remedy="Correct the name, or add the file."
        ) from None
    found[name] = sha256_bytes(data)
    if path.suffix == ".toml":
        return
    for match in _INCLUDE.finditer(data):
        included = _COMMENT.sub(b"", match[1]).strip().strip(b"'\"").decode("utf-8", "replace")
        if included and "://" not in included:
            _digests(folder, str(Path(name).parent / included), found)


def _pypi(section: PypiSection, folder: Path) -> dict[str, Any]:
    files: dict[str, str] = {}
    for name in (section.file, section.lock):
        if name is not None:
            _digests(folder, name, files)
    return {
        "dependencies": list(section.dependencies),
        "file": section.file,
        "lock": section.lock,
        "files": files,
        "extras": sorted(section.extras),
        "groups": sorted(section.groups),
        "owners": dict(section.owners),
    }


def request_digest(manifest: AnalysisManifest, environment: str, folder: Path) -> str:
    """The digest of what an environment asks for, with the content of the files that it refers to.

    ``folder`` is that of the manifest. The code, the name and the metadata are no part of it. E001 if a
    file that is referred to cannot be read.
    """
    wanted = manifest.environments[environment]
    debian = wanted.debian
    return sha256_bytes(
        canonical.compact(
            {
                "platform": wanted.platform,
                "debian": {"suite": debian.suite, "packages": sorted(debian.packages)} if debian else None,
                "pypi": _pypi(wanted.pypi, folder) if wanted.pypi is not None else None,
                "bytecode": wanted.bytecode,
                "variables": dict(wanted.variables),
                "entrypoint": list(wanted.entrypoint),
                "workdir": wanted.workdir,
            }
        )
    )
