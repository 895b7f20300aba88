"""Reading and writing the locks of other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.formats import conda_lock, explicit, pixi, yaml_text
from afenv.formats.model import (
    ForeignEnvironment,
    ForeignLock,
    ForeignPackage,
    archive_name,
    build_number_of,
)
from afenv.formats.reading import dump_foreign_lock, read_foreign_lock

FORGE = "https://conda.anaconda.org/conda-forge"
NUMPY = ForeignPackage(
    manager="conda",
    url=f"{FORGE}/linux-64/numpy-2.0.1-py312_3.conda",
    name="numpy",
    version="2.0.1",
    sha256="1" * 64,
    md5="2" * 32,
    size=123,
    depends=(
        "python >=3.12,<3.13.0a0",
        "python_abi 3.12.* *_cp312",
        "__glibc >=2.17",
        "libblas",
        "libblas >=3",
    ),
    record={"build": "py312_3", "build_number": 3, "subdir": "linux-64", "license": "BSD-3-Clause"},
)
FONTS = ForeignPackage(
    manager="conda",
    url=f"{FORGE}/noarch/fonts-1!2024a-hab24e00_0.tar.bz2",
    name="fonts",
    version="1!2024a",
    sha256="ab" * 32,
    md5="0e" * 16,
    size=7,
    record={
        "build": "hab24e00_0",
        "build_number": 7,
        "subdir": "noarch",
        "noarch": "generic",
        "constrains": ["other <0a0"],
        "track_features": ["mkl", "x"],
        "timestamp": 1_700_000_000_000,
    },
)
HIST = ForeignPackage(
    manager="pypi",
    url="https://files.pythonhosted.org/packages/ab/hist-2.7.1-py3-none-any.whl",
    name="hist",
    version="2.7.1",
    sha256="3" * 64,
    depends=("numpy", "boost-histogram"),
)


def _lock(*packages: ForeignPackage, platform: str = "linux-64") -> ForeignLock:
    environment = ForeignEnvironment(channels=(FORGE,), packages={platform: packages})
    return ForeignLock(format="conda-lock", environments={"default": environment})


@pytest.mark.parametrize("form", ["conda-lock", "pixi", "explicit"])
def test_written_read_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / "some.lock"
    path.write_bytes(dump_foreign_lock(_lock(NUMPY, FONTS, HIST), form))
    lock = read_foreign_lock(path)
    assert lock.format == form
    assert dump_foreign_lock(lock, form) == path.read_bytes()
    (platform,) = lock.environments["default"].packages
    found = {package.name: package for package in lock.environments["default"].packages[platform]}
    assert set(found) == {"numpy", "fonts", "hist"}
    assert found["numpy"].sha256 == "1" * 64
    assert found["hist"].manager == "pypi"
    assert found["hist"].version == "2.7.1"
    assert found["fonts"].version == "1!2024a"


def test_pixi_tells_all() -> None:
    lock = pixi.parse(pixi.dump(_lock(NUMPY, FONTS, HIST)), "pixi.lock")
    found = {package.name: package for package in lock.environments["default"].packages["linux-64"]}
    assert found == {"numpy": NUMPY, "fonts": FONTS, "hist": HIST}


def test_conda_lock_has_platforms_and_categories() -> None:
    arm = ForeignPackage(
        manager="conda", url=f"{FORGE}/linux-aarch64/a-1-0.conda", name="a", version="1", md5="4" * 32
    )
    lock = ForeignLock(
        format="conda-lock",
        environments={
            "default": ForeignEnvironment(
                channels=(FORGE,), packages={"linux-64": (NUMPY,), "linux-aarch64": (arm,)}
            ),
            "dev": ForeignEnvironment(channels=(FORGE,), packages={"linux-64": (HIST,)}),
        },
    )
    text = conda_lock.dump(lock)
    again = conda_lock.parse(text, "x")
    assert conda_lock.dump(again) == text
    assert [package.name for package in again.environments["default"].packages["linux-aarch64"]] == ["a"]
    assert [package.name for package in again.environments["dev"].packages["linux-64"]] == ["hist"]
    assert b"category: dev\n  optional: true\n" in text
    assert b"libblas: '>=3'" in text


def test_conda_lock_as_others_write_it() -> None:
    """Categories and platforms interleaved, types that YAML would guess, comments, flow style."""
    text = f"""\
