"""The signature of a catalogue: a sigstore bundle in the file itself, checked when the catalogue is read.

Checking costs as much as choosing among ten thousand images, most of it for loading the cryptography. So it
is remembered in the host's store that a key vouches for a file with that digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from afenv.catalogue.file import Catalogue
from afenv.digest import hex_of, sha256_bytes
from afenv.errors import AfenvError
from afenv.record import record
from afenv.store.content import ContentStore

MARK = "catalogue-signed"


@record
class TrustedKey:
    """A public key in a file, as its bytes: it is understood only where it is needed."""

    pem: bytes
    place: str


def read_trusted(paths: Sequence[Path]) -> tuple[TrustedKey, ...]:
    """The keys in some files; E001."""
    found = []
    for path in paths:
        try:
            found.append(TrustedKey(pem=path.read_bytes(), place=str(path)))
        except OSError as error:
            raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    return tuple(found)


def sign_catalogue(catalogue: Catalogue, key: object) -> Catalogue:
    """The catalogue with the signature of a private key (:class:`afenv.attest.keys.PrivateKey`)."""
    from afenv.attest.bundle import SIGNATURE_PREDICATE, sign_statement
    from afenv.attest.keys import PrivateKey
    from afenv.attest.provenance import statement

    assert isinstance(key, PrivateKey)
    subject = {"name": catalogue.name, "digest": {"sha256": hex_of(sha256_bytes(catalogue.signed))}}
    return catalogue.with_signature(sign_statement(statement([subject], SIGNATURE_PREDICATE, {}), key))


def check_signature(
    catalogue: Catalogue, keys: Sequence[TrustedKey], store: ContentStore | None = None
) -> str:
    """The place of the key that vouches for the catalogue; E621 if none does, E610 for a key that is none.

    With a ``store`` a good answer is remembered there.
    """
    if not keys:
        message = "nothing says whose signature on it is trusted"
        raise AfenvError("E621", message, place=catalogue.place)
    if catalogue.signature is None:
        raise AfenvError("E621", "it is not signed", place=catalogue.place)
    marks = {}
    for key in keys:
        marks[key.place] = sha256_bytes(catalogue.digest.encode() + sha256_bytes(key.pem).encode())
        if store is not None and store.load_key(MARK, marks[key.place]) is True:
            return key.place
    place = _vouching(catalogue, keys)
    if store is not None:
        store.save_key(MARK, marks[place], True)
    return place


def _vouching(catalogue: Catalogue, keys: Sequence[TrustedKey]) -> str:
    from afenv.attest.bundle import SIGNATURE_PREDICATE, read_bundle, verified_by
    from afenv.attest.keys import load_public

    assert catalogue.signature is not None
    try:
        signed = read_bundle(catalogue.signature)
        statement = signed.statement()
    except AfenvError as error:
        raise AfenvError("E621", error.problems[0].message, place=catalogue.place) from None
    public = {key.place: load_public(key.pem, place=key.place) for key in keys}
    found = verified_by(signed, public.values())
    if not found:
        names = ", ".join(public)
        message = f"it is signed by another key than {names}, or was changed"
        raise AfenvError("E621", message, place=catalogue.place)
    expected = {"sha256": hex_of(sha256_bytes(catalogue.signed))}
    about = [one.get("digest") for one in statement["subject"] if one.get("name") == catalogue.name]
    if statement["predicateType"] != SIGNATURE_PREDICATE or about != [expected]:
        raise AfenvError("E621", "its signature is about something else", place=catalogue.place)
    return next(place for place, key in public.items() if key in found)
