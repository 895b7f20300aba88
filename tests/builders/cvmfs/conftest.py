"""Images with everything that a publisher must cope with, and a stand-in for cvmfs_server."""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from afenv.oci.model import Image
from afenv.oci.publishing import Target
from afenv.testing import Member, folder, hardlink, make_image, symlink

LAYERS = (
    (
        folder("bin"),
        Member(path="bin/tool", content=b"tool" * 9000, mode=0o755),
        Member(path="bin/su", content=b"su", mode=0o4755),
        hardlink("bin/same", "bin/tool"),
        folder("old"),
        Member(path="old/a"),
        folder("private", 0o500),
        Member(path="private/secret", content=b"x", mode=0o000),
        Member(path="private/readonly", content=b"y", mode=0o444),
        Member(path="dev/null", kind=tarfile.CHRTYPE),
        Member(path="fifo", kind=tarfile.FIFOTYPE, mode=0o644),
    ),
    (
        hardlink("bin/below", "bin/tool"),
        Member(path=".wh.old"),
        symlink("lib", "usr/lib"),
        symlink("abroad", "../../../etc/passwd"),
        folder("tmp", 0o1777),
        Member(path=".cvmfscatalog", content=b"of the image"),
        Member(path="data/.cvmfscatalog", content=b"of the image"),
        Member(path="Case", content=b"1"),
        Member(path="case", content=b"2"),
    ),
    (
        Member(path="bin/tool", content=b"new", uid=3, gid=4),
        Member(path="ü" + "x" * 250, content=b"y"),
        Member(path="/".join(["deep" * 30] * 8), content=b"z"),
        symlink("far", "/".join(["t" * 100] * 3)),
        Member(path="empty"),
    ),
)
VARIABLES = {"ODD": 'a b$c"d', "PLAIN": "plain"}


def listing(root: Path, *, owners: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: kind and mode, owner, time, content or target; hard links by number."""
    found: dict[str, tuple[object, ...]] = {}
    for place, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(place, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            owner = (status.st_uid, status.st_gid) if owners else None
            links = status.st_nlink if stat.S_ISREG(status.st_mode) else 0
            found[str(path.relative_to(root))] = (
                oct(status.st_mode),
                owner,
                int(status.st_mtime),
                links,
                content,
            )
    return found


@pytest.fixture
def hard(store) -> Image:
    """An image with links, modes, names, devices, whiteouts, and marks of catalogues of its own."""
    return make_image(store, LAYERS, variables=VARIABLES, entrypoint=("/bin/tool", 'x y$z"'))


SERVER = r"""
import json, os, shutil, subprocess, sys
from pathlib import Path

place = Path(os.environ["STAND_IN"])
mounted, backup, fault = place / "cvmfs", place / "backup", os.environ.get("FAULT", "")
words = sys.argv[1:]
with (place / "calls").open("a") as file:
    file.write(json.dumps(words) + "\n")

def drop():
    shutil.rmtree(mounted)
    backup.rename(mounted)

def begin():
    if backup.exists():
        print("another transaction is already open")
        sys.exit(17)
    subprocess.run(["cp", "-a", mounted, backup], check=True)

if fault == words[0]:
    print(f"{words[0]} went wrong")
    sys.exit(int(os.environ.get("STATUS", "1")))
if words[0] == "transaction":
    begin()
elif words[0] == "publish":
    if not backup.exists():
        sys.exit(1)
    shutil.rmtree(backup)
    if fault == "signed":
        print("failed to mount")
        sys.exit(32)
elif words[0] == "abort":
    if not backup.exists():
        sys.exit(22)
    drop()
elif words[0] == "ingest":
    if backup.exists():
        print("Impossible to start a transaction")
        sys.exit(1)
    begin()
    for word, path in zip(words[1:], words[2:]):
        if word == "--delete":
            for one in path.split(":"):
                shutil.rmtree(mounted / one)
    if "-t" in words:
        command = ["tar", "--delay-directory-restore", "-xpf", "-", "-C", mounted]
        tar = subprocess.Popen(command, stdin=subprocess.PIPE)
        size = 0
        while data := sys.stdin.buffer.read(4096):
            size += len(data)
            if fault == "half" and size > 20_000:
                tar.kill()
                tar.wait()
                drop()
                print("Synchronization failed")
                sys.exit(1)
            try:
                tar.stdin.write(data)
            except BrokenPipeError:
                pass
        try:
            tar.stdin.close()
        except BrokenPipeError:
            pass
        if tar.wait():
            drop()
            print("Fatal error in reading the archive.")
            sys.exit(1)
    shutil.rmtree(backup)
    if fault == "signed":
        sys.exit(32)
else:
    sys.exit(99)
"""


class Server:
    """The stand-in: it keeps a copy of the repository while a transaction is open."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self._monkeypatch = place, monkeypatch
        self.mounted = place / "cvmfs"
        self.mounted.mkdir(parents=True)
        (place / "server.py").write_text(SERVER)
        monkeypatch.setenv("AFENV_CVMFS_SERVER", f"{sys.executable} {place / 'server.py'}")
        monkeypatch.setenv("STAND_IN", str(place))

    def fail(self, fault: str, status: int = 1) -> None:
        """Let a command fail from now on."""
        self._monkeypatch.setenv("FAULT", fault)
        self._monkeypatch.setenv("STATUS", str(status))

    def calls(self) -> list[list[str]]:
        """The words of all calls so far."""
        import json

        calls = self.place / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    @property
    def open(self) -> bool:
        """Whether a transaction is open."""
        return (self.place / "backup").exists()

    def target(self, method: str) -> Target:
        """The repository as a target."""
        return Target(method=method, place=self.mounted, repository="sw.example.org")  # type: ignore[arg-type]


@pytest.fixture
def server(tmp_path, monkeypatch) -> Server:
    """A stand-in for cvmfs_server, with a repository."""
    return Server(tmp_path / "server", monkeypatch)


Listing = Callable[..., dict[str, tuple[object, ...]]]


@pytest.fixture
def listed() -> Listing:
    """:func:`listing`."""
    return listing
