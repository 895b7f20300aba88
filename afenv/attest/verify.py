"""Whether an image is what its attachments say, and what they say: pure, on what was read before.

Three things are told apart: a statement that contradicts the image or its signature (integrity), a document
that is missing, and a document that nobody trusted has signed. Who can write to a registry can attach
anything; so where keys are given, only what these keys have signed counts, and what a signed provenance
names by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from afenv.attest.bundle import SIGNATURE_PREDICATE, Signed, read_bundle, verified_by
from afenv.attest.content import Component, components, differences, image_checksum, read_sbom
from afenv.attest.keys import PublicKey
from afenv.attest.provenance import PREDICATE, SBOM_PREDICATE
from afenv.digest import hex_of, sha256_bytes
from afenv.documents.lockfile import parse_lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.image import inputs_digest
from afenv.oci.model import Image

Verdict = Literal["ok", "bad", "missing", "unchecked"]
NAMES = {
    "lock": media.LOCK,
    "manifest": media.ANALYSIS_MANIFEST,
    "sbom": media.SPDX,
    "provenance": media.IN_TOTO,
    "signature": media.SIGSTORE_BUNDLE,
}
SHOWN = 10  # differences that are named
Vouches = Callable[[bytes], PublicKey | None]  # who made a bundle that has a certificate, if it is trusted


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The packages that an image's own records name, and those that its base image had already."""

    packages: frozenset[Component]
    base: frozenset[Component] = frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``bad`` is a contradiction, ``unchecked`` what could not be judged."""

    name: str
    verdict: Verdict
    text: str

    def as_json(self) -> dict[str, str]:
        """The check for programs."""
        return {"name": self.name, "verdict": self.verdict, "text": self.text}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the attachments say of an image. ``trusted`` tells whether a key that was given vouches for it."""

    attached: frozenset[str] = frozenset()  # names of NAMES
    signers: tuple[PublicKey, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)  # the predicate
    sbom: Mapping[str, Any] = field(default_factory=dict)  # the SPDX document
    provenance_trusted: bool = False
    sbom_trusted: bool = False

    @property
    def builder(self) -> str:
        """Who built the image, as a URI; empty if nothing says so."""
        return str(((self.provenance.get("runDetails") or {}).get("builder") or {}).get("id") or "")

    @property
    def builder_version(self) -> str:
        """With which version of afenv."""
        builder = (self.provenance.get("runDetails") or {}).get("builder") or {}
        return str((builder.get("version") or {}).get("afenv") or "")

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """What went into the build."""
        definition = self.provenance.get("buildDefinition") or {}
        return [one for one in definition.get("resolvedDependencies") or () if isinstance(one, dict)]

    @property
    def code(self) -> list[dict[str, Any]]:
        """The code that went into the build: ``name``, ``uri``, ``commit``, ``tree``, ``dirty``."""
        found = []
        for one in self.inputs:
            digest = one.get("digest") or {}
            if "gitTree" in digest:
                notes = one.get("annotations") or {}
                found.append(
                    {
                        "name": one.get("name"),
                        "uri": one.get("uri"),
                        "commit": digest.get("gitCommit"),
                        "tree": digest["gitTree"],
                        "dirty": bool(notes.get("dirty")),
                    }
                )
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Statement:
    """A statement about the image, and the keys that vouch for it."""

    value: Mapping[str, Any]
    payload: bytes
    keys: tuple[PublicKey, ...] = ()


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
    signed = _signed_statements(image, attachments, keys, vouches, checks)
    signers = _signers(signed, only_trusted, checks)
    provenance = _provenance(image, attachments, signed, only_trusted, checks)
    sbom, sbom_trusted = _sbom(image, attachments, signed, provenance, only_trusted, held, checks)
    _documents(image, attachments, provenance, checks)
    attached = {name for name, kind in NAMES.items() if any(one.artifact_type == kind for one in attachments)}
    facts = Facts(
        attached=frozenset(attached),
        signers=signers,
        provenance=(provenance.value.get("predicate") or {}) if provenance else {},
        sbom=sbom or {},
        provenance_trusted=bool(provenance and provenance.keys),
        sbom_trusted=sbom_trusted,
    )
    return facts, checks


def _is_about(statement: Mapping[str, Any], digest: str) -> bool:
    wanted = hex_of(digest)
    return any(subject["digest"].get("sha256") == wanted for subject in statement["subject"])


