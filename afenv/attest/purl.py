"""Package URLs (purl-spec), of the types deb, pypi, conda, oci, github, gitlab and generic."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote as _quote
from urllib.parse import urlsplit

from afenv.documents.lock import (
    LockedBase,
    LockedCode,
    LockedConda,
    LockedDeb,
    LockedSubmodule,
    LockedWheel,
)

quote = lru_cache(maxsize=8192)(_quote)  # every name is quoted for two documents


def _purl(kind: str, namespace: str, name: str, version: str, qualifiers: Mapping[str, str]) -> str:
    path = "/".join(quote(part, safe="") for part in (*namespace.split("/"), name) if part)
    text = f"pkg:{kind}/{path}"
    if version:
        text += "@" + quote(version, safe="")
    pairs = [f"{key}={quote(value, safe='/:')}" for key, value in sorted(qualifiers.items()) if value]
    return f"{text}?{'&'.join(pairs)}" if pairs else text


def deb_purl(deb: LockedDeb, suite: str | None) -> str:
    """The purl of a Debian package; ``suite`` as the distribution, such as ``bookworm``."""
    return _purl("deb", "debian", deb.name, deb.version, {"arch": deb.architecture, "distro": suite or ""})


def wheel_purl(wheel: LockedWheel) -> str:
    """The purl of a Python distribution."""
    return _purl("pypi", "", wheel.name, wheel.version, {})


def conda_purl(package: LockedConda) -> str:
    """The purl of a conda package."""
    channel = urlsplit(package.channel).path.strip("/").rsplit("/", 1)[-1]
    kind = "conda" if package.file.file_name.endswith(".conda") else "tar.bz2"
    return _purl(
        "conda",
        "",
        package.name,
        package.version,
        {"build": package.build, "channel": channel, "subdir": package.subdir, "type": kind},
    )


def base_purl(base: LockedBase) -> str:
    """The purl of a base image."""
    repository, tag = split_image(base.reference)
    return _purl(
        "oci", "", repository.rsplit("/", 1)[-1], base.digest, {"repository_url": repository, "tag": tag}
    )


def split_image(reference: str) -> tuple[str, str]:
    """``HOST/NAME`` and the tag, which may be empty, of an image reference."""
    name = reference.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def code_purl(code: LockedCode | LockedSubmodule, name: str) -> str | None:
    """The purl of a git commit; None for a folder that is in no repository."""
    if not code.commit:
        return None
    if code.git and "://" in code.git:
        parts = urlsplit(code.git)
        path = parts.path.strip("/").removesuffix(".git")
        namespace, _, repository = path.rpartition("/")
        if parts.hostname in ("github.com", "gitlab.com") and namespace:
            kind = parts.hostname.split(".")[0]
            return _purl(kind, namespace.lower(), repository.lower(), code.commit, {})
        return _purl("generic", "", repository or name, code.commit, {"vcs_url": git_location(code) or ""})
    return _purl("generic", "", name, code.commit, {})


def git_location(code: LockedCode | LockedSubmodule) -> str | None:
    """``git+URL@COMMIT`` of code that comes from a git URL."""
    if not code.git or not code.commit or "://" not in code.git:
        return None
    return f"git+{code.git}@{code.commit}"
