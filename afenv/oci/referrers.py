"""Attachments in a registry: the referrers of an image (OCI distribution specification 1.1).

A registry that knows referrers keeps the list itself and says so (``OCI-Subject``). Where it does not, the
list is kept by clients under the tag ``sha256-<hex>``. Some registries answer that tag with the image itself
although nobody has put anything there, so what comes back is looked at before it is believed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from afenv.digest import hex_of, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import (
    EMPTY,
    LARGEST,
    MANIFEST_LIMIT,
    Attachment,
    artifact_manifest,
    attachment_from,
    content_descriptor,
    listed,
    read_index,
    referrers_index,
)
from afenv.oci.model import Descriptor
from afenv.oci.registries import Repository

TYPES = (media.LOCK, media.ANALYSIS_MANIFEST, media.SPDX, media.IN_TOTO, media.SIGSTORE_BUNDLE)
CONNECTIONS = 4  # documents that are sent at once: each takes four requests
ATTEMPTS = 4  # to change a list that others change too
MOST = 256  # attachments of one image that are looked at
TOTAL = 256 << 20  # bytes of them together


def fallback_tag(digest: str) -> str:
    """The tag under which clients keep the list of referrers of a manifest."""
    return f"sha256-{hex_of(digest)}"


def _tagged(repository: Repository, subject: str) -> list[dict[str, Any]]:
    """The list under the fallback tag; empty if there is none, or something else."""
    found = repository.find_manifest(fallback_tag(subject))
    if found is None:
        return []
    try:
        return read_index(found.content, repository.name)
    except AfenvError:
        return []


def list_referrers(repository: Repository, subject: str) -> list[dict[str, Any]]:
    """The descriptors of what is attached to the manifest ``subject``, from the API or the fallback tag."""
    found = repository.referrers(subject)
    if found:
        return found
    # a registry may have learned of referrers after the list was made
    return _tagged(repository, subject)


def attach(repository: Repository, subject: Descriptor, attachments: Sequence[Attachment]) -> list[str]:
    """Attach documents to an image in the repository; the digests of the manifests that were new there.

    What is attached already is left as it is. E602 if the registry does not keep the list.
    """
    manifests = {sha256_bytes(one): one for one in (artifact_manifest(subject, a) for a in attachments)}
    contents = {sha256_bytes(artifact_manifest(subject, a)): a.content for a in attachments}
    there = {entry["digest"] for entry in list_referrers(repository, subject.digest)}
    missing = [digest for digest in manifests if digest not in there]
    if not missing:
        return []
    repository.put_bytes(EMPTY)

    def send(digest: str) -> bool:
        """Whether the registry noted whom the document belongs to."""
        repository.put_bytes(contents[digest])
        stored = repository.put_manifest(manifests[digest], media.IMAGE_MANIFEST)
        return stored.subject == subject.digest

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="attach") as pool:
        noted = list(pool.map(send, missing))
    to_list = [listed(manifests[digest]) for digest, known in zip(missing, noted, strict=True) if not known]
    if to_list:
        _add_to_list(repository, subject.digest, to_list)
    return missing


def _add_to_list(repository: Repository, subject: str, entries: Sequence[Mapping[str, Any]]) -> None:
    wanted = {entry["digest"] for entry in entries}
    for _ in range(ATTEMPTS):
        before = _tagged(repository, subject)
        index = referrers_index([*before, *entries])
        repository.put_manifest(index, media.IMAGE_INDEX, fallback_tag(subject))
        # another client may have written its own list in between
        if wanted <= {entry["digest"] for entry in _tagged(repository, subject)}:
            return
    raise AfenvError(
        "E602",
        f"it keeps no list of referrers under {fallback_tag(subject)}",
        place=repository.name,
    )


def fetch_attachments(
    repository: Repository,
    subject: str,
    *,
    types: Collection[str] = TYPES,
    skipped: list[str] | None = None,
) -> list[Attachment]:
    """The documents of these types that are attached to a manifest, each checked against its digest.

    What has the form of another tool, or is about another image although it is in the list, is left out;
    ``skipped`` is told of it. E301 for another content, E602 if there are too many.
    """
    entries = [one for one in list_referrers(repository, subject) if one.get("artifactType") in types]
    if len(entries) > MOST:
        raise AfenvError("E602", f"{len(entries)} documents are attached to {subject}", place=repository.name)
    found: list[Attachment] = []
    for entry in entries:
        manifest = repository.get_manifest(entry["digest"]).content
        try:
            if len(manifest) > MANIFEST_LIMIT:
                raise AfenvError("E510", "this manifest is too large", place=repository.name)
            descriptor = content_descriptor(manifest, subject, repository.name)
        except AfenvError as error:
            if skipped is not None:
                skipped.append(f"{entry['digest']}: {error.problems[0].message}")
            continue
        if sum(len(one.content) for one in found) + descriptor.size > TOTAL:
            raise AfenvError("E602", f"more than {TOTAL >> 20} MiB are attached", place=repository.name)
        content = repository.get_blob(descriptor.digest, limit=LARGEST)
        found.append(attachment_from(manifest, content, subject, repository.name))
    return found
