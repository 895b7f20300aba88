"""The software bill of materials of an image: SPDX 2.3 JSON.

One package for the image, one per Debian package, conda package, wheel and piece of code. The document
depends on the lock, the image ID and the licences that packages state; its time is that of the image and
its namespace is made of the image ID, so one image has one document, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import afenv
from afenv import canonical
from afenv.attest.licenses import NOASSERTION, all_references, expression, from_record
from afenv.attest.purl import (
    base_purl,
    code_purl,
    conda_purl,
    deb_purl,
    git_location,
    split_image,
    wheel_purl,
)
from afenv.digest import hex_of
from afenv.documents.lock import (
    Lock,
    LockedBase,
    LockedBuilder,
    LockedCode,
    LockedEnvironment,
    LockedFile,
    LockedSubmodule,
    LockedWheel,
)

MEDIA_TYPE = "application/spdx+json"
DOCUMENT = "SPDXRef-DOCUMENT"
IMAGE = "SPDXRef-Image"
BASE = "SPDXRef-BaseImage"


def namespace(image_id: str) -> str:
    """The namespace of the document of an image."""
    return f"urn:afenv:spdx:{image_id}"


def sbom(
    lock: Lock,
    environment_name: str,
    image_id: str,
    created: str,
    wheel_licenses: Mapping[str, str] | None = None,
) -> bytes:
    """The SPDX document of an environment's image.

    ``created`` is the time of the image (RFC 3339); ``wheel_licenses`` gives the licence expressions of
    wheels by sha256.
    """
    environment = lock.environments[environment_name]
    packages = list(_packages(lock, environment, wheel_licenses or {}))
    root = _image_package(lock, environment_name, image_id)
    relationships = [
        _relationship(DOCUMENT, "DESCRIBES", IMAGE),
        *(_relationship(IMAGE, "CONTAINS", one["SPDXID"]) for one in packages),
        *_dependencies(environment),
    ]
    stated = [one["licenseDeclared"] for one in (root, *packages)]
    document: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": f"{lock.name} {lock.version} ({environment_name})",
        "documentNamespace": namespace(image_id),
        "creationInfo": {"created": created, "creators": [f"Tool: afenv-{afenv.__version__}"]},
        "packages": [root, *packages],
        "relationships": relationships,
    }
    extracted = [
        {
            "licenseId": name,
            "name": name.removeprefix("LicenseRef-"),
            "extractedText": f"The package names this licence {name.removeprefix('LicenseRef-')}.",
        }
        for name in all_references(stated)
    ]
    if extracted:
        document["hasExtractedLicensingInfos"] = extracted
    return canonical.compact(document)


def _packages(
    lock: Lock, environment: LockedEnvironment, licenses: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    if environment.base:
        yield _base_package(environment.base, environment.builder)
    for deb in environment.debs:
        yield _file_package(
            _identity("deb", deb.name, deb.file),
            deb.name,
            deb.version,
            deb.file,
            deb_purl(deb, environment.suite),
            sourceInfo=f"built from the source package {deb.source}",
            supplier="Organization: Debian",
        )
    for conda in environment.conda:
        stated = str(conda.record.get("license") or "")
        found = from_record(conda.record)
        comment = {"licenseComments": f"The record says: {stated}"} if stated and stated != found else {}
        yield _file_package(
            _identity("conda", conda.name, conda.file),
            conda.name,
            conda.version,
            conda.file,
            conda_purl(conda),
            licenseDeclared=found,
            **comment,
        )
    for wheel in environment.wheels:
        yield _file_package(
            _identity("pypi", wheel.name, wheel.file),
            wheel.name,
            wheel.version,
            wheel.file,
            wheel_purl(wheel),
            licenseDeclared=licenses.get(wheel.file.sha256, NOASSERTION),
            **_source(wheel),
        )
    for number, code in enumerate(lock.code, 1):
        yield _code_package(lock, code, number)
        for position, submodule in enumerate(code.submodules, 1):
            yield _submodule_package(submodule, f"SPDXRef-code-{number}-submodule-{position}")


def _source(wheel: LockedWheel) -> dict[str, Any]:
    """From where a wheel that was built here is; its checksum is of what was built."""
    if wheel.built_from is None:
        return {}
    file = wheel.built_from.file
    text = f"built from {file.file_name}, sha256 {file.sha256}"
    return {"downloadLocation": _location(file.urls), "sourceInfo": text}


def _identity(kind: str, name: str, file: LockedFile) -> str:
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name)
    return f"SPDXRef-{kind}-{plain}-{file.sha256[:12]}"


def _location(urls: Sequence[str]) -> str:
    return next((url for url in urls if url.startswith(("https://", "http://"))), NOASSERTION)


def _package(identity: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    return {
        "SPDXID": identity,
        "name": name,
        "versionInfo": version,
        "downloadLocation": NOASSERTION,
        "filesAnalyzed": False,
        "licenseConcluded": NOASSERTION,
        "licenseDeclared": NOASSERTION,
        "copyrightText": NOASSERTION,
        "supplier": NOASSERTION,
    } | more


def _reference(kind: str, locator: str) -> dict[str, str]:
    category = "PERSISTENT-ID" if kind == "swh" else "PACKAGE-MANAGER"
    return {"referenceCategory": category, "referenceType": kind, "referenceLocator": locator}


def _file_package(
    identity: str, name: str, version: str, file: LockedFile, purl: str, **more: Any
) -> dict[str, Any]:
    known: dict[str, Any] = {
        "downloadLocation": _location(file.urls),
        "checksums": [{"algorithm": "SHA256", "checksumValue": file.sha256}],
        "externalRefs": [_reference("purl", purl)],
    }
    if file.urls:
        known["packageFileName"] = file.file_name
    return _package(identity, name, version, **known | more)


def _base_package(base: LockedBase, builder: LockedBuilder | None) -> dict[str, Any]:
    made = f" It was made by {builder.name} {builder.version}, not reproducibly." if builder else ""
    repository, tag = split_image(base.reference)
    return _package(
        BASE,
        repository.rsplit("/", 1)[-1],
        tag or base.digest,
        checksums=[{"algorithm": "SHA256", "checksumValue": hex_of(base.digest)}],
        externalRefs=[_reference("purl", base_purl(base))],
        primaryPackagePurpose="CONTAINER",
        comment="A base image: its layers are the lowest. The packages in it are not listed one by one. "
        f"The checksum is that of its image manifest.{made}",
    )


def code_name(lock: Lock, code: LockedCode) -> str:
    """What a piece of code is called: its repository, else its folder, else the analysis."""
    source = code.git or ("" if code.folder in (None, ".") else code.folder) or lock.name
    return re.split(r"[/:]", source.rstrip("/").removesuffix(".git"))[-1] or lock.name


def _code_package(lock: Lock, code: LockedCode, number: int) -> dict[str, Any]:
    name = code_name(lock, code)
    references = [_reference("swh", code.swhid)]
    purl = code_purl(code, name)
    if purl:
        references.append(_reference("purl", purl))
    comment = f"git tree {code.tree}, at {code.into}"
    if code.dirty:
        comment += "; it has changes that are not committed"
    return _package(
        f"SPDXRef-code-{number}",
        name,
        code.commit or code.tree,
        downloadLocation=git_location(code) or NOASSERTION,
        externalRefs=references,
        licenseDeclared=expression(str(lock.metadata.get("license") or "")) if not code.git else NOASSERTION,
        primaryPackagePurpose="SOURCE",
        comment=comment,
    )


def _submodule_package(submodule: LockedSubmodule, identity: str) -> dict[str, Any]:
    name = submodule.path.rsplit("/", 1)[-1]
    purl = code_purl(submodule, name)
    return _package(
        identity,
        name,
        submodule.commit,
        downloadLocation=git_location(submodule) or NOASSERTION,
        externalRefs=[_reference("purl", purl)] if purl else [],
        primaryPackagePurpose="SOURCE",
        comment=f"a submodule, at {submodule.path} of the code",
    )


def _image_package(lock: Lock, environment_name: str, image_id: str) -> dict[str, Any]:
    return _package(
        IMAGE,
        lock.name if environment_name == "default" else f"{lock.name}-{environment_name}",
        lock.version,
        checksums=[{"algorithm": "SHA256", "checksumValue": hex_of(image_id)}],
        primaryPackagePurpose="CONTAINER",
        licenseDeclared=expression(str(lock.metadata.get("license") or "")),
        comment="The checksum is the image ID, the digest of the image's configuration.",
    )


def _relationship(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _dependencies(environment: LockedEnvironment) -> Iterator[dict[str, str]]:
    """What depends on what, as far as the lock says it by name."""
    debs = {deb.name: _identity("deb", deb.name, deb.file) for deb in environment.debs}
    for deb in environment.debs:
        fields = (deb.control.get("Pre-Depends", ""), deb.control.get("Depends", ""))
        names = [
            re.split(r"[\s(:\[]", one.strip(), maxsplit=1)[0] for one in re.split(r"[,|]", ",".join(fields))
        ]
        yield from _depends(debs, deb.name, names)
    conda = {package.name: _identity("conda", package.name, package.file) for package in environment.conda}
    for package in environment.conda:
        names = [re.split(r"[\s=<>!~\[]", one, maxsplit=1)[0] for one in package.depends]
        yield from _depends(conda, package.name, names)
    wheels = {wheel.name: _identity("pypi", wheel.name, wheel.file) for wheel in environment.wheels}
    for wheel in environment.wheels:
        yield from _depends(wheels, wheel.name, wheel.dependencies)


def _depends(known: Mapping[str, str], name: str, others: Iterable[str]) -> Iterator[dict[str, str]]:
    for other in sorted({one for one in others if one in known and one != name}):
        yield _relationship(known[name], "DEPENDS_ON", known[other])
