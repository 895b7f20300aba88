"""Lists of URLs that begin with ``@EXPLICIT``, as ``conda list --explicit`` writes them.

A URL may be followed by ``#`` and the MD5, or by ``#sha256:`` or ``#`` and the SHA-256. PyPI packages stand
in comments, ``# pip NAME @ URL --hash=sha256:…``, as conda-lock writes them.
"""

from __future__ import annotations

import re

from afenv.errors import AfenvError
from afenv.formats.model import DEFAULT, ForeignEnvironment, ForeignLock, ForeignPackage, archive_name

MARK = "@EXPLICIT"

_PLATFORM = re.compile(r"#\s*platform:\s*(\S+)\s*\Z")
_PIP = re.compile(
    r"#\s*pip\s+(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*@\s*(?P<url>[a-z+]+://\S+?)(?:#\S*)?"
    r"\s+--hash=sha256:(?P<sha256>[0-9a-fA-F]{64})\s*\Z"
)
_DIGEST = re.compile(r"(?P<md5>[0-9a-fA-F]{32})|(?:sha256:)?(?P<sha256>[0-9a-fA-F]{64})")


def is_explicit(data: bytes) -> bool:
    """Whether some bytes are such a list."""
    return any(line.strip() == MARK.encode() for line in data[: 1 << 16].splitlines())


def parse(data: bytes, place: str) -> ForeignLock:
    """A list of URLs; E002 if it is malformed, E013 for a line that is no conda package."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise AfenvError("E002", "the file is not text in UTF-8", place=place) from None
    platform: str | None = None
    found: dict[str, ForeignPackage] = {}
    marked = False
    for number, raw in enumerate(text.splitlines(), 1):
        line, where = raw.strip(), f"{place}:{number}"
        if line == MARK:
            marked = True
        elif match := _PLATFORM.match(line):
            platform = match[1]
        elif match := _PIP.match(line):
            found[match["url"]] = _wheel(match["name"], match["url"], match["sha256"].lower(), where)
        elif line and not line.startswith("#"):
            if not marked:
                raise AfenvError("E002", f"expected {MARK} before the first URL", place=where)
            package = _package(line, where)
            found[package.url] = package
    subdirs = {
        archive_name(package.url, place).subdir for package in found.values() if package.manager == "conda"
    }
    named = sorted(subdirs - {"noarch"})
    if platform is None and len(named) != 1:
        said = f"the packages are of {', '.join(named)}" if named else "no package tells it"
        raise AfenvError(
            "E002",
            f"the list does not name its platform, and {said}",
            place=place,
            remedy="Add a line such as: # platform: linux-64",
        )
    packages = {platform or named[0]: tuple(found.values())}
    channels = dict.fromkeys(
        archive_name(package.url, place).channel for package in found.values() if package.manager == "conda"
    )
    environment = ForeignEnvironment(channels=tuple(channels), packages=packages)
    return ForeignLock(format="explicit", environments={DEFAULT: environment})


def _package(line: str, place: str) -> ForeignPackage:
    url, _, fragment = line.partition("#")
    name = archive_name(url, place)
    match = _DIGEST.fullmatch(fragment.strip()) if fragment else None
    if fragment and match is None:
        raise AfenvError("E013", f"{fragment!r} is neither an MD5 nor a SHA-256", place=place)
    digests = match.groupdict() if match else {}
    return ForeignPackage(
        manager="conda",
        url=url,
        name=name.name,
        version=name.version,
        sha256=(digests.get("sha256") or "").lower() or None,
        md5=(digests.get("md5") or "").lower() or None,
    )


def _wheel(name: str, url: str, sha256: str, place: str) -> ForeignPackage:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        version = str(parse_wheel_filename(url.split("?")[0].rpartition("/")[2])[1])
    except InvalidWheelFilename:
        raise AfenvError("E107", f"{url} is source, not a wheel", place=place) from None
    return ForeignPackage(manager="pypi", url=url, name=name, version=version, sha256=sha256)


def dump(lock: ForeignLock) -> bytes:
    """The text of a lock with one environment and one platform; E030 if it has more."""
    chosen = [
        (platform, packages)
        for environment in lock.environments.values()
        for platform, packages in environment.packages.items()
    ]
    if len(chosen) != 1:
        raise AfenvError("E030", f"{MARK} holds one environment for one platform; choose one with -e")
    platform, packages = chosen[0]
    lines = [f"# platform: {platform}", MARK]
    lines += sorted(_line(package) for package in packages if package.manager == "conda")
    lines += sorted(
        f"# pip {package.name} @ {package.url} --hash=sha256:{package.sha256}"
        for package in packages
        if package.manager == "pypi"
    )
    return "".join(line + "\n" for line in lines).encode()


def _line(package: ForeignPackage) -> str:
    if package.sha256 is not None:
        return f"{package.url}#sha256:{package.sha256}"
    return f"{package.url}#{package.md5}" if package.md5 is not None else package.url
