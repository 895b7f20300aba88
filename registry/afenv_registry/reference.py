"""Image references: ``[HOST[:PORT]/]NAME[:TAG][@DIGEST]``.

The grammar is that of the OCI distribution specification 1.1 (pulling manifests), and what Docker makes of
short names: without a host (something with a dot or a port, or ``localhost``) they are those of Docker Hub.
For pushing a host is always needed, so that nothing is sent to a public registry by accident.
"""

from __future__ import annotations

import ipaddress
import re

from afenv.digest import PATTERN
from afenv.errors import AfenvError
from afenv.record import record

HUB = "docker.io"
HUB_HOSTS = (HUB, "index.docker.io", "registry-1.docker.io")

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")


@record
class Reference:
    """A repository at a registry, with a tag and, where given, a manifest digest."""

    host: str
    repository: str
    tag: str
    digest: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine."""
        return is_loopback(self.host)

    @property
    def api_host(self) -> str:
        """The host that serves the API; Docker Hub's has another name."""
        return HUB_HOSTS[-1] if self.host == HUB else self.host

    def __str__(self) -> str:
        text = f"{self.host}/{self.repository}:{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def is_loopback(host: str) -> bool:
    """Whether ``host`` (with or without a port) can only be this machine."""
    name = host[1 : host.index("]")] if host.startswith("[") else host.rpartition(":")[0] or host
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_reference(text: str, *, need_host: bool = False) -> Reference:
    """The reference in ``text``; the tag is ``latest`` if there is none. E603 if it is not a reference.

    ``need_host`` refuses the short names of Docker Hub. ``oras://`` and ``docker://``, as other tools write
    before references, mean nothing here.
    """

    def bad(reason: str) -> AfenvError:
        return AfenvError("E603", f"{text!r}: {reason}")

    bare = text.removeprefix("oras://").removeprefix("docker://")
    rest, at, digest = bare.partition("@")
    if at and not PATTERN.match(digest):
        raise bad("what follows @ is not a sha256 digest")
    host, slash, path = rest.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        if need_host:
            raise bad("it does not begin with the registry's host")
        host, path = HUB, rest
    if not _HOST.match(host):
        raise bad(f"{host!r} is not a host")
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else ""
    if port and not 0 < int(port) < 65536:
        raise bad(f"{port} is not a port")
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.match(tag):
        raise bad(f"{tag!r} is not a tag")
    if not _NAME.match(repository) or len(repository) > 255:
        hint = "; a repository has no capitals" if repository != repository.lower() else ""
        raise bad(f"{repository!r} is not a repository{hint}")
    if host in HUB_HOSTS:
        host = HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return Reference(host=host, repository=repository, tag=tag or "latest", digest=digest or None)
