"""The tree of a package is that of py-rattler's installation, byte for byte.

``conda-meta`` and bytecode are ours, and modes are normalised. py-rattler runs in a process of its own,
because it can crash when the interpreter ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import LockedConda, LockedEnvironment
from afenv.layers.conda import write_conda

pytest.importorskip("rattler")

_INSTALL = """
import asyncio, os, sys
from pathlib import Path
import rattler

async def install():
    prefix, seen, cache, *packages = sys.argv[1:]
    records = [await rattler.RepoDataRecord.from_package_archive(one) for one in packages]
    await rattler.install(records, target_prefix=prefix, cache_dir=Path(cache), show_progress=False,
                          execute_link_scripts=False, alternative_target_prefix=seen)

asyncio.run(install())
sys.stdout.write("done")
sys.stdout.flush()
os._exit(0)
"""

OLD = "/home/builder/conda-bld/example_1700000000000/_h_env_placehold_placehold_placehold_placehold_pl"
LONG_OLD = "/home/builder/" + "placehold_" * 24 + "p"
assert len(LONG_OLD) == 255

Tree = dict[str, tuple[str, Any]]


def rattler_tree(folder: Path, prefix: str, packages: list[Path]) -> Tree:
    """What rattler installs for ``prefix``."""
    target = folder / "installed"
    command = [
        sys.executable,
        "-c",
        _INSTALL,
        str(target),
        prefix,
        str(folder / "cache"),
        *map(str, packages),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "done", done.stderr
    found: Tree = {}
    for path in sorted(target.rglob("*")):
        name = str(path.relative_to(target))
        # CACHEDIR.TAG is of no package: it tells backup programs to pass over the folder.
        if name.startswith("conda-meta/") or name == "CACHEDIR.TAG" or name.endswith(".pyc"):
            continue
        if path.is_symlink():
            found[name] = "link", str(path.readlink())
        elif path.is_file():
            found[name] = ("executable" if path.stat().st_mode & 0o100 else "file"), path.read_bytes()
    return found


def layer_tree(tar: bytes, prefix: str) -> Tree:
    """What a layer holds below ``prefix``."""
    found: Tree = {}
    with tarfile.open(fileobj=BytesIO(tar)) as archive:
        for member in archive:
            assert member.mode in ((0o755, 0o644) if not member.issym() else (0o777,))
            name = member.name.removeprefix(prefix.strip("/")).lstrip("/")
            if name.startswith("conda-meta") or name.endswith(".pyc"):
                continue
            if member.issym():
                found[name] = "link", member.linkname
            elif not member.isdir():
                content = archive.extractfile(member)
                assert content is not None
                found[name] = ("executable" if member.mode & 0o100 else "file"), content.read()
    return found


PYTHON: Mapping[str, Any] = {"bin/python3.12": b"#!/bin/false\n", "lib/python3.12/os.py": b"x = 1\n"}


@pytest.fixture
def compare(make_conda: Any, new_layer: Any, tmp_path: Path) -> Any:
    def run(*made: tuple[LockedConda, Path], prefix: str = "/opt/conda") -> Tree:
        packages = [locked for locked, _ in made]
        environment = LockedEnvironment(
            request="sha256:" + "0" * 64,
            platform="linux/amd64",
            as_of="2025-01-01T00:00:00Z",
            conda=tuple(packages),
            conda_prefix=prefix,
        )
        layer = new_layer()
        paths = {locked.file.sha256: path for locked, path in made}
        write_conda(packages, paths, environment, layer.writer, compiler=None, lost={})
        ours = layer_tree(layer.tar(), prefix)
        theirs = rattler_tree(tmp_path, prefix, [path for _, path in made])
        assert ours.keys() == theirs.keys()
        assert ours == theirs
        return ours

    return run


@pytest.mark.parametrize("form", [".conda", ".tar.bz2"])
def test_files_links_and_folders(make_conda: Any, compare: Any, form: str) -> None:
    """Plain content: empty files, non-ASCII names, links of both kinds, empty folders, large files."""
    files = {
        "bin/tool": b"#!/bin/sh\necho hi\n",
        "lib/libz.so.1.2": bytes(range(256)) * 9000,
        "lib/libz.so": ("symlink", "libz.so.1.2"),
        "share/été/ünïcødé 文件.txt": "ñ".encode(),
        "share/empty": b"",
        "share/hard": ("hardlink", "bin/tool"),
        "share/up": ("symlink", "../bin/tool"),
        "share/" + "n" * 120 + "/" + "m" * 130: b"long",
    }
    tree = compare(make_conda("plain", files, executables=("bin/tool", "share/hard"), form=form))
    assert len(tree) == len(files)


def test_prefixes(make_conda: Any, compare: Any) -> None:
    """Text anywhere, binary inside C strings, several times in one string, at the end, twice."""
    old, long = OLD.encode(), LONG_OLD.encode()
    binary = b"\x7fELF\0" + old + b"/lib\0rest" + old + b":" + old + b"/x\0\0" + b"\xff" * 40 + old
    large = (b"\1" * 700_000 + long + b"/share\0") * 4 + b"tail"
    files = {
        "bin/script": b"#!" + old + b"/bin/python -u\nimport sys\n" + old + b"\n",
        "bin/long": b"#!" + long + b"/bin/python3\nx = '" + long + b"'\r\n",
        "bin/no-newline": b"#!" + old + b"/bin/perl",
        "lib/data": binary,
        "lib/large": large,
        "lib/none": b"nothing here\0",
        "share/text": b"prefix=" + old + b"\nlibdir=" + old + b"/lib " + old + b"\n\xff\xfe",
    }
    text, long_text = (OLD, "text"), (LONG_OLD, "text")
    prefixes = {
        "bin/script": text,
        "bin/long": long_text,
        "bin/no-newline": text,
        "lib/data": (OLD, "binary"),
        "lib/large": (LONG_OLD, "binary"),
        "lib/none": (OLD, "binary"),
        "share/text": text,
    }
    tree = compare(make_conda("prefixed", files, prefixes=prefixes, executables=("bin/script",)))
    assert tree["bin/script"][1].startswith(b"#!/opt/conda/bin/python -u\n")


@pytest.mark.parametrize("length", [100, 112, 113, 114, 115, 130])
def test_long_first_lines(make_conda: Any, compare: Any, length: int) -> None:
    """A first line that the system would not read goes through env."""
    prefix = ("/opt/" + "c" * 200)[:length]
    old = LONG_OLD.encode()
    files = {
        "bin/a": b"#!" + old + b"/bin/python -u -B\nprint()\n",
        "bin/b": b"#! " + old + b"/bin/python\nprint()\n",
        "bin/c": b"#!/usr/bin/env " + old + b"/bin/python\r\nprint()\n",
        "bin/d": b"#!" + old + b"/bin/py\\ thon x\n",
        "bin/e": b"#!relative " + old + b"/bin/python/is/long\n",
    }
    compare(
        make_conda("python", PYTHON, version="3.12.1"),
        make_conda("scripts", files, prefixes=dict.fromkeys(files, (LONG_OLD, "text"))),
        make_conda("pure", {"site-packages/p.py": b""}, noarch="python", entry_points=("p = p:main",)),
        prefix=prefix,
    )


def test_noarch_python(make_conda: Any, compare: Any) -> None:
    """Modules and scripts move to the Python's folders, and commands are made."""
    files = {
        "site-packages/pure/__init__.py": b"def main(): pass\n",
        "site-packages/pure-1.dist-info/METADATA": b"Name: pure\n",
        "python-scripts/old-style": b"#!" + OLD.encode() + b"/bin/python\n",
        "share/pure/data": b"1",
        "etc/conda/activate.d/pure.sh": b"export PURE=1\n",
    }
    pure = make_conda(
        "pure",
        files,
        noarch="python",
        prefixes={"python-scripts/old-style": (OLD, "text")},
        executables=("python-scripts/old-style",),
        entry_points=("pure = pure:main", "pure-sub=pure.cli.app:Group.run"),
    )
    tree = compare(make_conda("python", PYTHON, version="3.12.1"), pure)
    assert "lib/python3.12/site-packages/pure/__init__.py" in tree
    assert tree["bin/pure"][0] == "executable"


