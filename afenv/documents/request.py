"""What the lock of an environment answers: the part of the manifest that it resolves, as one digest."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.manifest import AnalysisManifest, CondaSection, GpuSection, PypiSection
from afenv.errors import AfenvError

_INCLUDE = re.compile(
    rb"^\s*(?:-r|-c|--requirements?|--constraints?)(?:\s*=\s*|\s+|(?=[^-\s]))(.+?)\s*$", re.M
)
_YAML_INCLUDE = re.compile(rb"""(?<![^\s"'\[,])(?:-r|--requirement)\s+([^\s,\]"']+)""")
_COMMENT = re.compile(rb"(?:^|\s)#.*$")


def _content(folder: Path, name: str) -> bytes:
    """The content of a file that the manifest refers to; E001 if it cannot be read."""
    path = folder / name
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"cannot read {name}, which the manifest refers to: {error.strerror}"
        raise AfenvError(
            "E001", message, place=str(path), remedy="Correct the name, or add the file."
        ) from None


def _digests(folder: Path, name: str, found: dict[str, str]) -> None:
    """Add the digest of a file, and of those that it includes, by names relative to the manifest."""
    name = os.path.normpath(name)
    if name in found:
        return
    data = _content(folder, name)
    found[name] = sha256_bytes(data)
    if name.endswith(".toml"):
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
        **({"sdists": sorted(section.sdists)} if section.sdists else {}),
    }


def _pip_files(data: bytes) -> list[str]:
    """The requirements files that an environment.yml may include: this is no YAML reader, for its speed."""
    lines = (_COMMENT.sub(b"", line) for line in data.splitlines())
    return [match[1].decode("utf-8", "replace") for line in lines for match in _YAML_INCLUDE.finditer(line)]


def _conda(section: CondaSection, gpu: GpuSection | None, folder: Path) -> dict[str, Any]:
    files: dict[str, str] = {}
    for name in (section.file, section.lock):
        if name is not None:
            files[os.path.normpath(name)] = sha256_bytes(_content(folder, name))
    if section.file is not None:
        for included in _pip_files(_content(folder, section.file)):
            path = Path(section.file).parent / included
            if (folder / path).is_file():
                _digests(folder, str(path), files)
    return {
        "channels": list(section.channels),
        "dependencies": list(section.dependencies),
        "file": section.file,
        "lock": section.lock,
        "environment": section.environment,
        "files": files,
        "virtual-packages": dict(section.virtual_packages),
        "cuda": gpu.cuda if gpu else None,
        **({"post-link": sorted(section.post_link)} if section.post_link else {}),
        **({"channel-priority": priority} if (priority := section.channel_priority) != "strict" else {}),
    }


def request_digest(manifest: AnalysisManifest, environment: str, folder: Path) -> str:
    """The digest of what an environment asks for, with the content of the files that it refers to.

    ``folder`` is that of the manifest. The code, the name and the metadata are no part of it. E001 if a
    file that is referred to cannot be read.
    """
    wanted = manifest.environments[environment]
    debian = wanted.debian
    value: dict[str, Any] = {
        "platform": wanted.platform,
        "debian": {"suite": debian.suite, "packages": sorted(debian.packages)} if debian else None,
        "pypi": _pypi(wanted.pypi, folder) if wanted.pypi is not None else None,
        "bytecode": wanted.bytecode,
        "variables": dict(wanted.variables),
        "entrypoint": list(wanted.entrypoint),
        "workdir": wanted.workdir,
    }
    if wanted.oci is not None:
        value["oci"] = {"reference": wanted.oci.reference, "packages": sorted(wanted.oci.packages)}
    if wanted.conda_base is not None:
        value["conda-base"] = {"glibc": wanted.conda_base.glibc}
    if wanted.conda is not None:  # absent otherwise, as in the locks of versions that had no conda
        value["conda"] = _conda(wanted.conda, wanted.gpu, folder)
    if (
        wanted.gpu is not None and wanted.conda is None
    ):  # with conda, what decides is there since its first version
        gpu = wanted.gpu
        value["gpu"] = {"cuda": gpu.cuda, "architectures": list(gpu.architectures), "optional": gpu.optional}
    if wanted.builder is not None:
        builder = wanted.builder
        value["builder"] = {"name": builder.name, "folder": builder.folder, "file": builder.file}
    if wanted.build:
        value["build"] = list(wanted.build)
    return sha256_bytes(canonical.compact(value))


def request_files(manifest: AnalysisManifest, environment: str, folder: Path) -> list[Path]:
    """The files that an environment refers to, those that they include among them."""
    wanted = manifest.environments[environment]
    names: dict[str, str] = {}
    if wanted.pypi is not None:
        names |= _pypi(wanted.pypi, folder)["files"]
    if wanted.conda is not None:
        names |= _conda(wanted.conda, wanted.gpu, folder)["files"]
    return [folder / name for name in names]
