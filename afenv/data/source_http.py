"""Storage that speaks HTTP: ``https:``, ``http:``, and WebDAV's ``davs:`` and ``dav:`` as these.

Sizes come from ``HEAD``, checksums from the ``Digest`` (RFC 3230, as storage of the grid has it) or
``Repr-Digest`` header (RFC 9530), parts by ranges (RFC 9110).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterator, Mapping

from afenv.data import credentials
from afenv.data.source import Content, Found, scrub
from afenv.documents.data import CHECKSUM_DIGITS
from afenv.settings import Settings
from afenv.store.transport import Answer, Patience, SourceError, Transport

_NAMES = {"adler32": "adler32", "md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
_DENIED = re.compile(r"(401|403|407)\b")


class HttpSource:
    """HTTP storage; URIs are rewritten by the settings' mirrors."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._transport = Transport(patience)

    def _target(self, uri: str) -> str:
        if uri.startswith(("davs:", "dav:")):
            uri = "http" + uri.removeprefix("dav")
        return self._settings.rewrite(uri)

    @contextlib.contextmanager
    def _open(self, uri: str, headers: Mapping[str, str], method: str = "GET") -> Iterator[Answer]:
        target = self._target(uri)
        sent = dict(headers)
        known = credentials.trusted(target)
        token = credentials.bearer_token() if known else None
        if token:
            sent["Authorization"] = f"Bearer {token}"
        certificate = credentials.proxy_certificate() if known else None
        try:
            with self._transport.open(
                target, sent, secure=known, method=method, certificate=certificate
            ) as answer:
                yield answer
        except SourceError as error:
            error.reason = scrub(error.reason)
            if error.code == "E202" and _DENIED.match(error.reason):
                raise SourceError("E647", error.reason, remedy=credentials.REMEDY) from error
            raise

    def look(self, uri: str) -> Found:
        """Size and checksums, as far as the server says."""
        headers = {"Want-Digest": "adler32;q=0.9,md5;q=0.8,sha-256", "Want-Repr-Digest": "sha-256=9"}
        try:
            with self._open(uri, headers, "HEAD") as answer:
                return Found(size=answer.length, checksums=stated_digests(answer.headers))
        except SourceError as error:
            if error.code not in ("E202", "E647") or error.again:
                raise
        with self._open(uri, headers | {"Range": "bytes=0-0"}) as answer:  # a server without HEAD
            size = answer.range[1] if answer.range else answer.length
            return Found(size=size, checksums=stated_digests(answer.headers))

    @contextlib.contextmanager
    def read(self, uri: str, first: int) -> Iterator[Content]:
        """The bytes of a file; from its beginning where the server knows no ranges."""
        with self._open(uri, {"Range": self._range(uri, first)} if first else {}) as answer:
            if answer.status == 200:
                yield Content(0, answer.length, answer.chunks)
            elif answer.range is not None:
                yield Content(answer.range[0], answer.range[1], answer.chunks)
            else:
                raise SourceError("E202", f"an answer that was not asked for ({answer.status})")

    def _range(self, uri: str, first: int) -> str:
        """The range from a byte on, closed where the size is known.

        XRootD 5.5 answers an open range with nothing.
        """
        try:
            size = self.look(uri).size
        except SourceError:
            size = None
        return f"bytes={first}-{size - 1}" if size is not None and size > first else f"bytes={first}-"

    def files(self, uri: str) -> list[tuple[str, int | None]]:
        """HTTP has no folders."""
        raise SourceError("E640", "HTTP cannot list a folder; name its files")


def stated_digests(headers: Mapping[str, str]) -> dict[str, str]:
    """The checksums in an answer's headers, as hexadecimal digits; what cannot be understood is left out."""
    found: dict[str, str] = {}
    for name in ("digest", "repr-digest"):
        for part in headers.get(name, "").split(","):
            key, _, text = part.strip().partition("=")
            algorithm = _NAMES.get(key.lower())
            digits = _digits(text.strip(), CHECKSUM_DIGITS[algorithm]) if algorithm else None
            if algorithm and digits:
                found[algorithm] = digits
    return found


def _digits(text: str, count: int) -> str | None:
    """Hexadecimal digits of a digest that is written so, or in base64 (between colons in RFC 9530)."""
    if re.fullmatch(r"[0-9A-Fa-f]+", text) and len(text) <= count and (len(text) == count or count == 8):
        return text.lower().zfill(count)
    try:
        value = base64.b64decode(text.strip(":"), validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    return value if len(value) == count else None
