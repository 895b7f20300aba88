"""Signing an image: its manifest, its provenance and its bill of materials, one sigstore bundle each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from afenv.attest.bundle import SIGNATURE_PREDICATE, image_statement, sign_statement
from afenv.attest.keys import PrivateKey
from afenv.attest.provenance import PREDICATE, SBOM_PREDICATE, statement, subjects
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.model import Image

CONTENT = "dev.sigstore.bundle.content"
PREDICATE_TYPE = "dev.sigstore.bundle.predicateType"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signer:
    """What makes the bundle of a statement; ``name`` goes into the names of files."""

    name: str
    identity: str
    sign: Callable[[bytes], bytes]


def key_signer(key: PrivateKey) -> Signer:
    """Signs with a local key."""
    return Signer(
        name=key.public.identity[:8],
        identity=key.public.identity,
        sign=lambda payload: sign_statement(payload, key),
    )


def statements(image: Image, attachments: Sequence[Attachment]) -> Iterator[tuple[str, str, bytes]]:
    """What is signed: a name, the predicate type and the in-toto statement."""
    yield "signature", SIGNATURE_PREDICATE, image_statement(image.manifest_digest)
    for one in attachments:
        if one.artifact_type == media.IN_TOTO:
            yield "provenance", PREDICATE, one.content
        elif one.artifact_type == media.SPDX:
            about = subjects(image.name or "image", image.manifest_digest, image.image_id)
            yield "sbom", SBOM_PREDICATE, statement(about, SBOM_PREDICATE, json.loads(one.content))


def bundle_attachment(name: str, predicate_type: str, bundle: bytes, signer: str) -> Attachment:
    """A bundle as it is attached; ``signer`` is a few letters that tell keys apart."""
    return Attachment(
        artifact_type=media.SIGSTORE_BUNDLE,
        media_type=media.SIGSTORE_BUNDLE,
        title=f"{name}-{signer}.sigstore.json",
        content=bundle,
        annotations={CONTENT: "dsse-envelope", PREDICATE_TYPE: predicate_type},
    )


def sign_image(image: Image, attachments: Sequence[Attachment], signer: Signer) -> list[Attachment]:
    """The signatures of an image and of what is attached to it."""
    return [
        bundle_attachment(name, kind, signer.sign(payload), signer.name)
        for name, kind, payload in statements(image, attachments)
    ]