def _signed_statements(
    image: Image,
    attachments: Sequence[Attachment],
    keys: Sequence[PublicKey],
    vouches: Vouches | None,
    checks: list[Check],
) -> list[tuple[Signed, _Statement | None, tuple[PublicKey, ...]]]:
    """Every bundle, with its statement if it has one and the given keys that made it."""
    found: list[tuple[Signed, _Statement | None, tuple[PublicKey, ...]]] = []
    for one in attachments:
        if one.artifact_type != media.SIGSTORE_BUNDLE:
            continue
        try:
            signed = read_bundle(one.content)
            by = tuple(verified_by(signed, keys, image.manifest))
            if signed.certificate and vouches is not None:
                someone = vouches(one.content)
                by += (someone,) if someone else ()
            claimed = [key for key in keys if key.hint == signed.hint]
            if claimed and not by:
                checks.append(
                    Check(
                        "signature", "bad", f"{_title(one)} is not a signature by the key {claimed[0].name}"
                    )
                )
                continue
            if signed.message:
                found.append((signed, None, by))
                continue
            statement = signed.statement()
        except AfenvError as error:
            checks.append(Check("signature", "bad", f"{_title(one)}: {error.problems[0].message}"))
            continue
        if not _is_about(statement, image.manifest_digest):
            checks.append(Check("signature", "bad", f"{_title(one)} is about another image"))
            continue
        found.append((signed, _Statement(value=statement, payload=signed.payload, keys=by), by))
    return found


def _title(attachment: Attachment) -> str:
    return attachment.title or attachment.digest


def _signers(
    signed: Sequence[tuple[Signed, _Statement | None, tuple[PublicKey, ...]]],
    only_trusted: bool,
    checks: list[Check],
) -> tuple[PublicKey, ...]:
    """The given keys that signed the image itself."""
    found: dict[str, PublicKey] = {}
    unknown = 0
    for bundle, statement, by in signed:
        about_image = bundle.message or (
            statement is not None and statement.value["predicateType"] == SIGNATURE_PREDICATE
        )
        if about_image:
            found |= {key.identity: key for key in by}
            unknown += not by
    signers = tuple(found[name] for name in sorted(found))
    if signers:
        names = ", ".join(f"{key.name} ({key.identity[:16]})" for key in signers)
        checks.append(Check("signature", "ok", f"the manifest is signed by {names}"))
    elif only_trusted:
        checks.append(Check("signature", "missing", "none of the keys that were given signed the image"))
    elif unknown:
        checks.append(
            Check("signature", "unchecked", f"{unknown} signature(s); give --key or --policy to check them")
        )
    else:
        checks.append(Check("signature", "unchecked", "the image is not signed"))
    return signers


def _provenance(
    image: Image,
    attachments: Sequence[Attachment],
    signed: Sequence[tuple[Signed, _Statement | None, tuple[PublicKey, ...]]],
    only_trusted: bool,
    checks: list[Check],
) -> _Statement | None:
    """The provenance to believe: a signed one first, else one that is attached as it is."""
    candidates = [
        statement
        for _, statement, _ in signed
        if statement is not None and statement.value["predicateType"] == PREDICATE
    ]
    candidates.sort(key=lambda one: not one.keys)
    for one in attachments:
        if one.artifact_type == media.IN_TOTO:
            try:
                bare = Signed(payload_type=media.IN_TOTO, payload=one.content, signatures=())
                statement = bare.statement()
            except AfenvError as error:
                checks.append(Check("provenance", "bad", f"{_title(one)}: {error.problems[0].message}"))
                continue
            if statement["predicateType"] != PREDICATE:
                continue
            if not _is_about(statement, image.manifest_digest):
                checks.append(Check("provenance", "bad", f"{_title(one)} is about another image"))
                continue
            candidates.append(_Statement(value=statement, payload=one.content))
    if not candidates:
        checks.append(Check("provenance", "missing", "the image has no provenance"))
        return None
    best = candidates[0]
    text = "it is about this image"
    if best.keys:
        text += f", signed by {best.keys[0].name}"
    elif only_trusted:
        checks.append(
            Check("provenance", "missing", "none of the keys that were given signed the provenance")
        )
        return best
    checks.append(Check("provenance", "ok", text))
    return best


