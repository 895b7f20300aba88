"""Whether an image is what its attachments say, and what they say: pure, on what was read before.

Three things are told apart: a statement that contradicts the image or its signature (integrity), a document
that is missing, and a document that nobody trusted has signed. Who can write to a registry can attach
anything; so where keys are given, only what these keys have signed counts, and what a signed provenance
names by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from afenv.attest.content import components, differences, image_checksum, read_sbom
from afenv.attest.facts import NAMES, Check, Facts, Held
from afenv.attest.keys import PublicKey
from afenv.attest.provenance import SBOM_PREDICATE
from afenv.attest.statements import Statement, Vouches, provenances, signed_statements, signers, title_of
from afenv.documents.lockfile import parse_lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.image import inputs_digest
from afenv.oci.model import Image
from afenv.progress import counted

SHOWN = 10  # differences that are named


def verify_image(
    image: Image,
    attachments: Sequence[Attachment],
    *,
    keys: Sequence[PublicKey] = (),
    held: Held | None = None,
    vouches: Vouches | None = None,
) -> tuple[Facts, list[Check]]:
    """What the attachments say, and the checks of it.

    ``keys`` are those whose signatures count; ``held`` are the packages that the image's own records name,
    None where its content was not read; ``vouches`` judges signatures that were made without a key.
    """
    checks: list[Check] = []
    only_trusted = bool(keys) or vouches is not None
    statements = signed_statements(image, attachments, keys, vouches, checks)
    signed_by = signers(statements, only_trusted, checks)
    origins = provenances(image, attachments, statements, only_trusted, checks)
    trusted = bool(origins and origins[0].keys)
    sbom, sbom_trusted = _sbom(image, attachments, statements, origins, only_trusted, held, checks)
    attached = _documents(image, attachments, origins, only_trusted, checks)
    bundles = [one for one in attachments if _is(one, media.SIGSTORE_BUNDLE)]
    counts = {
        "signature": signed_by if only_trusted else bundles,
        "provenance": trusted if only_trusted else origins,
        "sbom": sbom_trusted if only_trusted else sbom,
    }
    facts = Facts(
        attached=frozenset(attached | {name for name, found in counts.items() if found}),
        signers=signed_by,
        provenance=origins[0].predicate if origins else {},
        sbom=sbom or {},
        provenance_trusted=trusted,
        sbom_trusted=sbom_trusted,
    )
    return facts, checks


def _is(attachment: Attachment, kind: str) -> bool:
    return attachment.artifact_type == kind


def _sbom(
    image: Image,
    attachments: Sequence[Attachment],
    statements: Sequence[Statement],
    origins: Sequence[Statement],
    only_trusted: bool,
    held: Held | None,
    checks: list[Check],
) -> tuple[dict[str, Any] | None, bool]:
    """The bill of materials to believe, compared with the image; and whether a given key vouches for it."""
    trusted_names = {name for one in origins if one.keys for name in one.named("byproducts")}
    best = origins[0].named("byproducts") if origins else set()
    named = {name for one in origins for name in one.named("byproducts")}
    candidates: list[tuple[bool, bool, str, bytes]] = []
    strangers: list[str] = []
    for one in statements:
        if one.kind == SBOM_PREDICATE:
            content = json.dumps(one.value.get("predicate")).encode()
            candidates.append((bool(one.keys), False, "the signed bill of materials", content))
    for attachment in attachments:
        if _is(attachment, media.SPDX):
            name, title = attachment.digest, title_of(attachment)
            if named and name not in named and not only_trusted:
                strangers.append(title)
            candidates.append((name in trusted_names, name in best, title, attachment.content))
    if not candidates:
        checks.append(Check("sbom", "missing", "the image has no bill of materials"))
        return None, False
    trusted, is_named, title, content = max(candidates, key=lambda one: one[:2])
    alone = not (trusted or is_named)
    checks += [_stranger("sbom", stranger, alone=alone) for stranger in strangers]
    if only_trusted and not trusted:
        text = "none of the keys that were given vouches for the bill of materials"
        checks.append(Check("sbom", "missing", text))
    try:
        document = read_sbom(content)
    except AfenvError as error:
        checks.append(Check("sbom", "bad", f"{title}: {error.problems[0].message}"))
        return None, False
    checks.append(_compare(image, document, title, held))
    return document, trusted


def _stranger(name: str, title: str, *, alone: bool) -> Check:
    """A document that no provenance names: wrong if it stands in the place of the one that is named."""
    if alone:
        return Check(name, "bad", f"{title} is not the one that the provenance names")
    return Check(name, "unchecked", f"no provenance names {title}, which is attached as well")


def _compare(image: Image, document: dict[str, Any], title: str, held: Held | None) -> Check:
    if image_checksum(document) != image.image_id:
        return Check("sbom", "bad", f"{title} is about another image")
    listed = components(document)
    if held is None:
        text = f"it lists {counted(len(listed), 'package')}; the image's content was not read"
        return Check("sbom", "unchecked", text)
    found = differences(listed, held.packages, held.base)
    if not found:
        return Check("sbom", "ok", f"it lists the {_packages(len(listed), held)}")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Check("sbom", "bad", f"{title}: {'; '.join(found[:SHOWN])}{more}")


def _packages(count: int, held: Held) -> str:
    if held.base:
        return f"{counted(count, 'package')} added to the base, which has {len(held.base)} of its own"
    return f"{counted(count, 'package')} that the image holds"


def _documents(
    image: Image,
    attachments: Sequence[Attachment],
    origins: Sequence[Statement],
    only_trusted: bool,
    checks: list[Check],
) -> set[str]:
    """Lock and manifest against the provenance, and the lock against the image; the names of what counts."""
    named = {name for one in origins if one.keys or not only_trusted for name in one.named("documents")}
    labels = (image.configuration().get("config") or {}).get("Labels") or {}
    counts = set()
    for name in ("lock", "manifest"):
        found = [one for one in attachments if _is(one, NAMES[name])]
        alone = not any(one.digest in named for one in found)
        for one in found:
            if one.digest in named:
                check = Check(name, "ok", "it is the one that the provenance names")
                counts.add(name)
            elif only_trusted:
                check = Check(name, "unchecked", f"nobody trusted vouches for {title_of(one)}")
            elif named:
                check = _stranger(name, title_of(one), alone=alone)
            else:
                check = Check(name, "unchecked", "no provenance names it")
                counts.add(name)
            if name == "lock" and (one.digest in named or not (named or only_trusted)):
                check = _lock_check(one, labels)
            checks.append(check)
    return counts


def _lock_check(attachment: Attachment, labels: Mapping[str, str]) -> Check:
    title, environment_name = title_of(attachment), labels.get(media.ENVIRONMENT, "")
    try:
        lock = parse_lock(attachment.content, title)
        environment = lock.environments.get(environment_name)
        if environment is None:
            return Check("lock", "bad", f"{title} has no environment {environment_name!r}")
        if inputs_digest(lock, environment) != labels.get(media.INPUTS):
            return Check("lock", "bad", f"{title} locks other inputs than the image was built from")
    except AfenvError as error:
        return Check("lock", "bad", error.problems[0].message)
    return Check("lock", "ok", "it locks what the image says it was built from")
