"""The environment's own Python, made to run on this host without root.

Bytecode depends on the exact interpreter, so the environment's own compiles it: the few packages that
it needs are unpacked into the cache, and it is started through its own dynamic loader with a library
path, which needs neither chroot nor matching libraries on the host.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import LockedDeb
from afenv.errors import AfenvError
from afenv.layers.deb_archive import open_deb
from afenv.store.content import ContentStore, write_error

_NEEDED = re.compile(
    r"(?:lib)?python(?P<version>3\.\d+)-minimal\Z|(?:libc6|libcrypt1|libgcc-s1|libexpat1|zlib1g)\Z"
)
_UNUSED = ("usr/share/", "etc/", "usr/lib/gconv/")
_LOADER = re.compile(r"ld-linux[a-z0-9-]*\.so\.\d+\Z|ld64\.so\.\d+\Z|ld-\d[\d.]*\.so\Z")
_PROBE = "import marshal, posix, sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """A Python that compiles: ``id`` names its exact bytes, ``command`` and ``variables`` start it."""

    id: str
    version: str  # major and minor, such as 3.11
    command: tuple[str, ...]
    variables: Mapping[str, str]


def minor_version(version: str) -> str:
    """Major and minor of a version: ``3.11.2`` gives ``3.11``."""
    return ".".join(version.split(".")[:2])


def cache_tag(version: str) -> str:
    """What stands in the names of the bytecode files of a Python."""
    return "cpython-" + minor_version(version).replace(".", "")


def needed_debs(debs: Sequence[LockedDeb], version: str) -> list[LockedDeb]:
    """The packages that Python ``version`` needs to compile; pure."""
    found = []
    minor = minor_version(version)
    for deb in debs:
        match = _NEEDED.match(deb.name)
        if match and match["version"] in (None, minor):
            found.append(deb)
    return sorted(found, key=lambda deb: deb.name)


def interpreter_id(debs: Sequence[LockedDeb], version: str) -> str:
    """The identity of the interpreter that these packages give, from the lock alone."""
    return sha256_bytes(
        canonical.compact(["interpreter", 1, [d.file.sha256 for d in needed_debs(debs, version)]])
    )


def prepare_interpreter(
    debs: Sequence[LockedDeb], paths: Mapping[str, Path], version: str, store: ContentStore
) -> Interpreter:
    """Unpack Python ``version`` into the store, unless it is there, and try it.

    ``paths`` leads from the sha256 of a package to its file. E404 if it cannot run on this host.
    """
    identity = interpreter_id(debs, version)

    def unpack(work: Path) -> None:
        for deb in needed_debs(debs, version):
            unpack_deb(paths[deb.file.sha256], deb.file.sha256, work)

    folder = unpacked_folder(identity, unpack, store)
    interpreter = Interpreter(
        id=identity,
        version=minor_version(version),
        command=_command(folder, minor_version(version)),
        variables={
            "PYTHONHOME": str(folder / "usr"),
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LC_ALL": "C",
        },
    )
    probe(interpreter)
    return interpreter


def unpacked_folder(key: str, unpack: Callable[[Path], None], store: ContentStore) -> Path:
    """The store's folder for an interpreter; ``unpack`` fills it, unless it is there and unchanged."""
    folder = store.folder / "interpreters" / key.removeprefix("sha256:")
    with store.lock("interpreter-" + key[7:23]):
        known = store.load_key("interpreter", key)
        if not folder.is_dir() or known is None or known.get("tree") != tree_digest(folder):
            _fill(folder, unpack, store)
            store.save_key("interpreter", key, {"tree": tree_digest(folder)})
    return folder


def _fill(folder: Path, unpack: Callable[[Path], None], store: ContentStore) -> None:
    work = Path(tempfile.mkdtemp(dir=store.temporary_folder(), prefix="interpreter-"))
    try:
        unpack(work)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
    except OSError as error:
        raise write_error(error, folder) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack_deb(path: Path, sha256: str, root: Path, *, replace: bool = False) -> None:
    """The files of a package, and its links within one folder; the rest is not needed here.

    With ``replace`` they take the place of what is there.
    """
    links: list[tuple[Path, str]] = []
    with open_deb(path, sha256=sha256) as archive:
        for member in archive.members():
            target = root / member.path
            if member.path.startswith(_UNUSED) or "/gconv/" in member.path:
                continue
            if member.kind == "file":
                target.parent.mkdir(parents=True, exist_ok=True)
                if replace:
                    target.unlink(missing_ok=True)
                with target.open("xb") as file:
                    for chunk in member.chunks:
                        file.write(chunk)
                target.chmod(0o755 if member.mode & 0o111 else 0o644)
            elif member.kind == "symlink" and "/" not in member.linkname:
                links.append((target, member.linkname))
    for target, name in links:
        target.parent.mkdir(parents=True, exist_ok=True)
        if replace:
            target.unlink(missing_ok=True)
        target.symlink_to(name)


def tree_digest(folder: Path) -> str:
    """The digest of all files and links of a folder."""
    total = hashlib.sha256()
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(parent) / name
            if path.is_symlink():
                content = b"l" + os.fsencode(path.readlink())
            else:
                with path.open("rb") as file:
                    content = b"f" + hashlib.file_digest(file, "sha256").digest()
            total.update(b"%s\0%s\0" % (os.fsencode(path.relative_to(folder)), content))
    return "sha256:" + total.hexdigest()


def _command(folder: Path, version: str) -> tuple[str, ...]:
    libraries: list[str] = []
    loader = None
    for top in (folder / "lib", folder / "usr" / "lib"):
        for library in sorted(top.glob("*-linux-*")):
            libraries.append(str(library))
            for file in sorted(library.iterdir()):
                if _LOADER.match(file.name) and not file.is_symlink():
                    loader = str(file)
    if loader is None:
        raise AfenvError("E404", "the packages hold no dynamic loader")
    python = str(folder / "usr" / "bin" / f"python{version}")
    return loader, "--library-path", ":".join(libraries), python


def probe(interpreter: Interpreter) -> None:
    """Start it once; E404 if it does not run here, or is of another version."""
    try:
        done = subprocess.run(
            [*interpreter.command, "-S", "-c", _PROBE],
            env=dict(interpreter.variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        ran = done.returncode == 0 and done.stdout.decode("ascii", "replace") == interpreter.version
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [
            f"exit {done.returncode}"
        ]
    except (OSError, subprocess.TimeoutExpired) as error:
        ran, reason = False, [str(error)]
    if not ran:
        raise AfenvError("E404", f"Python {interpreter.version} of the environment does not run: {reason[0]}")
