"""The certificates that are trusted for a registry, and those that are shown to it.

Beside those of the system (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` of OpenSSL): the file that
``AFENV_CA_BUNDLE`` names, and the folders ``certs.d/HOST[:PORT]`` of Docker and Podman, where ``*.crt`` are
authorities and ``NAME.cert`` with ``NAME.key`` is a certificate of ours (containers-certs.d(5)).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.errors import AfenvError

if TYPE_CHECKING:
    import ssl

FOLDERS = ("/etc/docker/certs.d", "/etc/containers/certs.d", "~/.config/containers/certs.d")


def certificate_folders(host: str) -> list[Path]:
    """The folders with certificates for a registry that are there."""
    return [path for folder in FOLDERS if (path := Path(folder).expanduser() / host).is_dir()]


def make_context(host: str) -> ssl.SSLContext:
    """How to speak TLS with ``host`` (with its port, where given); E030 for a file that is not usable."""
    names = ("AFENV_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return _context(tuple(certificate_folders(host)), *(os.environ.get(name) for name in names))


@cache
def _context(folders: tuple[Path, ...], bundle: str | None, *_: str | None) -> ssl.SSLContext:
    """One for many connections: reading the system's certificates takes some 30 ms."""
    import ssl

    context = ssl.create_default_context()
    if bundle:
        _load(context, Path(bundle), "AFENV_CA_BUNDLE")
    for folder in folders:
        for path in sorted(folder.glob("*.crt")):
            _load(context, path, str(path))
        for path in sorted(folder.glob("*.cert")):
            try:
                context.load_cert_chain(path, path.with_suffix(".key"))
            except (OSError, ssl.SSLError) as error:
                raise AfenvError(
                    "E030", f"this certificate cannot be used: {error}", place=str(path)
                ) from None
    return context


def _load(context: ssl.SSLContext, path: Path, place: str) -> None:
    import ssl

    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise AfenvError("E030", f"{path} holds no certificates: {error}", place=place) from None
