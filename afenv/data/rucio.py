"""Rucio: the files of ``rucio:SCOPE:NAME`` and their replicas, through Rucio's own client.

Without the client, a list of replicas in the form of Metalink does the same (:mod:`afenv.data.metalink`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from afenv.data.source import scrub
from afenv.documents.data import CHECKSUM_DIGITS, LockedDataFile
from afenv.errors import AfenvError

SCHEMES = ["root", "davs", "https"]
_DID = re.compile(r"rucio:([^:/\s]+):(\S+)\Z")
_SIGNED = re.compile(r"[?&](X-Amz-|X-Goog-|Signature=|authz=)", re.IGNORECASE)
_MISSING = (
    "Install afenv[rucio], or write a list with `rucio list-file-replicas --metalink` where it is, and name "
    "it in the manifest (metalink: FILE)."
)


def rucio_files(uri: str) -> list[LockedDataFile]:
    """The files of a data identifier; E202, E640, E642, E643, E646, E647."""
    match = _DID.match(uri)
    if not match:
        raise AfenvError("E640", f"{uri} is not rucio:SCOPE:NAME", place=uri)
    scope, name = match.groups()
    try:
        from rucio.client.replicaclient import ReplicaClient
    except ImportError:
        raise AfenvError("E646", "Rucio's client is not here", place=uri, remedy=_MISSING) from None
    try:
        client = ReplicaClient(logger=_silent())
        listed = list(client.list_replicas([{"scope": scope, "name": name}], schemes=SCHEMES))
    except Exception as error:  # Rucio has two hundred classes of errors, and requests its own
        raise _failure(error, uri) from error
    return replicas_to_files(listed, uri)


def _silent() -> logging.Logger:
    """A logger that says nothing: what goes wrong is an error of ours, without what a log may hold."""
    logger = logging.getLogger("afenv.rucio")
    logger.disabled = True
    return logger


def _failure(error: Exception, uri: str) -> AfenvError:
    kind = type(error).__name__
    reason = scrub(f"{kind}: {' '.join(str(error).split())}")[:500]
    if kind in ("DataIdentifierNotFound", "ScopeNotFound", "ReplicaNotFound"):
        return AfenvError("E642", "Rucio has no such data", place=uri)
    if kind in ("CannotAuthenticate", "AccessDenied", "MissingClientParameter", "NoAuthInformation"):
        return AfenvError("E647", reason, place=uri)
    if kind in ("ConfigNotFound", "NoSectionError", "NoOptionError"):
        remedy = "Set RUCIO_HOME or RUCIO_CONFIG to where its configuration is."
        return AfenvError("E646", f"Rucio's client is not configured: {reason}", place=uri, remedy=remedy)
    return AfenvError("E202", reason, place=uri)


def replicas_to_files(listed: Iterable[Mapping[str, Any]], uri: str) -> list[LockedDataFile]:
    """The files in what Rucio lists: replicas by their priority; signed URLs, which expire, are left out."""
    entries = list(listed)
    names = [str(entry.get("name")) for entry in entries]
    found = []
    for entry in entries:
        name, scope = str(entry.get("name", "")), str(entry.get("scope", ""))
        pfns = entry.get("pfns")
        if not name or not isinstance(pfns, Mapping):
            raise AfenvError("E643", "Rucio's answer is not in the documented form", place=uri)
        if not (uris := _by_priority(pfns)):
            raise AfenvError("E642", f"Rucio knows no replica of {scope}:{name} to read", place=uri)
        size = entry.get("bytes")
        checksums = {}
        for algorithm in ("adler32", "md5"):
            digits = entry.get(algorithm)
            if isinstance(digits, str) and re.fullmatch(r"[0-9a-fA-F]+", digits):
                checksums[algorithm] = digits.lower().zfill(CHECKSUM_DIGITS[algorithm])
        path = name.lstrip("/")
        found.append(
            LockedDataFile(
                path=f"{scope}/{path}" if names.count(name) > 1 else path,
                size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
                checksums=checksums,
                uris=uris,
            )
        )
    return found


def _by_priority(pfns: Mapping[str, Any]) -> tuple[str, ...]:
    def priority(pfn: str) -> int:
        about = pfns[pfn]
        value = about.get("priority") if isinstance(about, Mapping) else None
        return value if isinstance(value, int) else 999

    kept = [pfn for pfn in pfns if not _SIGNED.search(pfn)]
    return tuple(sorted(kept, key=lambda pfn: (priority(pfn), pfn)))
