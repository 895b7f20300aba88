"""Signed statements: DSSE envelopes in sigstore bundles, made and verified with a local key.

Formats: DSSE 1.0 (protocol.md), the in-toto attestation framework 1, the sigstore bundle 0.3
(``sigstore_bundle.proto`` of protobuf-specs), and for the signature of an image the statement that
``cosign sign`` makes. A bundle that a local key made has no certificate and no entry of a transparency
log, so nothing has to be asked to verify it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from afenv import canonical
from afenv.attest.keys import PrivateKey, PublicKey
from afenv.attest.provenance import statement
from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci import media

MEDIA_TYPE = media.SIGSTORE_BUNDLE
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SIGNATURE_PREDICATE = "https://sigstore.dev/cosign/sign/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """What a bundle holds: a payload and the signatures over it.

    ``message`` tells a signature over the bytes themselves from one over a DSSE envelope; then ``payload`` is
    empty and ``digest`` names the bytes. ``hint`` is the signer's own name of the key.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]
    hint: str = ""
    certificate: bytes | None = None
    message: bool = False
    digest: str = ""

    def statement(self) -> dict[str, Any]:
        """The in-toto statement in the payload; E611 if it is none."""
        try:
            value = json.loads(self.payload)
            if self.payload_type != PAYLOAD_TYPE or not str(value["_type"]).startswith(
                "https://in-toto.io/Statement/"
            ):
                raise ValueError
            for subject in value["subject"]:
                subject["digest"].items()
            str(value["predicateType"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise AfenvError("E611", "the envelope does not hold an in-toto statement") from None
        found: dict[str, Any] = value
        return found


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: the pre-authentication encoding of DSSE."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_payload(payload: bytes, key: PrivateKey, payload_type: str = PAYLOAD_TYPE) -> dict[str, Any]:
    """The DSSE envelope of a payload."""
    signature = key.sign(pae(payload_type, payload))
    return {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": payload_type,
        "signatures": [{"sig": base64.b64encode(signature).decode("ascii")}],
    }


def sign_statement(payload: bytes, key: PrivateKey) -> bytes:
    """The bundle of a statement, signed."""
    return canonical.compact(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": key.public.hint}, "tlogEntries": []},
            "dsseEnvelope": sign_payload(payload, key),
        }
    )


def image_statement(manifest_digest: str) -> bytes:
    """What the signature of an image says: this manifest is mine."""
    return statement([{"digest": {"sha256": hex_of(manifest_digest)}}], SIGNATURE_PREDICATE, {})


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        # the URL-safe alphabet is allowed in protobuf's JSON
        return base64.urlsafe_b64decode(str(text) + "=" * (-len(str(text)) % 4))


def read_envelope(value: Mapping[str, Any], hint: str = "", certificate: bytes | None = None) -> Signed:
    """The content of a DSSE envelope; E611 if it is damaged."""
    try:
        return Signed(
            payload_type=str(value["payloadType"]),
            payload=_bytes(value["payload"]),
            signatures=tuple(_bytes(one["sig"]) for one in value["signatures"]),
            hint=hint,
            certificate=certificate,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise AfenvError("E611", "the envelope is damaged") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once: two readers must not see two things."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice")
    return value


def read_bundle(data: bytes) -> Signed:
    """The content of a bundle; E611 if it is damaged or of a kind that is not known."""
    try:
        value = json.loads(data, object_pairs_hook=_once)
        media_type = str(value["mediaType"])
        if not media_type.startswith("application/vnd.dev.sigstore.bundle"):
            raise AfenvError("E611", f"{media_type!r} is not a sigstore bundle")
        material = value.get("verificationMaterial") or {}
        hint = str((material.get("publicKey") or {}).get("hint") or "")
        raw = (material.get("certificate") or {}).get("rawBytes")
        certificate = _bytes(raw) if raw else None
        if "dsseEnvelope" in value:
            return read_envelope(value["dsseEnvelope"], hint, certificate)
        message = value["messageSignature"]
        digest = message.get("messageDigest") or {}
        if digest and digest.get("algorithm") != "SHA2_256":
            raise AfenvError("E611", f"{digest.get('algorithm')!r} is not a hash that is known here")
        return Signed(
            payload_type="",
            payload=b"",
            signatures=(_bytes(message["signature"]),),
            hint=hint,
            certificate=certificate,
            message=True,
            digest="sha256:" + _bytes(digest["digest"]).hex() if digest else "",
        )
    except AfenvError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise AfenvError("E611", "the sigstore bundle is damaged") from None


def verified_by(signed: Signed, keys: Iterable[PublicKey], content: bytes | None = None) -> list[PublicKey]:
    """Those of the keys that made one of the signatures.

    ``content`` is what a message signature is over; without it such a signature counts for nothing.
    """
    data = content if signed.message else pae(signed.payload_type, signed.payload)
    if data is None:
        return []
    return [key for key in keys if any(key.verifies(one, data) for one in signed.signatures)]