# comment
version: 1
metadata:
  content_hash: {{linux-64: abc, osx-arm64: def}}
  channels: [{{url: conda-forge, used_env_vars: []}}]
  platforms: [linux-64, osx-arm64]
  sources: [environment.yml]
package:
- {{name: tzdata, version: 2024a, manager: conda, platform: osx-arm64, dependencies: {{}}, category: main,
   url: {FORGE}/noarch/tzdata-2024a-h0c530f3_0.conda, hash: {{md5: {"1" * 32}}}, optional: false}}
- name: tzdata
  version: 1.10
  manager: conda
  platform: linux-64
  dependencies: {{python: '>=3.8'}}
  url: {FORGE}/noarch/tzdata-1.10-h0c530f3_0.conda
  hash:
    md5: {"0" * 31}1
    sha256: {"1" * 64}
  category: main
  optional: false
"""
    (package,) = conda_lock.parse(text.encode(), "x").environments["default"].packages["linux-64"]
    assert (package.version, package.md5) == ("1.10", "0" * 31 + "1")
    assert package.depends == ("python >=3.8",)


def test_explicit_as_conda_writes_it() -> None:
    text = (
        "# This file may be used to create an environment using:\n# platform: linux-64\n@EXPLICIT\n"
        f"{FORGE}/noarch/fonts-1-0.conda#{'A' * 32}\n{FORGE}/linux-64/a-b-2-h1_0.tar.bz2#{'b' * 64}\n"
        f"{FORGE}/linux-64/c-1-0.conda\n"
    )
    lock = explicit.parse(text.encode(), "x")
    fonts, a_b, c = lock.environments["default"].packages["linux-64"]
    assert (fonts.md5, fonts.sha256, a_b.sha256, a_b.name, c.sha256) == (
        "a" * 32,
        None,
        "b" * 64,
        "a-b",
        None,
    )
    assert lock.environments["default"].channels == (FORGE,)


@pytest.mark.parametrize(
    ("code", "form", "text"),
    [
        ("E002", "explicit", "@EXPLICIT\nhttps://x.org/c/noarch/a-1-0.conda\n"),
        ("E002", "explicit", "https://x.org/c/noarch/a-1-0.conda\n@EXPLICIT\n"),
        ("E013", "explicit", "# platform: linux-64\n@EXPLICIT\n/root/a-1-0.conda\n"),
        ("E013", "explicit", "# platform: linux-64\n@EXPLICIT\nhttps://x.org/c/linux-64/a-1-0.conda#12\n"),
        ("E013", "explicit", "# platform: linux-64\n@EXPLICIT\nhttps://x.org/a.tar.gz\n"),
        ("E002", "pixi", "version: 6\nenvironments: [a]\n"),
        ("E002", "pixi", "version: 6\nenvironments: {default: {packages: {linux-64: [{conda: 'x'}]}}}\n"),
        ("E016", "pixi", "version: 4\nenvironments: {}\n"),
        ("E016", "pixi", "version: 6\nenvironments: {}\npackages: [{conda: ./pkg}]\n"),
        ("E016", "pixi", "version: 6\nenvironments: {}\npackages: [{pypi: ./pkg}]\n"),
        (
            "E002",
            "pixi",
            "version: 6\nenvironments: {}\npackages: [{conda: 'https://x/noarch/a-1-0.conda', size: big}]\n",
        ),
        ("E002", "conda-lock", "version: 1\npackage: 3\n"),
        ("E002", "conda-lock", "version: 1\npackage: [{manager: apt}]\n"),
        ("E016", "conda-lock", "version: 9\npackage: []\n"),
        ("E002", "conda-lock", "version: 1\npackage: [\n"),
        ("E002", "conda-lock", "version: 1\npackage: *unknown\n"),
        ("E002", "none", "hello: world\n"),
    ],
)
def test_malformed(code: str, form: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    path.write_text(text)
    with pytest.raises(AfenvError) as caught:
        read_foreign_lock(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for parse in (conda_lock.parse, pixi.parse, explicit.parse):
        try:
            parse(data, "x")
        except AfenvError:
            continue


_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(st.dictionaries(_TEXT, st.one_of(_TEXT, st.lists(_TEXT), st.dictionaries(_TEXT, _TEXT)), min_size=1))
def test_yaml_comes_back(value: dict[str, object]) -> None:
    text = yaml_text.dump(value)
    found = yaml_text.load(text.encode(), "x")
    empty = {key: item for key, item in value.items() if item in ([], {})}
    assert found == {**value, **{key: found[key] for key in empty}}


@pytest.mark.parametrize(
    "text", ["1.10", "yes", "null", "0b11", "1e5", "2024-01-01", "a: b", "x #y", "", "~", "=", "0x1f"]
)
def test_text_stays_text_in_any_yaml(text: str) -> None:
    from ruamel.yaml import YAML

    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(yaml_text.dump({"key": text})) == {"key": text}


def test_names_of_archives() -> None:
    name = archive_name(f"{FORGE}/label/dev/linux-64/a-b-c-1.0-h_3.tar.bz2#x", "p")
    assert (name.channel, name.subdir, name.name, name.version, name.build) == (
        f"{FORGE}/label/dev",
        "linux-64",
        "a-b-c",
        "1.0",
        "h_3",
    )
    assert [build_number_of(build) for build in ("py_3", "0", "abc", "h1_x")] == [3, 0, None, None]


_ORACLE = """
import json, os, sys, rattler
lock = rattler.LockFile.from_path(sys.argv[1])
environment = lock.default_environment()
platform = environment.platforms()[0]
found = []
for record in environment.conda_repodata_records_for_platform(platform):
    value = json.loads(record.to_json())
    found.append(value)
