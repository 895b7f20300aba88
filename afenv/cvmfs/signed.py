"""Who vouches for a repository's state: master key → whitelist → certificate → manifest. Pure, on bytes.

``.cvmfswhitelist`` lists fingerprints of certificates, for a time, and is signed by a master key, whose
public part a host has beforehand. ``.cvmfspublished`` names the root catalogue, and is signed by the key of
one such certificate. Both are lines, ``--``, the digest of the lines, and the raw signature of that digest.

A certificate must have been valid when the manifest was published, not today: CernVM-FS itself looks at the
whitelist's expiry alone, and certificates are made for a year.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from afenv.cvmfs.hashes import ALGORITHMS, ObjectHash, hash_of, parse_hash
from afenv.errors import AfenvError
from afenv.record import record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import Certificate

TIME_DIGITS = 11  # of seconds since 1970: more are beyond the year 5138, and no time of this world

_END = b"\n--\n"
_FINGERPRINT = re.compile(r"([0-9A-F]{2}(?::[0-9A-F]{2}){19})(-RMD160|-SHAKE128)?(?:\s|#|\Z)")


@record
class Letter:
    """A signed document: its lines, their digest, and the signature of that digest as it is written."""

    lines: tuple[str, ...]
    digest: bytes
    signature: bytes
    place: str

    def field(self, letter: str) -> str | None:
        """The rest of the first line that begins with that letter."""
        return next((line[1:] for line in self.lines if line.startswith(letter)), None)


@record
class Published:
    """A repository's state as ``.cvmfspublished`` tells it: sizes in bytes, times in seconds since 1970."""

    name: str
    root: ObjectHash
    root_size: int
    revision: int
    timestamp: int
    certificate: ObjectHash
    history: ObjectHash | None = None
    alternative: bool = False
    collected: bool = False  # whether old revisions are removed after some time


def parse_letter(data: bytes, place: str) -> Letter:
    """A signed document, its digest checked; E314 if it has not the form or the digest."""
    text, end, rest = data.partition(_END)
    digest, newline, signature = rest.partition(b"\n")
    if not end or not newline or not signature:
        raise AfenvError("E314", "it is not signed: there is no signature at its end", place=place)
    stated = parse_hash(digest.decode("ascii", "replace"), place)
    if not stated.matches(text + b"\n"):
        raise AfenvError("E314", f"its text has not the digest {stated} that is signed", place=place)
    lines = tuple(text.decode("utf-8", "replace").split("\n"))
    return Letter(lines=lines, digest=digest, signature=signature, place=place)


def parse_published(letter: Letter, repository: str) -> Published:
    """What the lines of ``.cvmfspublished`` say; E313 for what they lack, E314 for another repository's."""

    def needed(key: str, name: str) -> str:
        value = letter.field(key)
        if value is None:
            raise AfenvError("E313", f"it has no {name}", place=letter.place)
        return value

    def number(key: str, name: str, digits: int = 18) -> int:
        text = needed(key, name)
        if not text.isdecimal() or len(text) > digits:
            raise AfenvError("E313", f"its {name} is {text[:40]!r}, which is no number", place=letter.place)
        return int(text)

    name = needed("N", "name")
    if name != repository:
        raise AfenvError("E314", f"it is that of {name}, and {repository} was asked for", place=letter.place)
    history = letter.field("H")
    return Published(
        name=name,
        root=parse_hash(needed("C", "root catalogue"), letter.place),
        root_size=number("B", "size of the root catalogue"),
        revision=number("S", "revision"),
        timestamp=number("T", "time", TIME_DIGITS),
        certificate=parse_hash(needed("X", "certificate"), letter.place),
        history=parse_hash(history, letter.place) if history else None,
        alternative=letter.field("A") == "yes",
        collected=letter.field("G") == "yes",
    )


def parse_keys(files: Sequence[tuple[str, bytes]]) -> list[RSAPublicKey]:
    """The master keys in PEM files, by name; E314 for one that is no RSA public key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for name, data in files:
        try:
            key = load_pem_public_key(data)
        except ValueError:
            key = None
        if not isinstance(key, RSAPublicKey):
            raise AfenvError("E314", "it is not an RSA public key in PEM", place=name)
        found.append(key)
    return found


def check_whitelist(
    letter: Letter, keys: Sequence[RSAPublicKey], repository: str, now: datetime
) -> frozenset[str]:
    """The fingerprints that a whitelist allows, each with its suffix in capitals.

    E314 if none of the keys signed it or it is another repository's, E315 if it has expired at ``now``.
    """
    if not any(_signed_by(key, letter) for key in keys):
        raise AfenvError("E314", "it is not signed by a master key that is known here", place=letter.place)
    name = letter.field("N")
    if name != repository:
        raise AfenvError("E314", f"it is that of {name}, and {repository} was asked for", place=letter.place)
    expiry = _time(letter.field("E") or "", letter.place)
    if expiry <= now:
        raise AfenvError("E315", f"it expired on {expiry:%Y-%m-%d %H:%M} UTC", place=letter.place)
    matches = (_FINGERPRINT.match(line) for line in letter.lines)
    return frozenset(match[1].replace(":", "") + (match[2] or "") for match in matches if match)


def _signed_by(key: RSAPublicKey, letter: Letter) -> bool:
    """Whether the key's owner signed the digest, which itself is in the signature, not a digest of it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    try:
        return key.recover_data_from_signature(letter.signature, PKCS1v15(), None) == letter.digest
    except (InvalidSignature, ValueError):
        return False


def _time(text: str, place: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise AfenvError("E314", f"its expiry is {text[:40]!r}, which is no time", place=place) from None


def check_certificate(data: bytes, allowed: frozenset[str], published: int, place: str) -> Certificate:
    """The certificate, which must be one of those that the whitelist allows; E316.

    It must have been valid at ``published``, in seconds since 1970.
    """
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import InvalidVersion, load_pem_x509_certificate

    try:
        certificate = load_pem_x509_certificate(data)
    except (ValueError, InvalidVersion):
        raise AfenvError("E316", "it is not a certificate in PEM", place=place) from None
    encoded = certificate.public_bytes(Encoding.DER)
    prints = {
        hash_of(algorithm, encoded).upper() + ("" if algorithm == "sha1" else f"-{algorithm}".upper())
        for algorithm in ALGORITHMS
    }
    if not prints & allowed:
        raise AfenvError("E316", "its fingerprint is not in the repository's whitelist", place=place)
    when = datetime.fromtimestamp(published, UTC)
    if not certificate.not_valid_before_utc <= when <= certificate.not_valid_after_utc:
        span = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        message = f"it is valid from {span}, and the manifest was published on {when:%Y-%m-%d}"
        raise AfenvError("E316", message, place=place)
    return certificate


def check_manifest(letter: Letter, certificate: Certificate) -> None:
    """E314 unless the certificate's key signed the manifest."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA1

    key = certificate.public_key()
    try:
        if not isinstance(key, RSAPublicKey):
            raise InvalidSignature
        key.verify(letter.signature, letter.digest, PKCS1v15(), SHA1())  # noqa: S303 - the format's own
    except InvalidSignature:
        raise AfenvError(
            "E314", "it is not signed by the key of its certificate", place=letter.place
        ) from None
