"""afenv itself for a bag: its own wheel, and the wheels of everything that it needs, with their digests.

They are for the Python that runs now and for Linux on this kind of processor; what is installed here is what
goes along. Found once, they are remembered in the store, so that the next archive needs no network.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from afenv import canonical
from afenv.archive.items import Item, of_blob, of_bytes
from afenv.archive.names import safe_part
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedFile, LockedPython
from afenv.documents.manifest import PypiSection
from afenv.errors import AfenvError
from afenv.resolve.pypi_inputs import normalised
from afenv.store.fetch import Fetcher
from afenv.workflow.archive_repack import repacked
from afenv.workflow.project import Project

FOLDER = "software"
KIND = "software-2"
_NO_WHEEL = "E107"


def installed_extras(wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the extras of afenv of which everything is installed here."""
    found = []
    for extra in wanted:
        try:
            needed((extra,))
        except AfenvError:
            continue
        found.append(extra)
    return tuple(found)


def software_items(project: Project, extras: Sequence[str] = ()) -> Iterator[Item]:
    """The wheels under ``software/`` for afenv and some of its extras, and a requirements file; E736.

    Of a package that the index has as a source archive alone, the wheel is made out of what is installed.
    """
    versions = needed(extras)
    pins = sorted(f"{name}=={version}" for name, version in versions.items())
    key = sha256_bytes(canonical.compact([pins, _python(), platform.machine()]))
    known = project.store.load_key(KIND, key)
    if known is None:
        files, built = _resolve_or_repack(project, versions)
        value = [{"urls": list(one.urls), "size": one.size, "sha256": one.sha256} for one in files]
        project.store.save_key(KIND, key, {"files": value, "built": built})
    else:
        files = [
            LockedFile(urls=tuple(one["urls"]), size=one["size"], sha256=one["sha256"])
            for one in known["files"]
        ]
        built = known["built"]
    try:
        Fetcher(project.store, project.settings, quiet=project.quiet).files(
            files, title="Downloading afenv's own wheels"
        )
    except AfenvError as error:
        raise _not_to_be_had(error) from None
    name, wheel = own_wheel(project)
    lines = [f"afenv @ file:{name} --hash=sha256:{hashlib.sha256(wheel).hexdigest()}"]
    yield of_bytes(f"{FOLDER}/{name}", wheel, "software", "wheel of afenv")
    for file in sorted(files, key=lambda file: file.file_name):
        path = f"{FOLDER}/{safe_part(file.file_name)}"
        yield of_blob(path, project.store, file.digest, "software", "a wheel that afenv needs")
        distribution, version = file.file_name.split("-")[:2]
        lines.append(f"{normalised(distribution)}=={version} --hash=sha256:{file.sha256}")
    for package in built:
        name, wheel = repacked(metadata.distribution(package))
        about = "a wheel that afenv needs, made from the installed files"
        yield of_bytes(f"{FOLDER}/{safe_part(name)}", wheel, "software", about)
        lines.append(f"{package}=={versions[package]} --hash=sha256:{hashlib.sha256(wheel).hexdigest()}")
    text = f"# for Python {_python()} on Linux, {platform.machine()}\n" + "\n".join(lines[1:]) + "\n"
    yield of_bytes(f"{FOLDER}/requirements.txt", text.encode(), "software", "what afenv needs, by digest")


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def needed(extras: Sequence[str] = ()) -> dict[str, str]:
    """What is installed that afenv and some extras need: versions by normalised name; E736."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    waiting: list[tuple[str, frozenset[str]]] = [("afenv", frozenset(extras))]
    seen = set()
    while waiting:
        name, asked = waiting.pop()
        if (name, asked) in seen:
            continue
        seen.add((name, asked))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise AfenvError(
                "E736", f"{name}, which afenv needs, is not installed as a distribution"
            ) from None
        if name != "afenv":
            found[name] = distribution.version
        for text in distribution.requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in asked or {""}):
                waiting.append((normalised(requirement.name), frozenset(requirement.extras)))
    return found


def _resolve_or_repack(project: Project, versions: Mapping[str, str]) -> tuple[list[LockedFile], list[str]]:
    """The wheels of the index, and the names of packages that have none there and can be packed here."""
    built: list[str] = []
    while True:
        pins = sorted(f"{name}=={version}" for name, version in versions.items() if name not in built)
        try:
            return _resolve(project, pins, {name: versions[name] for name in built}), sorted(built)
        except AfenvError as error:
            found = re.match(rf"{_NO_WHEEL}: (\S+) has no wheel", error.problems[0].message)
            name = normalised(found[1]) if found else ""
            if name not in versions or name in built:
                raise
            repacked(metadata.distribution(name))
            built.append(name)


def _resolve(project: Project, pins: list[str], packed: Mapping[str, str]) -> list[LockedFile]:
    from afenv.resolve.pypi import resolve_pypi

    if project.settings.offline:
        raise AfenvError("E736", "offline, and afenv's own wheels were not downloaded yet")
    version = platform.python_version()
    python = LockedPython(version=version, executable=sys.executable, site_packages="/lib", scripts="/bin")
    libc = re.fullmatch(r"(\d+)\.(\d+).*", platform.libc_ver()[1])
    glibc = (int(libc[1]), int(libc[2])) if libc else (2, 28)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    try:
        wheels = resolve_pypi(
            PypiSection(dependencies=tuple(pins)),
            project.folder,
            python,
            glibc,
            f"linux/{architecture}",
            datetime.now(UTC),
            settings=project.settings,
            store=project.store,
            provided=packed,
            provider="the files that are installed",
        )
    except AfenvError as error:
        raise _not_to_be_had(error) from None
    return [wheel.file for wheel in wheels]


def _not_to_be_had(error: AfenvError) -> AfenvError:
    problem = error.problems[0]
    return AfenvError("E736", f"{problem.code}: {problem.message}", place=problem.place)


def own_wheel(project: Project) -> tuple[str, bytes]:
    """afenv's wheel, the same bytes each time: out of what is installed, or built from its checkout."""
    distribution = metadata.distribution("afenv")
    origin = distribution.read_text("direct_url.json")
    place = json.loads(origin) if origin else {}
    if place.get("dir_info", {}).get("editable"):
        return _built(project, Path(place["url"].removeprefix("file://")))
    return repacked(distribution)


def _built(project: Project, source: Path) -> tuple[str, bytes]:
    from uv import find_uv_bin

    with tempfile.TemporaryDirectory() as folder:
        command = [find_uv_bin(), "build", "--wheel", "--quiet", "--out-dir", folder, str(source)]
        if project.settings.offline:
            command.insert(1, "--offline")
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"},
        )
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["uv said nothing"])[-1]
            raise AfenvError("E736", f"afenv's wheel cannot be built: {reason}", place=str(source))
        return wheels[0].name, wheels[0].read_bytes()
