"""Taking over the lock of another tool."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from afenv.documents.lock import LockedConda, LockedEnvironment
from afenv.documents.manifest import CondaSection
from afenv.formats.reading import FORMATS, dump_foreign_lock
from afenv.resolve.conda.records import is_python_package
from afenv.workflow.export import foreign_lock


def _export(project: Any, form: str, packages: Sequence[LockedConda]) -> bytes:
    environment = LockedEnvironment(
        request="", platform="linux/amd64", as_of="", conda=tuple(packages), conda_prefix="/opt/conda"
    )
    settings = project.settings.beside(project.folder)
    return dump_foreign_lock(foreign_lock([("fit", environment)], form, settings), form)


def _import(project: Any, text: bytes | str, **more: Any) -> tuple[LockedConda, ...]:
    (project.folder / "their.lock").write_bytes(text.encode() if isinstance(text, str) else text)
    section = CondaSection(lock="their.lock", **more)
    found: tuple[LockedConda, ...] = project.resolve(section=section).records
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_export_import_export(physics: Any, form: str) -> None:
    physics.channel.add("odd", "1", ["__glibc >=2.17"], build="x", number=4, constrains=["hist >2"])
    solved = physics.resolve("hist", "odd", "fonts").records
    text = _export(physics, form, solved)
    imported = _import(physics, text)
    assert _export(physics, form, imported) == text
    for other in FORMATS:
        assert _export(physics, other, imported) == _export(physics, other, solved)
    for mine, theirs in zip(solved, imported, strict=True):
        assert (mine.name, mine.build_number, mine.noarch, mine.depends, mine.constrains) == (
            theirs.name,
            theirs.build_number,
            theirs.noarch,
            theirs.depends,
            theirs.constrains,
        )
        assert (mine.file.size, mine.file.sha256, mine.record) == (
            theirs.file.size,
            theirs.file.sha256,
            theirs.record,
        )


def test_what_the_index_has_no_more_comes_from_the_archive(physics: Any) -> None:
    path = physics.channel.add("old", "1", ["libz"], build="h_7", number=7, license="MIT", form=".tar.bz2")
    physics.channel.remove("old-1-h_7.tar.bz2")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    (package,) = _import(physics, f"@EXPLICIT\n{path.as_uri()}#{md5}\n")
    assert (package.build_number, package.depends, package.record["license"]) == (7, ("libz",), "MIT")
    assert package.file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert package.file.size == path.stat().st_size


def test_other_bytes_than_the_lock_names(physics: Any) -> None:
    url = (physics.folder / "channel" / "noarch" / "fonts-1-0.conda").as_uri()
    with pytest.raises(Exception, match="E301"):
        _import(physics, f"# platform: linux-64\n@EXPLICIT\n{url}#{'0' * 32}\n")
    physics.channel.remove("fonts-1-0.conda")
    with pytest.raises(Exception, match="E301"):
        _import(physics, f"# platform: linux-64\n@EXPLICIT\n{url}#sha256:{'0' * 64}\n")


def test_virtual_packages_are_checked(physics: Any) -> None:
    physics.channel.add("modern", "1", ["__glibc >=2.39"])
    physics.channel.add("gpu", "1", ["__cuda >=12"])
    physics.channel.add("odd", "1", constrains=["__cuda >=99"])
    folder = physics.folder / "channel" / "linux-64"
    text = "@EXPLICIT\n" + "".join(
        f"{(folder / f'{name}-1-0.conda').as_uri()}\n" for name in ("gpu", "modern", "odd")
    )
    with pytest.raises(Exception, match="E102") as caught:
        _import(physics, text)
    said = str(caught.value)
    assert "modern 1 needs __glibc >=2.39, which is 2.36" in said
    assert "gpu 1 needs __cuda >=12, which is absent" in said
    assert "odd" not in said
    found = _import(physics, text, virtual_packages={"__glibc": "2.41", "__cuda": "99"})
    assert len(found) == 3


def test_environments_platforms_and_categories(physics: Any) -> None:
    fonts = (physics.folder / "channel" / "noarch" / "fonts-1-0.conda").as_uri()
    libz = (physics.folder / "channel" / "linux-64" / "libz-1.3-0.conda").as_uri()
    entry = "- {{name: {name}, version: '1', manager: conda, platform: {platform}, category: {category},\n"
    entry += "   url: '{url}'}}\n"
    text = "version: 1\nmetadata: {platforms: [linux-64, osx-64]}\npackage:\n"
    text += entry.format(name="libz", platform="linux-64", url=libz, category="main")
    text += entry.format(name="fonts", platform="linux-64", url=fonts, category="dev")
    text += entry.format(name="fonts", platform="osx-64", url=fonts, category="main")
    assert [package.name for package in _import(physics, text)] == ["libz"]
    assert [package.name for package in _import(physics, text, environment="dev")] == ["fonts", "libz"]
    with pytest.raises(Exception, match=r"E014: the lock has no category 'test'; it has: default, dev"):
        _import(physics, text, environment="test")
    with pytest.raises(Exception, match="E014: the lock is not for linux-64; it is for: osx-64"):
        _import(physics, text.replace("linux-64", "win-64").replace("platform: win-64", "platform: osx-64"))


def test_one_name_twice(physics: Any) -> None:
    for name in ("ruamel.yaml", "ruamel_yaml"):
        physics.channel.add(name, "1")
    folder = (physics.folder / "channel" / "linux-64").as_uri()
    lines = [f"{folder}/{name}-1-0.conda\n" for name in ("ruamel.yaml", "ruamel_yaml")]
    found = _import(physics, "@EXPLICIT\n" + "".join(lines))
    assert [package.name for package in found] == ["ruamel.yaml", "ruamel_yaml"]
    twice = f"{folder}/numpy-2.0-py312_0.conda\n{folder}/numpy-1.26-py311_0.tar.bz2\n"
    with pytest.raises(Exception, match="E102: the lock has numpy twice"):
        _import(physics, "@EXPLICIT\n" + twice)


def test_several_platforms_in_one_file(physics: Any) -> None:
    found = physics.resolve("fonts").records
    settings = physics.settings.beside(physics.folder)
    environments = [
        (name, LockedEnvironment(request="", platform=platform, as_of="", conda=found))
        for name, platform in (("amd", "linux/amd64"), ("arm", "linux/arm64"))
    ]
    text = dump_foreign_lock(foreign_lock(environments, "conda-lock", settings), "conda-lock")
    assert b"platforms:\n  - linux-64\n  - linux-aarch64\n" in text
    assert [package.name for package in _import(physics, text)] == ["fonts"]
    with pytest.raises(Exception, match="E030"):
        foreign_lock(environments, "explicit", settings)
    assert set(foreign_lock(environments, "pixi", settings).environments) == {"amd", "arm"}


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "../../etc/x"), ("version", "1/2"), ("build", "a/../b"), ("subdir", "../x"), ("name", "a b")],
)
def test_names_that_are_no_names(physics: Any, key: str, value: str) -> None:
    url = (physics.folder / "channel" / "noarch" / "fonts-1-0.conda").as_uri()
    text = f"version: 6\nenvironments: {{default: {{packages: {{linux-64: [{{conda: '{url}'}}]}}}}}}\n"
    text += f"packages: [{{conda: '{url}', sha256: '{'7' * 64}', size: 1, {key}: '{value}'}}]\n"
    with pytest.raises(Exception, match=f"E013: a conda package has the {key}"):
        _import(physics, text)


def test_dependencies_without_spaces(physics: Any) -> None:
    url = (physics.folder / "channel" / "noarch" / "hist-2.7-0.conda").as_uri()
    text = f"version: 6\nenvironments: {{default: {{packages: {{linux-64: [{{conda: '{url}'}}]}}}}}}\n"
    text += f"packages: [{{conda: '{url}', sha256: '{'7' * 64}', size: 1, depends: ['python>=3.8', ' ']}}]\n"
    (package,) = _import(physics, text)
    assert package.noarch == "python"
    assert is_python_package(replace(package, noarch=None))


def test_wheels(physics: Any) -> None:
    wheel = "https://example.org/fit-1.0-py3-none-any.whl"
    text = f"version: 6\nenvironments: {{default: {{packages: {{linux-64: [{{pypi: '{wheel}'}}]}}}}}}\n"
    text += f"packages: [{{pypi: '{wheel}', name: Fit, version: '1.0', sha256: '{'7' * 64}'}}]\n"
    (physics.folder / "their.lock").write_text(text)
    physics.store.save_key("pypi-size", "sha256:" + "7" * 64, {"size": 5})
    (found,) = physics.resolve(section=CondaSection(lock="their.lock")).wheels
    assert (found.name, found.version, found.file.size, found.requested) == ("fit", "1.0", 5, True)
    for code, old, new in (("E107", ".whl", ".tar.gz"), ("E013", f", sha256: '{'7' * 64}'", "")):
        (physics.folder / "their.lock").write_text(text.replace(old, new))
        physics.fails(code, section=CondaSection(lock="their.lock"))
