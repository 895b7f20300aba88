"""The Python of a base image, found by looking at its files."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from afenv.documents.lock import LockedPython
from afenv.errors import AfenvError
from afenv.layers.base_tree import BaseTree, Folder, Kept
from afenv.layers.model import SYSTEM_PATH
from afenv.resolve.base_python import base_distributions, base_python, path_of

FEDORA = b"prefixes.insert(0, '/usr/local')"
DEBIAN = b"'/usr/local', 'dist-packages'"


def tree(
    files: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> BaseTree:
    folders: dict[str, Folder] = {}
    for path in [*files, *(links or {})]:
        while path := path.rpartition("/")[0]:
            folders[path] = Folder(0o755, 0, 0)
    return BaseTree(
        folders=folders,
        files={path: len(data) for path, data in files.items()},
        links=links or {},
        kept={path: Kept(0o644, data) for path, data in files.items()},
        versions=versions or {},
    )


def python_at(
    program: str,
    library: str,
    *,
    site: bytes = b"",
    version: str = "3.9.18",
    links: Mapping[str, str] | None = None,
) -> BaseTree:
    files = {program: b"", f"{library}/os.py": b"", f"{library}/site.py": site}
    return tree(files, links, {program: version})


def test_of_an_enterprise_linux() -> None:
    found = python_at(
        "usr/bin/python3.9",
        "usr/lib64/python3.9",
        site=FEDORA,
        links={"usr/bin/python3": "python3.9", "bin": "usr/bin"},
    )
    assert base_python(found, SYSTEM_PATH) == LockedPython(
        version="3.9.18",
        executable="/usr/bin/python3.9",
        site_packages="/usr/local/lib/python3.9/site-packages",
        scripts="/usr/local/bin",
    )


def test_of_debian() -> None:
    found = python_at(
        "usr/bin/python3.11",
        "usr/lib/python3.11",
        site=DEBIAN,
        version="3.11.2",
        links={"usr/bin/python3": "python3.11"},
    )
    python = base_python(found, SYSTEM_PATH)
    assert python is not None
    assert python.site_packages == "/usr/local/lib/python3.11/dist-packages"


def test_a_distribution_that_knows_no_local_folder() -> None:
    python = base_python(python_at("usr/bin/python3.9", "usr/lib/python3.9"), SYSTEM_PATH)
    assert python is not None
    assert (python.site_packages, python.scripts) == ("/usr/lib/python3.9/site-packages", "/usr/bin")


def test_the_path_of_the_image_decides() -> None:
    files = {
        "usr/bin/python3.11": b"",
        "usr/lib/python3.11/os.py": b"",
        "usr/local/bin/python3.12": b"",
        "usr/local/lib/python3.12/os.py": b"",
        "usr/local/lib/libpython3.12.so.1.0": b"",
        "opt/conda/bin/python3.10": b"",
        "opt/conda/lib/python3.10/os.py": b"",
    }
    links = {
        "usr/bin/python3": "python3.11",
        "usr/local/bin/python3": "python3.12",
        "opt/conda/bin/python3": "python3.10",
    }
    versions = {
        "usr/bin/python3.11": "3.11.2",
        "usr/local/lib/libpython3.12.so.1.0": "3.12.4",
        "opt/conda/bin/python3.10": "3.10.1",
    }
    found = tree(files, links, versions)
    python = base_python(found, SYSTEM_PATH)
    assert python == LockedPython(
        version="3.12.4",
        executable="/usr/local/bin/python3.12",
        site_packages="/usr/local/lib/python3.12/site-packages",
        scripts="/usr/local/bin",
    )
    python = base_python(found, ("/opt/conda/bin", *SYSTEM_PATH))
    assert python is not None
    assert (python.executable, python.scripts) == ("/opt/conda/bin/python3.10", "/opt/conda/bin")
    assert python.site_packages == "/opt/conda/lib/python3.10/site-packages"


def test_through_alternatives_to_a_program_without_a_version_in_its_name() -> None:
    found = tree(
        {"usr/libexec/platform-python": b"", "usr/lib64/python3.6/os.py": b""},
        {
            "usr/bin/python3": "/etc/alternatives/python3",
            "etc/alternatives/python3": "../../usr/libexec/platform-python",
        },
        {"usr/libexec/platform-python": "3.6.8"},
    )
    python = base_python(found, SYSTEM_PATH)
    assert python is not None
    assert (python.version, python.executable) == ("3.6.8", "/usr/bin/python3")


def test_without_the_name_python3_the_newest() -> None:
    files = {f"usr/bin/python3.{minor}": b"" for minor in (9, 12)}
    files |= {f"usr/lib/python3.{minor}/os.py": b"" for minor in (9, 12)}
    versions = {f"usr/bin/python3.{minor}": f"3.{minor}.1" for minor in (9, 12)}
    python = base_python(tree(files, versions=versions), SYSTEM_PATH)
    assert python is not None
    assert python.executable == "/usr/bin/python3.12"


def test_a_virtual_environment_on_the_path() -> None:
    files = {
        "usr/bin/python3.11": b"",
        "usr/lib/python3.11/os.py": b"",
        "usr/lib/python3.11/site.py": DEBIAN,
        "opt/venv/pyvenv.cfg": b"home = /usr/bin",
    }
    links = {"opt/venv/bin/python3": "python3.11", "opt/venv/bin/python3.11": "/usr/bin/python3.11"}
    python = base_python(
        tree(files, links, {"usr/bin/python3.11": "3.11.2"}), ("/opt/venv/bin", *SYSTEM_PATH)
    )
    assert python == LockedPython(
        version="3.11.2",
        executable="/opt/venv/bin/python3.11",
        site_packages="/opt/venv/lib/python3.11/site-packages",
        scripts="/opt/venv/bin",
    )


def test_no_python() -> None:
    assert base_python(tree({"usr/bin/perl": b""}), SYSTEM_PATH) is None
    without_library = tree({"usr/bin/python3.9": b""}, {"usr/bin/python3": "python3.9"})
    assert base_python(without_library, SYSTEM_PATH) is None
    assert base_python(tree({}, {"usr/bin/python3": "nowhere"}), SYSTEM_PATH) is None


def test_a_version_that_is_not_told() -> None:
    found = tree({"usr/bin/python3.9": b"", "usr/lib64/python3.9/os.py": b""})
    with pytest.raises(AfenvError, match="whose full version") as caught:
        base_python(found, SYSTEM_PATH)
    assert caught.value.code == "E106"


def test_path_of_a_config() -> None:
    config = {"config": {"Env": ["LANG=C", "PATH=/opt/bin:relative:/usr/bin:"]}}
    assert path_of(config) == ("/opt/bin", "/usr/bin")
    for nothing in ({}, {"config": None}, {"config": {"Env": None}}, {"config": {"Env": ["A=b"]}}):
        assert path_of(nothing) == SYSTEM_PATH


def test_distributions_that_are_there() -> None:
    site = "usr/local/lib/python3.12/site-packages"
    files = {
        f"{site}/pip-24.0.dist-info/METADATA": b"",
        f"{site}/ruamel.yaml-0.18.6.dist-info/METADATA": b"",
        f"{site}/Old_One-1.0-py3.12.egg-info/PKG-INFO": b"",
        f"{site}/numpy/core.py": b"",
        "usr/lib/python3/dist-packages/elsewhere-1.0.dist-info/METADATA": b"",
    }
    python = LockedPython(
        version="3.12.4",
        executable="/usr/local/bin/python3.12",
        site_packages=f"/{site}",
        scripts="/usr/local/bin",
    )
    assert base_distributions(tree(files), python) == {
        "old-one": "1.0",
        "pip": "24.0",
        "ruamel-yaml": "0.18.6",
    }