def _named_digests(provenance: _Statement | None, part: str) -> dict[str, str]:
    """The digests that a provenance names among the ``byproducts`` or the ``documents``."""
    predicate = provenance.value.get("predicate") or {} if provenance else {}
    if part == "byproducts":
        entries = (predicate.get("runDetails") or {}).get("byproducts") or ()
    else:
        definition = predicate.get("buildDefinition") or {}
        entries = (definition.get("externalParameters") or {}).get("documents") or ()
    try:
        return {str(one["name"]): f"sha256:{one['digest']['sha256']}" for one in entries}
    except (KeyError, TypeError):
        return {}


def _sbom(
    image: Image,
    attachments: Sequence[Attachment],
    signed: Sequence[tuple[Signed, _Statement | None, tuple[PublicKey, ...]]],
    provenance: _Statement | None,
    only_trusted: bool,
    held: Held | None,
    checks: list[Check],
) -> tuple[dict[str, Any] | None, bool]:
    """The bill of materials to believe, compared with the image; and whether a given key vouches for it."""
    vouched = set(_named_digests(provenance, "byproducts").values()) if provenance else set()
    trusted_provenance = bool(provenance and provenance.keys)
    candidates: list[tuple[bool, str, bytes]] = []
    for _, statement, by in signed:
        if statement is not None and statement.value["predicateType"] == SBOM_PREDICATE:
            content = json.dumps(statement.value.get("predicate")).encode()
            candidates.append((bool(by), "the signed bill of materials", content))
    for one in attachments:
        if one.artifact_type == media.SPDX:
            known = one.digest in vouched
            if vouched and not known and not only_trusted:
                checks.append(Check("sbom", "bad", f"{_title(one)} is not the one that the provenance names"))
            candidates.append((known and trusted_provenance, _title(one), one.content))
    if not candidates:
        checks.append(Check("sbom", "missing", "the image has no bill of materials"))
        return None, False
    candidates.sort(key=lambda one: not one[0])
    trusted, title, content = candidates[0]
    if only_trusted and not trusted:
        checks.append(
            Check("sbom", "missing", "none of the keys that were given vouches for the bill of materials")
        )
    try:
        document = read_sbom(content)
    except AfenvError as error:
        checks.append(Check("sbom", "bad", f"{title}: {error.problems[0].message}"))
        return None, False
    checks.append(_compare(image, document, title, held))
    return document, trusted


def _compare(image: Image, document: dict[str, Any], title: str, held: Held | None) -> Check:
    if image_checksum(document) != image.image_id:
        return Check("sbom", "bad", f"{title} is about another image")
    listed = components(document)
    if held is None:
        return Check(
            "sbom", "unchecked", f"it lists {len(listed)} packages; the image's content was not read"
        )
    found = differences(listed, held.packages, held.base)
    if not found:
        return Check("sbom", "ok", f"it lists the {len(listed)} packages that the image holds")
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Check("sbom", "bad", f"{title}: {'; '.join(found[:SHOWN])}{more}")


def _documents(
    image: Image, attachments: Sequence[Attachment], provenance: _Statement | None, checks: list[Check]
) -> None:
    """Lock and manifest against the provenance, and the lock against the image."""
    named = set(_named_digests(provenance, "documents").values())
    labels = (image.configuration().get("config") or {}).get("Labels") or {}
    for kind, name in ((media.LOCK, "lock"), (media.ANALYSIS_MANIFEST, "manifest")):
        for one in attachments:
            if one.artifact_type != kind:
                continue
            if named and sha256_bytes(one.content) not in named:
                checks.append(Check(name, "bad", f"{_title(one)} is not the one that the provenance names"))
            elif kind == media.LOCK:
                checks.append(_lock_check(one, labels))
            else:
                checks.append(
                    Check(name, "ok", "it is the one that the provenance names")
                    if named
                    else Check(name, "unchecked", "no provenance names it")
                )


def _lock_check(attachment: Attachment, labels: Mapping[str, str]) -> Check:
    try:
        lock = parse_lock(attachment.content, _title(attachment))
        environment = lock.environments.get(labels.get(media.ENVIRONMENT, ""))
        if environment is None:
            return Check(
                "lock", "bad", f"{_title(attachment)} has no environment {labels.get(media.ENVIRONMENT)!r}"
            )
        if inputs_digest(lock, environment) != labels.get(media.INPUTS):
            return Check(
                "lock", "bad", f"{_title(attachment)} locks other inputs than the image was built from"
            )
    except AfenvError as error:
        return Check("lock", "bad", error.problems[0].message)
    return Check("lock", "ok", "it locks what the image says it was built from")
