"""Entries of a remote build cache: what a key leads to, signed, as an artifact in a registry.

An entry is an artifact manifest under the tag ``KIND-<hex of the key>``. Its config is a DSSE envelope over
``{"afenv-cache": 1, "kind": …, "key": …, "value": …}``, embedded in the manifest where it is small; its
layers are the blobs that the value names, so that the registry keeps them. Pure functions.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from afenv import canonical
from afenv.attest.bundle import read_envelope, sign_payload, verified_by
from afenv.attest.keys import PrivateKey, PublicKey
from afenv.digest import PATTERN, hex_of, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import EMPTY, EMPTY_DIGEST
from afenv.oci.model import Descriptor

FORMAT_VERSION = 1
EMBEDDED = 64 << 10  # bytes; a larger envelope is a blob of its own
LAYER_FIELDS = frozenset({"diff_id", "digest", "size", "listing", "variables", "entrypoint", "licenses"})


def entry_tag(kind: str, key: str) -> str:
    """The tag under which an entry lies."""
    return f"{kind}-{hex_of(key)}"


def entry_payload(kind: str, key: str, value: Any) -> bytes:
    """What is signed of an entry."""
    return canonical.compact({"afenv-cache": FORMAT_VERSION, "kind": kind, "key": key, "value": value})


def entry_envelope(kind: str, key: str, value: Any, signer: PrivateKey) -> bytes:
    """The signed entry."""
    return canonical.compact(sign_payload(entry_payload(kind, key, value), signer, media.CACHE_ENTRY))


def entry_manifest(envelope: bytes, blobs: Sequence[Descriptor]) -> bytes:
    """The manifest of an entry that keeps these blobs."""
    config: dict[str, Any] = {
        "mediaType": media.CACHE_ENTRY,
        "digest": sha256_bytes(envelope),
        "size": len(envelope),
    }
    if len(envelope) <= EMBEDDED:
        config["data"] = base64.b64encode(envelope).decode("ascii")
    empty = {"mediaType": media.EMPTY, "digest": EMPTY_DIGEST, "size": len(EMPTY)}
    return canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_MANIFEST,
            "artifactType": media.CACHE_ENTRY,
            "config": config,
            "layers": [one.as_json() for one in blobs] or [empty],
        }
    )


def embedded_envelope(manifest: bytes) -> tuple[str, bytes | None]:
    """The digest of an entry's envelope and, where it is embedded, its bytes; E510 for another manifest."""
    try:
        config = json.loads(manifest)["config"]
        digest = str(config["digest"])
        if config["mediaType"] != media.CACHE_ENTRY or not PATTERN.match(digest):
            raise ValueError
        data = base64.b64decode(config["data"], validate=True) if "data" in config else None
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise AfenvError("E510", "this is not an entry of a build cache") from None
    return digest, data


def read_entry(envelope: bytes, kind: str, key: str, keys: Sequence[PublicKey]) -> Any | None:
    """The value of an entry; None if no trusted key signed it, or it is about another key.

    E611 if it is damaged.
    """
    try:
        signed = read_envelope(json.loads(envelope))
        if signed.payload_type != media.CACHE_ENTRY or not verified_by(signed, keys):
            return None
        entry = json.loads(signed.payload)
        about = (entry["afenv-cache"], entry["kind"], entry["key"])
        value = entry["value"] if about == (FORMAT_VERSION, kind, key) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AfenvError("E611", "an entry of the build cache is damaged") from None
    return value if _is_sound(kind, value) else None


def _is_sound(kind: str, value: Any) -> bool:
    if kind == "deb-owners":
        return value is True
    if kind == "owners":
        return isinstance(value, dict) and all(isinstance(paths, list) for paths in value.values())
    if not isinstance(value, dict):
        return False
    if kind == "base":
        return isinstance(value.get("blobs"), list)
    digests = (value.get(name) for name in ("diff_id", "digest", "listing"))
    mappings = (value.get(name) or {} for name in ("variables", "licenses"))
    return (
        value.keys() <= LAYER_FIELDS
        and all(isinstance(one, str) and PATTERN.match(one) for one in digests)
        and isinstance(value.get("size"), int)
        and all(isinstance(one, dict) and all(map(_is_text, one.values())) for one in mappings)
        and isinstance(value.get("entrypoint") or [], list)
        and all(map(_is_text, value.get("entrypoint") or []))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def value_blobs(kind: str, value: Any, listing_size: int = 0) -> list[Descriptor]:
    """The blobs that an entry's value names."""
    if kind == "layer":
        blobs = [Descriptor(media_type=media.LAYER_GZIP, digest=value["digest"], size=value["size"])]
        if listing_size:
            blobs.append(
                Descriptor(media_type="application/octet-stream", digest=value["listing"], size=listing_size)
            )
        return blobs
    if kind == "base":
        return [
            Descriptor(media_type=kind_, digest=digest, size=size) for kind_, digest, size in value["blobs"]
        ]
    return []
