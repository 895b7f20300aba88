"""Where a repository is asked for: its registry, and before it the mirrors of this facility.

A mirror is a rule of ``AFENV_MIRRORS`` that begins with ``oci://``, such as
``oci://docker.io/=https://mirror.example.org/docker-hub/``: the repositories of Docker Hub are read from
``mirror.example.org`` as ``docker-hub/…`` first, and from Docker Hub if that fails. What is written goes to
the registry itself. The digests of all that comes from a mirror are checked.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from afenv.errors import AfenvError
from afenv.record import record, replace
from afenv_registry.reference import Reference, is_loopback

SCHEME = "oci://"


@record
class Endpoint:
    """A repository as it is reached: scheme, host (with port) and name there.

    ``guessed`` says that the scheme was not told: it is found out on the first contact.
    """

    scheme: str
    host: str
    repository: str
    credentials_host: str
    guessed: bool = False
    mirror: bool = False

    @property
    def base(self) -> str:
        """The URL under which the repository's manifests and blobs are."""
        return f"{self.scheme}://{self.host}/v2/{self.repository}/"

    def encrypted(self) -> Endpoint:
        """The same over HTTPS."""
        return replace(self, scheme="https", guessed=False)

    def __str__(self) -> str:
        return f"{self.credentials_host}/{self.repository}"


def origin(reference: Reference, *, plain_http: bool = False) -> Endpoint:
    """The registry of the reference itself."""
    scheme, guessed = _scheme(reference.host, plain_http)
    return Endpoint(
        scheme=scheme,
        host=reference.api_host,
        repository=reference.repository,
        credentials_host=reference.host,
        guessed=guessed,
    )


def _scheme(host: str, plain_http: bool) -> tuple[str, bool]:
    if plain_http or host in os.environ.get("AFENV_PLAIN_HTTP", "").split():
        return "http", False
    if not is_loopback(host):
        return "https", False
    from afenv_registry.tls import certificate_folders

    return ("https", False) if certificate_folders(host) else ("http", True)


def mirrors(reference: Reference) -> list[Endpoint]:
    """The mirrors to ask before the registry, in the order of the rules; E030 for a bad rule."""
    rules = os.environ.get("AFENV_MIRRORS", "")
    if SCHEME not in rules:
        return []
    found = []
    wanted = f"{SCHEME}{reference.host}/{reference.repository}"
    for rule in rules.split():
        prefix, _, replacement = rule.partition("=")
        if prefix.startswith(SCHEME) and (wanted + "/").startswith(prefix.rstrip("/") + "/"):
            found.append(_mirror(rule, replacement, wanted[len(prefix.rstrip("/")) :].strip("/")))
    return found


def _mirror(rule: str, replacement: str, rest: str) -> Endpoint:
    parts = urlsplit(replacement)
    repository = "/".join(part for part in (parts.path.strip("/"), rest) if part)
    if parts.scheme not in ("oci", "https", "http") or not parts.netloc or not repository:
        raise AfenvError("E030", f"{rule!r} names no registry", place="AFENV_MIRRORS")
    scheme, guessed = _scheme(parts.netloc, parts.scheme == "http")
    if parts.scheme == "https":
        scheme, guessed = "https", False
    return Endpoint(
        scheme=scheme,
        host=parts.netloc,
        repository=repository,
        credentials_host=parts.netloc,
        guessed=guessed,
        mirror=True,
    )
