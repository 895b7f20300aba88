"""What a lock says that its environment needs: the version of jupyterhub, wherever it is from."""

from __future__ import annotations

import pytest

from afenv.documents.facility import FacilityProfile, Hub
from afenv.documents.lock import LockedConda, LockedDeb, LockedEnvironment, LockedFile, LockedWheel
from afenv.facility.needs import needs_of_environment
from afenv.facility.verdict import verdict

FILE = LockedFile(urls=("https://example.org/x",), size=1, sha256="0" * 64)


def environment(*packages: str) -> LockedEnvironment:
    """``KIND:NAME VERSION``, of the kinds deb, conda and wheel."""
    debs, conda, wheels = [], [], []
    for text in packages:
        kind, _, rest = text.partition(":")
        name, number = rest.split()
        if kind == "deb":
            debs.append(LockedDeb(name=name, version=number, architecture="all", source=name, file=FILE))
        elif kind == "conda":
            conda.append(
                LockedConda(
                    name=name,
                    version=number,
                    build="0",
                    build_number=0,
                    channel="conda-forge",
                    subdir="linux-64",
                    file=FILE,
                )
            )
        else:
            wheels.append(LockedWheel(name=name, version=number, file=FILE))
    return LockedEnvironment(
        request="sha256:" + "0" * 64,
        platform="linux/amd64",
        as_of="2026-01-01T00:00:00Z",
        debs=tuple(debs),
        conda=tuple(conda),
        wheels=tuple(wheels),
    )


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ((), None),
        (("wheel:numpy 2.0",), None),
        (("wheel:jupyterhub 5.2.1",), "5.2.1"),
        (("conda:jupyterhub 5.2.1",), "5.2.1"),
        (("conda:jupyterhub-singleuser 5.2.1",), "5.2.1"),
        (("conda:jupyterhub-base 4.1.6",), "4.1.6"),
        (("deb:jupyterhub 3.0.0+ds1-1",), "3.0.0+ds1"),
        (("deb:jupyterhub 1:5.2.1+ds1-2~bpo12+1",), "5.2.1+ds1"),
        (("deb:jupyterhub 5.2.1",), "5.2.1"),
        (("deb:jupyterhub 3.0.0+ds1-1", "conda:jupyterhub 4.1.6"), "4.1.6"),
        (("deb:jupyterhub 3.0.0+ds1-1", "wheel:jupyterhub 5.2.1"), "5.2.1"),
    ],
)
def test_version_of_jupyterhub(packages: tuple[str, ...], expected: str | None) -> None:
    assert needs_of_environment("image", environment(*packages)).jupyterhub == expected


@pytest.mark.parametrize(
    ("package", "refused"),
    [("deb:jupyterhub 5.2.1+ds1-2", False), ("deb:jupyterhub 3.0.0+ds1-1", True), ("wheel:numpy 2.0", True)],
)
def test_the_verdict_compares_it_with_the_hub(package: str, refused: bool) -> None:
    facility = FacilityProfile(name="hub", jupyterhub=Hub(version="5.4.0", only=True))
    found = verdict(needs_of_environment("image", environment(package)), facility)
    assert ("jupyterhub" in {one.rule for one in found.reasons if one.outcome == "cannot"}) is refused
