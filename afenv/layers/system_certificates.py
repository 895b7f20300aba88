"""The trusted certificates: what ``update-ca-certificates`` makes of the package's files.

Sources: update-ca-certificates(8), openssl-rehash(1), X509_NAME_hash(3), RFC 5280 (Certificate), X.690.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
from collections.abc import Mapping

SOURCE = "usr/share/ca-certificates/"
TARGET = "etc/ssl/certs"
_PEM = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----\s(.*?)-----END ", re.DOTALL)

# Tags of the string types that are compared without regard to case and to extra space:
# UTF8String, PrintableString, T61String, IA5String, VisibleString, UniversalString, BMPString.
_STRINGS = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_SPACE = b" \t\n\v\f\r"


def trusted(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, str], list[str]]:
    """Files and links below ``/etc`` that make the certificates among ``files`` trusted, and warnings.

    ``files`` are contents by path; those below ``usr/share/ca-certificates`` that end in ``.crt`` count.
    """
    names = sorted(path[len(SOURCE) :] for path in files if path.startswith(SOURCE) and path.endswith(".crt"))
    if not names:
        return {}, {}, []
    warnings: list[str] = []
    bundle = bytearray()
    links: dict[str, str] = {}
    for name in names:
        data = files[SOURCE + name]
        bundle += data if data.endswith(b"\n") else data + b"\n"
        links[f"{TARGET}/{_pem_name(name)}"] = f"/{SOURCE}{name}"
    by_hash: dict[str, list[bytes]] = {}
    for pem in sorted(links):
        data = files[links[pem].lstrip("/")]
        try:
            value, fingerprint = subject_hash(data), hashlib.sha256(_der(data)).digest()
        except (ValueError, IndexError) as error:
            warnings.append(f"{pem}: no hash link is made: the certificate is not understood ({error})")
            continue
        known = by_hash.setdefault(value, [])
        if fingerprint not in known:
            links[f"{TARGET}/{value}.{len(known)}"] = posixpath.basename(pem)
            known.append(fingerprint)
    configuration = "# The certificates that are trusted, below /usr/share/ca-certificates; see\n"
    configuration += "# update-ca-certificates(8). A line that starts with ! is one that is not.\n"
    return (
        {
            "etc/ca-certificates.conf": (configuration + "".join(f"{name}\n" for name in names)).encode(),
            f"{TARGET}/ca-certificates.crt": bytes(bundle),
        },
        links,
        warnings,
    )


def _pem_name(name: str) -> str:
    base = posixpath.basename(name).removesuffix(".crt")
    return base.translate({ord(" "): "_", ord("("): "=", ord(")"): "=", ord(","): "_"}) + ".pem"


def subject_hash(pem: bytes) -> str:
    """OpenSSL's hash of the subject's name, 8 hexadecimal digits; ValueError if it is malformed."""
    outer, _ = _element(_der(pem), 0x30)
    fields, _ = _element(outer, 0x30)
    if fields[:1] == b"\xa0":
        _, fields = _element(fields, 0xA0)  # version
    _, fields = _element(fields, 0x02)  # serial number
    for _unused in ("signature", "issuer", "validity"):
        _, fields = _element(fields, 0x30)
    subject, _ = _element(fields, 0x30)
    digest = hashlib.sha1(canonical_name(subject), usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def canonical_name(name: bytes) -> bytes:
    """The canonical form of a name: its relative names one after the other, strings folded."""
    result = bytearray()
    while name:
        relative, name = _element(name, 0x31)
        attributes: list[bytes] = []
        while relative:
            attribute, relative = _element(relative, 0x30)
            kind, rest = _element(attribute, 0x06)
            attributes.append(_encode(0x30, _encode(0x06, kind) + _canonical_value(rest)))
        result += _encode(0x31, b"".join(sorted(attributes)))
    return bytes(result)


def _canonical_value(data: bytes) -> bytes:
    encoding = _STRINGS.get(data[0])
    content, _ = _element(data, data[0])
    if encoding is None:
        return data
    text = content if encoding in ("utf-8", "ascii") else content.decode(encoding).encode()
    words = b" ".join(text.translate(bytes.maketrans(_SPACE, b" " * len(_SPACE))).split())
    return _encode(0x0C, words.lower())


def _der(pem: bytes) -> bytes:
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("it is not PEM")
    try:
        return base64.b64decode(b"".join(match[1].split()), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _element(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the DER element at the start of ``data``, which must have ``tag``, and the rest."""
    if data[0] != tag:
        raise ValueError(f"expected the tag {tag:#x}, found {data[0]:#x}")
    length = data[1]
    start = 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if start + length > len(data):
        raise ValueError("an element is longer than what holds it")
    return data[start : start + length], data[start + length :]


def _encode(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content
