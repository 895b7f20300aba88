"""Packing a tar stream into squashfs: the host's tools, and how they are called.

With zstd no tool is needed: :func:`own_tool`.

What a tool can do is found by letting it pack three small members, not from its version. mksquashfs takes
the times of files from the tar; ``SOURCE_DATE_EPOCH`` is the time of the file system and the latest that a
file may have, and so that of the root folder, which mksquashfs does not take from a tar. Where that time
is still to come, all files have it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from fcntl import F_SETPIPE_SZ, fcntl
from functools import cache
from pathlib import Path

from afenv.errors import AfenvError
from afenv.layers.tar_header import END, FILE, FOLDER, HARD_LINK, header, padding
from afenv.oci.squashfs import Squashfs
from afenv.record import record

LEVELS: dict[str, int] = {"zstd": 3, "gzip": 6}
MOST_LEVELS: dict[str, int] = {"zstd": 22, "gzip": 9}
MEMORY = 128  # MiB that the tool may take for its buffers; more makes it slower
ELSEWHERE = ("/usr/sbin", "/sbin")  # folders that an ordinary user may not have in PATH
OWN = "afenv"  # packing without a program of the host
FORM = 3  # of what is packed without one: another number where the same files give other bytes
BATCH = 1 << 20
MOST_PIECES = 1000  # of one writev; Linux takes 1024
LATEST = 0xFFFFFFFF  # squashfs has 32 bits for a time


@record
class Packing:
    """How to pack; ``time`` is that of the image, in seconds since 1970."""

    compressor: str
    level: int
    threads: int
    time: int

    def ahead(self) -> bool:
        """Whether that time has not come yet on this host, so that it cannot be the latest of all files."""
        return self.time > time.time()

    @property
    def name(self) -> str:
        """The compressor and its level, such as ``zstd-3``."""
        return f"{self.compressor}-{self.level}"


@record
class Tool:
    """A program that packs: its name, its path, and what it says of its version.

    ``before`` stands before it on the command line.
    """

    name: str
    path: str
    version: str = ""
    before: tuple[str, ...] = ()

    def command(self, packing: Packing, output: Path, offset: int) -> list[str]:
        """The command line that packs standard input into ``output``, ``offset`` bytes from its start."""
        if self.name == "tar2sqfs":
            return [
                *(self.path, "--quiet", "--force", "--compressor", packing.compressor),
                *("--comp-extra", f"level={packing.level}", "--num-jobs", str(packing.threads)),
                *("--defaults", f"uid=0,gid=0,mode=0755,mtime={packing.time}", str(output)),
            ]
        return [
            *(*self.before, self.path, "-", str(output), "-tar", "-comp", packing.compressor),
            *("-Xcompression-level", str(packing.level), "-root-mode", "755"),
            *("-processors", str(packing.threads), "-mem", f"{MEMORY}M", "-exit-on-error"),
            *("-quiet", "-no-progress", "-noappend", "-no-recovery"),
            *(("-offset", str(offset)) if offset else ()),
            *(("-all-time", str(packing.time), "-mkfs-time", str(packing.time)) if packing.ahead() else ()),
        ]


# mksquashfs gives the root folder of a tar to whoever calls it, and has no option that changes only that
AS_ROOT = ("unshare", "--map-root-user", "--")


def own_tool() -> Tool:
    """Packing in this process, with zstd; see :mod:`afenv_builders.apptainer.packing_own`."""
    import zstandard

    version = ".".join(str(number) for number in zstandard.ZSTD_VERSION)
    return Tool(name=OWN, path="", version=f"afenv's own writer {FORM}, zstd {version}")


def find_tool(compressor: str) -> Tool | None:
    """The first of mksquashfs and tar2sqfs that packs a tar with that compressor on this host."""
    for name in ("mksquashfs", "tar2sqfs"):
        path = shutil.which(name) or shutil.which(name, path=":".join(ELSEWHERE))
        for before in ((), AS_ROOT) if shutil.which(AS_ROOT[0]) else ((),):
            if path and (version := _works(name, path, compressor, before)):
                return Tool(name=name, path=path, version=version, before=before)
    return None


@cache
def _works(name: str, path: str, compressor: str, before: tuple[str, ...]) -> str:
    """What the tool says of its version if it packs as it should, else an empty text."""
    tool = Tool(name=name, path=path, before=before)
    content = b"content\n"
    members = (
        header(b"folder/file", 0o640, 1, FILE, len(content)) + content + padding(len(content)),
        header(b"folder/", 0o711, 2, FOLDER),
        header(b"link", 0o644, 0, HARD_LINK, target=b"folder/file"),
        END,
    )
    with tempfile.TemporaryDirectory(prefix="afenv-packing-") as folder:
        output = Path(folder) / "try"
        packing = Packing(compressor=compressor, level=LEVELS[compressor], threads=1, time=3)
        try:
            pack(tool, packing, (memoryview(member) for member in members), output)
            with Squashfs.open(output) as packed:
                found = {entry.path: entry for entry in packed.entries()}
                root = packed.root()
        except AfenvError:
            return ""
    good = (
        (root.mode, root.uid, root.mtime) == (0o755, 0, 3)
        and found.keys() == {"folder", "folder/file", "link"}
        and (found["folder"].mode, found["folder"].mtime) == (0o711, 2)
        and all((found[one].mtime, found[one].size) == (1, len(content)) for one in ("link", "folder/file"))
    )
    return _version(name, path) if good else ""


def _version(name: str, path: str) -> str:
    option = "-version" if name == "mksquashfs" else "--version"
    done = subprocess.run([path, option], capture_output=True, text=True, check=False)
    words = (done.stdout or done.stderr).split("\n")[0].split()
    number = next((word for word in words if word[:1].isdigit()), "")
    return f"{name} {number}".strip()


def pack(tool: Tool, packing: Packing, pieces: Iterable[memoryview], output: Path, offset: int = 0) -> None:
    """Pack a tar into squashfs in ``output``, ``offset`` bytes from its start; nothing is there before.

    E402 if the disk is full, E413 if the tool fails or complains.
    """
    environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(packing.time)}
    if packing.ahead():
        del environment["SOURCE_DATE_EPOCH"]  # mksquashfs takes it or options
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            tool.command(packing, output, offset if tool.name == "mksquashfs" else 0),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env=environment,
        )
        assert process.stdin is not None
        try:
            with process.stdin as pipe, contextlib.suppress(BrokenPipeError):  # it says why itself
                with contextlib.suppress(OSError):  # more than this user may have
                    fcntl(pipe.fileno(), F_SETPIPE_SZ, BATCH)
                for batch in _batches(pieces):
                    _write(pipe.fileno(), batch)
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        said.seek(0)
        words = " ".join(said.read(4096).decode(errors="replace").split())
    if process.returncode != 0 or words:
        if "no space left" in words.lower():
            raise AfenvError("E402", f"{tool.name}: {words}", place=str(output))
        raise AfenvError("E413", f"{tool.name}: {words or f'exit status {process.returncode}'}")
    if offset and tool.name == "tar2sqfs":
        _move_back(output, offset)


def _batches(pieces: Iterable[memoryview]) -> Iterator[list[memoryview]]:
    batch, size = [], 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= BATCH or len(batch) >= MOST_PIECES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write(descriptor: int, batch: list[memoryview]) -> None:
    size = sum(map(len, batch))
    written = os.writev(descriptor, batch)
    if written < size:
        rest = memoryview(b"".join(batch))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _move_back(path: Path, offset: int) -> None:
    """Put ``offset`` zero bytes in front of a file's content."""
    moved = path.with_name(path.name + ".moved")
    with path.open("rb") as source, moved.open("xb") as target:
        target.seek(offset)
        shutil.copyfileobj(source, target, BATCH)
    moved.replace(path)
