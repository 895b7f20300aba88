"""Files of a repository as files of this host, at a place where a sandbox shows them as ``/cvmfs``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from afenv.cvmfs.catalogue import Entry
from afenv.cvmfs.tree import Snapshot
from afenv.store.content import write_error

SMALL = 1 << 16  # bytes of a file that is there with its content also among stubs
WRITERS = 4


def materialise(
    snapshot: Snapshot,
    entries: Mapping[str, Entry],
    root: Path,
    *,
    stubs: bool = False,
    done: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write paths of a repository below ``root/NAME``, which is made; the folder of the repository.

    With ``stubs`` a larger file has its size and nothing in it, and is not read. Times are those of the
    repository; access times are of 1970, so that it can be told what is read later on. Everything can be read
    by all. E402, E403, and as of :class:`Snapshot`.
    """
    base = root / snapshot.repository
    base.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, int], str] = {}
    links: list[tuple[str, str]] = []
    files: list[Entry] = []
    for path, entry in entries.items():
        group = (path.rpartition("/")[0], entry.group)
        if entry.kind == "f" and entry.group and group in groups:
            links.append((path, groups[group]))
        elif entry.kind == "f":
            groups[group] = path
            files.append(entry)

    def write(entry: Entry) -> None:
        place = f"{base}{entry.path}"
        with open(place, "xb") as file:  # noqa: PTH123
            if stubs and entry.size > SMALL:
                file.truncate(entry.size)
            else:
                for piece in snapshot.read(entry):
                    file.write(piece)
            os.fchmod(file.fileno(), 0o755 if entry.mode & 0o111 else 0o644)
        os.utime(place, (0, entry.mtime))
        done(entry.size)

    try:
        for path, entry in entries.items():
            parent = base / path.lstrip("/") if entry.kind == "d" else (base / path.lstrip("/")).parent
            parent.mkdir(parents=True, exist_ok=True)
            if entry.kind == "l" and entry.target:
                link = base / path.lstrip("/")
                link.symlink_to(entry.target)
                os.utime(link, (0, entry.mtime), follow_symlinks=False)
        pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="cvmfs")
        try:
            list(pool.map(write, files))
        finally:
            pool.shutdown(cancel_futures=True)
        for path, first in links:
            (base / path.lstrip("/")).hardlink_to(base / first.lstrip("/"))
    except OSError as error:
        raise write_error(error, base) from error
    return base


def was_read(base: Path, entries: Mapping[str, Entry]) -> list[str]:
    """The files and links of a materialised tree that were read since, by their access times."""
    found = []
    for path, entry in entries.items():
        if entry.kind == "d":
            continue
        try:
            status = os.lstat(f"{base}{path}")
        except OSError:
            continue
        if status.st_atime_ns:
            found.append(path)
    return found


def tells_reads(folder: Path) -> bool:
    """Whether the file system of a folder notes when a file is read."""
    probe = folder / f".probe-{os.urandom(4).hex()}"
    try:
        probe.write_bytes(b"x")
        os.utime(probe, (0, 1))
        probe.read_bytes()
        return bool(probe.stat().st_atime_ns)
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
