"""Who we are to storage: bearer tokens and X.509 proxies, where the user has said to whom they may be shown.

A reference to data is text that somebody else may have written, so credentials go only to hosts that match
``AFENV_DATA_HOSTS`` (patterns separated by spaces, such as ``*.cern.ch``), and only over TLS. Tokens are
found as the WLCG bearer token discovery says (version 1.0): ``BEARER_TOKEN``, ``BEARER_TOKEN_FILE``,
``$XDG_RUNTIME_DIR/bt_u<ID>``, ``/tmp/bt_u<ID>``; proxies in ``X509_USER_PROXY`` or ``/tmp/x509up_u<ID>``.
XRootD's own client finds credentials by itself.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

REMEDY = (
    "If it needs a token or a proxy certificate, set AFENV_DATA_HOSTS to the hosts that may see yours, "
    "such as *.cern.ch."
)


def trusted(uri: str) -> bool:
    """Whether credentials may be sent there."""
    parts = urlsplit(uri)
    patterns = os.environ.get("AFENV_DATA_HOSTS", "").split()
    host = (parts.hostname or "").lower()
    return parts.scheme == "https" and any(fnmatchcase(host, pattern.lower()) for pattern in patterns)


def bearer_token() -> str | None:
    """The token of this process, if there is one."""
    if text := os.environ.get("BEARER_TOKEN", "").strip():
        return text
    places = [Path(os.environ["BEARER_TOKEN_FILE"])] if os.environ.get("BEARER_TOKEN_FILE") else []
    name = f"bt_u{os.geteuid()}"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(runtime) / name)
    places.append(Path("/tmp") / name)  # noqa: S108 - where the discovery looks
    for place in places:
        if found := _own_text(place):
            return found
    return None


def _own_text(path: Path) -> str | None:
    """The content of a file that belongs to this user: in /tmp anybody could have put one."""
    try:
        if path.stat().st_uid not in (os.geteuid(), 0):
            return None
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def proxy_certificate() -> str | None:
    """The file with the X.509 proxy of this process, if there is one."""
    path = os.environ.get("X509_USER_PROXY") or f"/tmp/x509up_u{os.geteuid()}"  # noqa: S108 - as Globus has it
    return path if _own_text(Path(path)) else None