wheels = [[package.name, package.version] for package in environment.pypi_packages_for_platform(platform)]
print(json.dumps([found, wheels]))
sys.stdout.flush()
os._exit(0)
"""


def test_rattler_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "pixi.lock"
    local = ForeignPackage(
        manager="conda",
        url="file:///data/channel/linux-64/local-1-0.conda",
        name="local",
        version="1",
        sha256="5" * 64,
        size=1,
        record={"build": "0", "build_number": 0, "subdir": "linux-64"},
    )
    path.write_bytes(pixi.dump(_lock(NUMPY, FONTS, HIST, local)))
    done = subprocess.run([sys.executable, "-c", _ORACLE, str(path)], capture_output=True, check=False)
    assert done.stdout, done.stderr.decode()
    records, wheels = json.loads(done.stdout)
    by_name = {record["name"]: record for record in records}
    assert by_name["numpy"]["build_number"] == 3
    assert tuple(by_name["numpy"]["depends"]) == NUMPY.depends
    assert by_name["fonts"]["build_number"] == 7
    assert (by_name["fonts"]["version"], by_name["fonts"]["noarch"]) == ("1!2024a", "generic")
    assert (by_name["local"]["sha256"], by_name["local"]["subdir"]) == ("5" * 64, "linux-64")
    assert wheels == [["hist", "2.7.1"]]


_THEIRS = """
import json, pathlib, sys
from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file
lock = parse_conda_lock_file(pathlib.Path(sys.argv[1]))
write_conda_lock_file(lock, pathlib.Path(sys.argv[2]), metadata_choices=set())
print(json.dumps([
    [p.name, p.version, p.manager, p.platform, p.hash.sha256, sorted(p.categories)] for p in lock.package
]))
"""


@pytest.mark.network
def test_conda_lock_reads_what_is_written(tmp_path: Path) -> None:
    """conda-lock itself, got by uv: its parser reads ours, and ours what it writes."""
    ours, theirs = tmp_path / "conda-lock.yml", tmp_path / "theirs.yml"
    ours.write_bytes(conda_lock.dump(_lock(NUMPY, FONTS, HIST)))
    program = [sys.executable, "-m", "uv", "run", "--no-project", "--isolated", "--with", "conda-lock==4.0.3"]
    arguments = ["python", "-c", _THEIRS, str(ours), str(theirs)]
    done = subprocess.run([*program, *arguments], capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(json.loads(done.stdout)) == [
        ["fonts", "1!2024a", "conda", "linux-64", "ab" * 32, ["main"]],
        ["hist", "2.7.1", "pip", "linux-64", "3" * 64, ["main"]],
        ["numpy", "2.0.1", "conda", "linux-64", "1" * 64, ["main"]],
    ]
    assert conda_lock.dump(read_foreign_lock(theirs)) == ours.read_bytes()
