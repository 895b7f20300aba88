"""Which Python and C library Debian packages give."""

from __future__ import annotations

import pytest

from afenv.documents.lock import LockedDeb, LockedFile
from afenv.errors import AfenvError
from afenv.resolve.python import glibc_version, locked_python, required_python, upstream_version


def debs(*named: str, depends: str = "") -> list[LockedDeb]:
    file = LockedFile(urls=("https://example.org/x.deb",), size=1, sha256="0" * 64)
    result = []
    for text in named:
        name, _, version = text.partition("=")
        control = {"Depends": depends} if depends and name == "python3" else {}
        result.append(
            LockedDeb(
                name=name, version=version, architecture="amd64", source=name, file=file, control=control
            )
        )
    return result


BOOKWORM = ("python3.11-minimal=3.11.2-6+deb12u7", "libpython3.11-stdlib=3.11.2-6+deb12u7")
TRIXIE = ("python3.13-minimal=3.13.5-2", "libpython3.13-stdlib=3.13.5-2")


def test_python_of_a_suite() -> None:
    found = locked_python(debs("python3=3.11.2-1+b1", *BOOKWORM))
    assert found is not None
    assert (found.version, found.executable) == ("3.11.2", "/usr/bin/python3.11")
    assert (found.site_packages, found.scripts) == (
        "/usr/local/lib/python3.11/dist-packages",
        "/usr/local/bin",
    )


def test_python3_decides_between_two() -> None:
    for text in ("python3.11 (>= 3.11.2-1~), libpython3-stdlib (= 3.11.2-1+b1)", "python3.11-minimal", ""):
        found = locked_python(debs("python3=3.11.2-1+b1", *TRIXIE, *BOOKWORM, depends=text))
        assert found is not None
        assert found.version == "3.11.2"
    newest = locked_python(debs(*BOOKWORM, *TRIXIE))
    assert newest is not None
    assert newest.version == "3.13.5"


def test_no_python() -> None:
    assert locked_python(debs("python3-minimal=3.11.2-1", BOOKWORM[0])) is None  # no standard library
    assert locked_python(debs("python3-numpy=1.24.2-1")) is None
    with pytest.raises(AfenvError) as caught:
        required_python([], "environments.default.pypi")
    assert caught.value.code == "E106"
    assert "environments.default.pypi" in str(caught.value)


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [("3.11.2-6+deb12u7", "3.11.2"), ("1:2.36-9", "2.36"), ("2.36", "2.36"), ("1-2-3", "1-2")],
)
def test_upstream_version(debian: str, upstream: str) -> None:
    assert upstream_version(debian) == upstream


def test_glibc() -> None:
    assert glibc_version(debs("libc6=2.36-9+deb12u14")) == (2, 36)
    assert glibc_version(debs("libc6=2.41-12")) == (2, 41)
    assert glibc_version(debs("libc6=2.42.1~rc1-1")) == (2, 42)
    with pytest.raises(AfenvError) as caught:
        glibc_version(debs("libc6-dev=2.36-9"))
    assert caught.value.code == "E106"
