"""Reading pylock.toml (PEP 751): one wheel per package for a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from afenv.errors import AfenvError
from afenv.resolve.pypi_explain import without_credentials
from afenv.resolve.pypi_target import Target

if TYPE_CHECKING:
    from packaging.pylock import Package


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenWheel:
    """A wheel that fits the target; ``size`` in bytes where it is known, ``sha256`` in hexadecimal."""

    name: str
    version: str
    url: str
    size: int | None
    sha256: str
    dependencies: tuple[str, ...] = ()  # as the file names them; often empty


def file_name(url: str) -> str:
    """The file name at the end of a URL's path, decoded."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def choose_wheels(
    data: Mapping[str, Any],
    target: Target,
    place: str,
    *,
    extras: Sequence[str] = (),
    groups: Sequence[str] | None = None,
) -> tuple[ChosenWheel, ...]:
    """What a pylock.toml installs on the target, sorted by name.

    E002 if the document is not what PEP 751 says; E102 if it does not hold for this target; E107 if a
    package has no wheel for it; E016 for local files; E013 if a wheel has no sha256.
    """
    from packaging.pylock import Pylock, PylockSelectError, PylockValidationError

    try:
        document = Pylock.from_dict(data)
    except PylockValidationError as error:
        raise AfenvError("E002", f"not a pylock.toml: {error}", place=place) from None
    try:
        chosen = list(
            document.select(
                environment=target.markers(),
                tags=target.tags(),
                extras=list(extras),
                dependency_groups=None if groups is None else list(groups),
            )
        )
    except PylockSelectError as error:
        text = str(error)
        raise AfenvError("E107" if "No wheel found" in text else "E102", text, place=place) from None
    wheels = [_wheel(package, artefact, place) for package, artefact in chosen]
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _wheel(package: Package, artefact: Any, place: str) -> ChosenWheel:
    from packaging.pylock import PackageArchive, PackageDirectory, PackageWheel
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    if isinstance(artefact, PackageDirectory):
        raise AfenvError("E016", f"{package.name} is a local folder, not supported yet", place=place)
    if not isinstance(artefact, (PackageArchive, PackageWheel)):
        raise AfenvError("E107", f"{package.name} has no wheel, only source", place=place)
    url = artefact.url
    if url is None or urlsplit(url).scheme not in ("http", "https"):
        raise AfenvError("E016", f"{package.name} is a local file, not supported yet", place=place)
    name = file_name(url)
    if not name.endswith(".whl"):
        raise AfenvError("E107", f"{package.name} has no wheel, only {name}", place=place)
    try:
        version = parse_wheel_filename(name)[1]
    except InvalidWheelFilename as error:
        raise AfenvError("E013", str(error), place=place) from None
    sha256 = artefact.hashes.get("sha256", "").lower()
    if len(sha256) != 64:
        raise AfenvError(
            "E013",
            f"{name} has no sha256",
            place=place,
            remedy="Lock with a tool that writes sha256 hashes, such as uv or pip.",
        )
    return ChosenWheel(
        name=str(package.name),
        version=str(package.version or version),
        url=without_credentials(url).split("#")[0],
        size=artefact.size,
        sha256=sha256,
        dependencies=tuple(sorted(_dependencies(package))),
    )


def _dependencies(package: Package) -> Iterator[str]:
    for entry in package.dependencies or ():
        if isinstance(entry.get("name"), str):
            yield str(entry["name"])


def pins(wheels: Sequence[tuple[str, str]]) -> str:
    """A pylock.toml that holds nothing but names and versions: what uv prefers when it solves anew."""
    head = 'lock-version = "1.0"\ncreated-by = "afenv"\n'
    return head + "".join(
        f'\n[[packages]]\nname = "{name}"\nversion = "{version}"\n' for name, version in wheels
    )
