"""The signed index of an archive, ``InRelease``: verified, then read.

The format is that of https://wiki.debian.org/DebianRepository/Format. Only the text that is inside the
signature is ever looked at. A signature by any of the trusted keys is accepted: Debian signs a release
with the keys of several generations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError

KEYS = Path(__file__).parent / "keys"


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What an archive says of itself. ``files`` gives size and sha256 by path below the suite's folder."""

    suite: str
    codename: str
    date: datetime
    valid_until: datetime | None
    by_hash: bool
    files: Mapping[str, tuple[int, str]]
    signed_by: str  # fingerprint, upper case


@cache
def trusted_keys() -> tuple[bytes, ...]:
    """The OpenPGP certificates of the Debian archive that come with afenv, ASCII-armoured."""
    return tuple(path.read_bytes() for path in sorted(KEYS.glob("*.asc")))


def _verify(data: bytes, keys: Sequence[bytes], place: str) -> tuple[str, str]:
    """The text inside the signature and the fingerprint of the certificate that signed it; else E104."""
    from pysequoia import Cert, verify

    if not data.lstrip().startswith(b"-----BEGIN PGP SIGNED MESSAGE-----"):
        raise AfenvError("E104", "the index is not signed", place=place)
    certificates = [Cert.from_bytes(key) for key in keys]
    asked: list[str] = []

    def store(identifiers: list[str]) -> list[Cert]:
        asked.extend(identifiers)
        return certificates

    try:
        result = verify(data, store)
    except (RuntimeError, ValueError, OSError) as error:
        signers = f" (signatures by {', '.join(sorted(map(str.upper, asked)))})" if asked else ""
        reason = str(error).partition("\n")[0]
        message = f"no valid signature by a trusted key{signers}: {reason}"
        raise AfenvError("E104", message, place=place) from error
    signatures: list[Any] = result.valid_sigs
    if result.bytes is None or not signatures:
        raise AfenvError("E104", "no valid signature by a trusted key", place=place)
    fingerprints = sorted(signature.certificate.upper() for signature in signatures)
    return result.bytes.decode("utf-8", "replace"), fingerprints[0]


def _time(text: str, field: str, place: str) -> datetime:
    try:
        time = parsedate_to_datetime(text)
    except ValueError:
        raise AfenvError(
            "E303", f"the index has {field}: {text!r}, which is not a time", place=place
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)


def _fields(text: str) -> dict[str, list[str]]:
    """The fields of a stanza: the value of the first line, then those of the continuation lines."""
    fields: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line[:1] in (" ", "\t"):
            lines.append(line.strip())
        else:
            name, _, value = line.partition(":")
            lines = fields.setdefault(name, [])
            lines.append(value.strip())
    return fields


def read_release(data: bytes, keys: Sequence[bytes], place: str) -> Release:
    """Verify and read an ``InRelease``.

    E104 if no key of ``keys`` signed exactly this text, E303 if the text is not that of an index.
    """
    text, fingerprint = _verify(data, keys, place)
    fields = _fields(text)

    def single(name: str) -> str:
        return fields.get(name, [""])[0]

    files = {}
    for line in fields.get("SHA256", [])[1:]:
        match line.split():
            case [digest, size, path] if size.isdecimal() and len(digest) == 64:
                files[path] = (int(size), digest.lower())
            case _:
                raise AfenvError("E303", f"the index has a line {line!r} under SHA256", place=place)
    if not files or not single("Date"):
        raise AfenvError("E303", "the index lacks Date or SHA256", place=place)
    valid_until = single("Valid-Until")
    return Release(
        suite=single("Suite"),
        codename=single("Codename"),
        date=_time(single("Date"), "Date", place),
        valid_until=_time(valid_until, "Valid-Until", place) if valid_until else None,
        by_hash=single("Acquire-By-Hash").lower() == "yes",
        files=files,
        signed_by=fingerprint,
    )
