"""The statements about an image among its attachments, and whose word they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from afenv.attest.bundle import SIGNATURE_PREDICATE, Signed, read_bundle, verified_by
from afenv.attest.facts import Check
from afenv.attest.keys import PublicKey
from afenv.attest.provenance import PREDICATE
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.model import Image
from afenv.progress import counted

Vouches = Callable[[bytes], PublicKey | None]  # who made a bundle that has a certificate, if it is trusted


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """A statement about the image, and the given keys that signed it.

    ``kind`` is its predicate type; a signature over the manifest's own bytes counts as one of an image.
    """

    kind: str
    value: Mapping[str, Any]
    keys: tuple[PublicKey, ...] = ()

    @property
    def predicate(self) -> Mapping[str, Any]:
        """What is said."""
        found = self.value.get("predicate")
        return found if isinstance(found, dict) else {}

    def named(self, part: str) -> set[str]:
        """The digests that a provenance names among its ``byproducts`` or ``documents``."""
        try:
            if part == "byproducts":
                entries = self.predicate["runDetails"]["byproducts"]
            else:
                entries = self.predicate["buildDefinition"]["externalParameters"]["documents"]
            return {f"sha256:{one['digest']['sha256']}" for one in entries}
        except (KeyError, TypeError):
            return set()


def title_of(attachment: Attachment) -> str:
    """What a message calls an attachment."""
    return attachment.title or attachment.digest


def _is_about(statement: Mapping[str, Any], digest: str) -> bool:
    wanted = hex_of(digest)
    return any(subject["digest"].get("sha256") == wanted for subject in statement["subject"])


def signed_statements(
    image: Image,
    attachments: Sequence[Attachment],
    keys: Sequence[PublicKey],
    vouches: Vouches | None,
    checks: list[Check],
) -> list[Statement]:
    """What the bundles say; one that is damaged, forged or about another image is a check that failed."""
    found: list[Statement] = []
    for one in attachments:
        if one.artifact_type == media.SIGSTORE_BUNDLE:
            try:
                found += _from_bundle(image, one, keys, vouches)
            except AfenvError as error:
                text = f"{title_of(one)}: {error.problems[0].message}"
                checks.append(Check("signature", "bad", text))
    return found


def _from_bundle(
    image: Image, attachment: Attachment, keys: Sequence[PublicKey], vouches: Vouches | None
) -> Iterator[Statement]:
    signed = read_bundle(attachment.content)
    by = tuple(verified_by(signed, keys, image.manifest))
    if signed.certificate and vouches is not None:
        someone = vouches(attachment.content)
        by += (someone,) if someone else ()
    claimed = [key.name for key in keys if key.hint == signed.hint]
    if claimed and not by:
        raise AfenvError("E612", f"this is not a signature by the key {claimed[0]}")
    if signed.message:
        yield Statement(kind=SIGNATURE_PREDICATE, value={}, keys=by)
        return
    statement = signed.statement()
    if not _is_about(statement, image.manifest_digest):
        raise AfenvError("E612", "this is about another image")
    yield Statement(kind=str(statement["predicateType"]), value=statement, keys=by)


def signers(
    statements: Sequence[Statement], only_trusted: bool, checks: list[Check]
) -> tuple[PublicKey, ...]:
    """The given keys that signed the image itself."""
    about_image = [one for one in statements if one.kind == SIGNATURE_PREDICATE]
    found = {key.identity: key for one in about_image for key in one.keys}
    names = ", ".join(f"{found[name].name} ({name[:16]})" for name in sorted(found))
    if found:
        check = Check("signature", "ok", f"the manifest is signed by {names}")
    elif only_trusted:
        check = Check("signature", "missing", "none of the keys that were given signed the image")
    elif about_image:
        text = f"{counted(len(about_image), 'signature')}; give --key or --policy to check them"
        check = Check("signature", "unchecked", text)
    else:
        check = Check("signature", "unchecked", "the image is not signed")
    checks.append(check)
    return tuple(found[name] for name in sorted(found))


def provenances(
    image: Image,
    attachments: Sequence[Attachment],
    statements: Sequence[Statement],
    only_trusted: bool,
    checks: list[Check],
) -> list[Statement]:
    """The provenance statements to believe, the best first: those that a given key signed, else all.

    There are several where the image was built by several, or with several versions of a lock.
    """
    found = [one for one in statements if one.kind == PREDICATE]
    for one in attachments:
        if one.artifact_type == media.IN_TOTO:
            try:
                bare = Signed(payload_type=media.IN_TOTO, payload=one.content, signatures=())
                value = bare.statement()
                if not _is_about(value, image.manifest_digest):
                    raise AfenvError("E612", "this is about another image")
            except AfenvError as error:
                text = f"{title_of(one)}: {error.problems[0].message}"
                checks.append(Check("provenance", "bad", text))
                continue
            if value["predicateType"] == PREDICATE:
                found.append(Statement(kind=PREDICATE, value=value))
    trusted = [one for one in found if one.keys]
    if trusted:
        name = trusted[0].keys[0].name
        checks.append(Check("provenance", "ok", f"it is about this image, signed by {name}"))
    elif not found:
        checks.append(Check("provenance", "missing", "the image has no provenance"))
    elif only_trusted:
        text = "none of the keys that were given signed the provenance"
        checks.append(Check("provenance", "missing", text))
    else:
        checks.append(Check("provenance", "ok", "it is about this image"))
    return trusted or found
