"""PyPI packages out of the lock of another tool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from afenv.documents.lock import LockedFile, LockedWheel
from afenv.errors import AfenvError
from afenv.formats.model import ForeignPackage
from afenv.resolve.conda.channels import without_secrets
from afenv.resolve.pypi_inputs import normalised
from afenv.resolve.pypi_pylock import ChosenWheel
from afenv.resolve.pypi_sizes import sizes_of
from afenv.settings import Settings
from afenv.store.content import ContentStore


def locked_wheels(
    packages: Sequence[ForeignPackage], place: str, settings: Settings, store: ContentStore
) -> tuple[LockedWheel, ...]:
    """The PyPI packages of a foreign lock as our lock has them; E013 without a digest, E107 for source."""
    chosen = []
    for package in packages:
        if package.sha256 is None:
            raise AfenvError("E013", f"{package.name} has no sha256", place=place)
        if not package.url.split("#")[0].split("?")[0].endswith(".whl"):
            raise AfenvError("E107", f"{package.url} is source, not a wheel", place=place)
        chosen.append(
            ChosenWheel(
                name=normalised(package.name),
                version=package.version,
                url=package.url.split("#")[0],
                size=package.size,
                sha256=package.sha256,
                dependencies=_names(package.depends),
            )
        )
    names = {wheel.name for wheel in chosen}
    needed = {name for wheel in chosen for name in wheel.dependencies}
    locked = [
        LockedWheel(
            name=wheel.name,
            version=wheel.version,
            file=LockedFile(urls=(without_secrets(wheel.url),), size=size, sha256=wheel.sha256),
            requested=wheel.name not in needed,
            dependencies=tuple(sorted(set(wheel.dependencies) & names - {wheel.name})),
        )
        for wheel, size in zip(chosen, sizes_of(chosen, store, settings), strict=True)
    ]
    return tuple(sorted(locked, key=lambda wheel: wheel.name))


def _names(requirements: Iterable[str]) -> tuple[str, ...]:
    """The projects that requirements name, but those of extras."""
    found = []
    for text in requirements:
        head, _, marker = text.partition(";")
        if "extra" in marker:
            continue
        name = ""
        for letter in head.strip():
            if not (letter.isalnum() or letter in "._-"):
                break
            name += letter
        if name:
            found.append(normalised(name))
    return tuple(sorted(set(found)))
