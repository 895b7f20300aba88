"""Signing keys: ECDSA on P-256 (what sigstore's tools expect) and Ed25519, in PEM files.

A private key is PKCS #8, encrypted with a password or plain; a public one is SubjectPublicKeyInfo. A key is
known by the SHA-256 of its public form (DER).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError

KINDS = ("ecdsa-p256", "ed25519")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key; ``name`` is what people call it (a file's name, or what a policy says)."""

    pem: bytes
    der: bytes
    name: str = ""
    key: Any = field(default=None, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The SHA-256 of the key (DER), 64 hexadecimal digits."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """The same in base64, as sigstore's tools write it into bundles."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode("ascii")

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature over ``data`` was made with this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, data)
            else:
                self.key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signs."""

    public: PublicKey
    key: Any = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """A signature over ``data``; the same each time where OpenSSL can do so (RFC 6979)."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return bytes(self.key.sign(data))
        try:
            algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        except (TypeError, UnsupportedAlgorithm):
            algorithm = ec.ECDSA(hashes.SHA256())
        return bytes(self.key.sign(data, algorithm))


def _public(key: Any, name: str, place: str) -> PublicKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    known = isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    )
    if not known:
        raise AfenvError("E610", "this key is neither ECDSA on P-256 nor Ed25519", place=place)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key.public_bytes(serialization.Encoding.PEM, form)
    return PublicKey(pem, key.public_bytes(serialization.Encoding.DER, form), name, key)


def generate_key(kind: str = "ecdsa-p256", password: str | None = None) -> tuple[bytes, bytes]:
    """A new key: the private and the public PEM. The private one is encrypted if there is a password."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    key: Any = (
        ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    )
    encryption: Any = (
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return bytes(private), _public(key.public_key(), "", "").pem


def load_public(data: bytes, *, name: str = "", place: str = "") -> PublicKey:
    """The public key in some PEM; E610 if it is none that can be used."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise AfenvError("E610", "this is not a public key in PEM form", place=place or name) from None
    return _public(key, name, place or name)


def read_public(path: Path) -> PublicKey:
    """The public key in a file, named after it; E001, E610."""
    return load_public(_read(path), name=path.stem, place=str(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None


def needs_password(data: bytes) -> bool:
    """Whether a private key is encrypted."""
    return b"ENCRYPTED" in data


def load_private(data: bytes, password: str | None = None, *, place: str = "") -> PrivateKey:
    """The private key in some PEM; E610 if it cannot be used or the password is wrong."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    encrypted = needs_password(data)
    if encrypted and not password:
        raise AfenvError("E610", "this key is encrypted and there is no password", place=place)
    try:
        key: Any = serialization.load_pem_private_key(
            data, password.encode() if encrypted and password else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = (
            "the password is wrong, or it is damaged"
            if encrypted
            else "this is not a private key in PEM form"
        )
        raise AfenvError("E610", reason, place=place) from None
    return PrivateKey(_public(key.public_key(), Path(place).stem, place), key)