def test_old_packages(make_conda: Any, compare: Any) -> None:
    """Packages from before ``paths.json``, with both kinds of lines in ``has_prefix``."""
    first = b"/opt/anaconda1anaconda2anaconda3"
    files = {
        "bin/one": b"#!" + first + b"/bin/python\n",
        "bin/two": OLD.encode() + b"\0x",
        "bin/link": ("symlink", "one"),
        "share/with space": OLD.encode(),
        "share/copy": b"c",
    }
    lines = f'bin/one\n{OLD} binary bin/two\n"{OLD}" text "share/with space"\n'
    info = {"has_prefix": lines.encode(), "no_link": b"share/copy\n"}
    made = make_conda("old", files, old=True, info=info, form=".tar.bz2")
    tree = compare(made, prefix="/opt/conda")
    assert tree["bin/one"][1] == b"#!/opt/conda/bin/python\n"


def test_records_are_read_by_rattler(make_conda: Any, new_layer: Any, tmp_path: Path) -> None:
    """The records in ``conda-meta`` are records of installed packages."""
    code = """
import json, sys
from rattler import PrefixRecord
record = PrefixRecord.from_path(sys.argv[1])
values = [record.name.normalized, str(record.version), str(record.build),
          [str(f) for f in record.files], record.requested_spec, record.requested_specs,
          [str(p.relative_path) for p in record.paths_data.paths]]
print(json.dumps(values))
"""
    locked, path = make_conda(
        "tool",
        {"bin/tool": OLD.encode(), "lib/x": b"x"},
        prefixes={"bin/tool": (OLD, "text")},
        requested=True,
    )
    environment = LockedEnvironment(
        request="", platform="linux/amd64", as_of="", conda=(locked,), conda_prefix="/opt/conda"
    )
    layer = new_layer()
    write_conda([locked], {locked.file.sha256: path}, environment, layer.writer, compiler=None, lost={})
    _, text = layer.files()["opt/conda/conda-meta/tool-1.0-0.json"]
    (tmp_path / "tool-1.0-0.json").write_bytes(text)
    command = [sys.executable, "-c", code, str(tmp_path / "tool-1.0-0.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert json.loads(done.stdout) == [
        *("tool", "1.0", "0", ["bin/tool", "lib/x"]),
        *("tool", ["tool"], ["bin/tool", "lib/x"]),
    ]
