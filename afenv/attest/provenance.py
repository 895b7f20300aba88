"""How an image was made: an in-toto statement with SLSA provenance, version 1.

The meaning of the fields is in ``specs/provenance/v1/spec.md``. The statement is the same for two builds of
one lock by one builder: it has no times and no numbers of runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import afenv
from afenv import canonical
from afenv.attest.purl import base_purl, code_purl, conda_purl, deb_purl, git_location, wheel_purl
from afenv.attest.spdx import code_name
from afenv.digest import hex_of
from afenv.documents.lock import Lock, LockedEnvironment, LockedFile

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
SBOM_PREDICATE = "https://spdx.dev/Document"
BUILD_TYPE = "urn:afenv:build:v1"
LOCAL_BUILDER = "urn:afenv:builder:local"
MEDIA_TYPE = "application/vnd.in-toto+json"


def builder_identity(environment: Mapping[str, str]) -> str:
    """Who builds, as a URI: ``AFENV_BUILDER_ID``, else the CI job's definition, else this machine's user.

    The variables are those that GitHub Actions and GitLab CI set. No name of a person or a host is taken.
    """
    if environment.get("AFENV_BUILDER_ID"):
        return environment["AFENV_BUILDER_ID"]
    if environment.get("GITHUB_ACTIONS") == "true" and environment.get("GITHUB_WORKFLOW_REF"):
        return f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{environment['GITHUB_WORKFLOW_REF']}"
    if environment.get("GITLAB_CI") == "true" and environment.get("CI_PROJECT_URL"):
        file = environment.get("CI_CONFIG_PATH") or ".gitlab-ci.yml"
        return f"{environment['CI_PROJECT_URL']}//{file}"
    return LOCAL_BUILDER


def statement(subject: list[dict[str, Any]], predicate_type: str, predicate: Any) -> bytes:
    """An in-toto statement, version 1."""
    return canonical.compact(
        {"_type": STATEMENT, "subject": subject, "predicateType": predicate_type, "predicate": predicate}
    )


def subjects(name: str, manifest_digest: str, image_id: str) -> list[dict[str, Any]]:
    """The image as the subject of a statement: its manifest, and its configuration (the image ID)."""
    return [
        {"name": name, "digest": {"sha256": hex_of(manifest_digest)}},
        {"name": f"{name}#image-id", "digest": {"sha256": hex_of(image_id)}},
    ]


def provenance(
    lock: Lock,
    environment_name: str,
    *,
    manifest_digest: str,
    image_id: str,
    created: str,
    documents: Mapping[str, str],
    byproducts: Mapping[str, str],
    builder: str,
    target: str = "oci",
) -> bytes:
    """The provenance statement of an image.

    ``documents`` gives the digests of ``afenv.yaml`` and ``afenv.lock``, ``byproducts`` those of what else
    was made, such as the bill of materials; ``created`` is the time of the image (RFC 3339).
    """
    environment = lock.environments[environment_name]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "environment": environment_name,
                "target": target,
                "documents": [_resource(name, digest) for name, digest in sorted(documents.items())],
            },
            "internalParameters": {
                "analysis": lock.name,
                "version": lock.version,
                "platform": environment.platform,
                "assemblyVersion": lock.assembly_version,
                "created": created,
                **_sandboxed(environment),
            },
            "resolvedDependencies": list(_dependencies(lock, environment)),
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"afenv": afenv.__version__}},
            "byproducts": [_resource(name, digest) for name, digest in sorted(byproducts.items())],
        },
    }
    return statement(subjects(lock.name, manifest_digest, image_id), PREDICATE, predicate)


def _sandboxed(environment: LockedEnvironment) -> dict[str, Any]:
    """What was run in the sandbox, and who made a base that is not afenv's."""
    found: dict[str, Any] = {}
    if environment.build:
        found["commands"] = list(environment.build)
    if environment.post_link:
        found["postLink"] = list(environment.post_link)
    if environment.builder:
        builder = environment.builder
        found["baseBuilder"] = {"name": builder.name, "version": builder.version, "gitTree": builder.tree}
    return found


def _resource(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": hex_of(digest)}}


def _dependencies(lock: Lock, environment: LockedEnvironment) -> Iterator[dict[str, Any]]:
    for code in lock.code:
        notes = {"into": code.into, "swhid": code.swhid} | ({"dirty": True} if code.dirty else {})
        digest = {"gitTree": code.tree} | ({"gitCommit": code.commit} if code.commit else {})
        name = code_name(lock, code)
        uri = git_location(code) or code_purl(code, name) or code.swhid
        yield {"name": name, "uri": uri, "digest": digest, "annotations": notes}
        for submodule in code.submodules:
            where = git_location(submodule) or code_purl(submodule, submodule.path) or submodule.path
            digest = {"gitCommit": submodule.commit}
            yield {"name": f"{name}/{submodule.path}", "uri": where, "digest": digest}
        for large in code.lfs:
            yield {"name": f"{name}/{large.path}", "digest": {"sha256": large.sha256}}
    if environment.base:
        base = environment.base
        yield {
            "name": base.reference,
            "uri": base_purl(base),
            "digest": {"sha256": hex_of(base.digest)},
            "annotations": {"index": base.index} if base.index else {},
        }
    for index in environment.indexes:
        notes = {"signedBy": index.signed_by, "date": index.date}
        yield {"uri": index.url, "digest": {"sha256": index.sha256}, "annotations": notes}
    for one in environment.cvmfs:
        algorithm = one.root_hash.partition("-")[2] or "sha1"
        digest = {f"cvmfsRoot-{algorithm}": one.root_hash.partition("-")[0]}
        yield {
            "name": one.path,
            "uri": f"cvmfs:{one.path}",
            "digest": digest,
            "annotations": {
                "delivery": one.delivery,
                "revision": one.revision,
                "published": one.timestamp,
            },
        }
        for part in one.parts:
            yield {"name": part.path, "digest": {"afenvListing-sha256": hex_of(part.listing)}}
    for deb in environment.debs:
        yield _file(deb_purl(deb, environment.suite), deb.file)
    for package in environment.conda:
        yield _file(conda_purl(package), package.file)
    for wheel in environment.wheels:
        source = wheel.built_from
        if source is None:
            yield _file(wheel_purl(wheel), wheel.file)
            continue
        yield {"uri": wheel_purl(wheel), "digest": {"sha256": wheel.file.sha256}}
        yield {"digest": {"sha256": source.file.sha256}, "downloadLocation": source.file.urls[0]}
        for needed in source.requires:
            yield _file(wheel_purl(needed), needed.file)


def _file(purl: str, file: LockedFile) -> dict[str, Any]:
    return {"uri": purl, "digest": {"sha256": file.sha256}, "downloadLocation": file.urls[0]}
