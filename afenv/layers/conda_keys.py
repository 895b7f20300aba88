"""What the bytes of conda layers depend on, as values for their keys; from the lock alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import ASSEMBLY_VERSION, LockedConda, LockedEnvironment
from afenv.layers.conda_meta import history_text, record_text
from afenv.layers.conda_order import installation_order
from afenv.layers.conda_python import conda_python, uses_python


def package_key(
    package: LockedConda,
    environment: LockedEnvironment,
    lost: Mapping[str, frozenset[str]],
    interpreter: str | None,
) -> list[Any]:
    """What a package becomes depends on: itself, its record, the prefix, and Python if it uses it."""
    return [
        package.file.sha256,
        sha256_bytes(record_text(package, ())),
        environment.conda_prefix,
        [_places(environment), interpreter] if uses_python(package) else None,
        sorted(lost.get(f"conda:{package.name}", ())),
    ]


def environment_key(environment: LockedEnvironment, lost: Mapping[str, frozenset[str]]) -> list[Any]:
    """What the files and the variables of the environment depend on."""
    return [
        owners_key(environment),
        sha256_bytes(history_text(environment.conda)),
        dict(environment.variables),
        any(deb.name == "bash" for deb in environment.debs),
        {name: sorted(paths) for name, paths in lost.items() if name.startswith("conda:")},
    ]


def owners_key(environment: LockedEnvironment) -> str:
    """What the owners of paths depend on."""
    packages = [[package.name, package.file.sha256] for package in installation_order(environment.conda)]
    value = ["conda-owners", ASSEMBLY_VERSION, packages, environment.conda_prefix, _places(environment)]
    return sha256_bytes(canonical.compact(value))


def _places(environment: LockedEnvironment) -> list[str] | None:
    python = conda_python(environment.conda)
    return None if python is None else [python.executable, python.site_packages]
