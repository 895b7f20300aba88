"""Bring data to a folder, verified.

A file whose sha256 is known and that the content store has is linked from there (a hard link, or shared
blocks, where the file system can). Otherwise it comes from the best replica into a partial file, which
another attempt goes on with; when size and all known checksums are right, it becomes a blob of the store
and is linked. Where the destination is on another file system than the store, and for files of this
machine, it is written beside the destination instead, and not stored twice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from afenv import canonical
from afenv.data.access import DataAccess, failed
from afenv.data.digests import Digests
from afenv.data.parallel import for_each, raise_all
from afenv.data.part import Part, hold_part
from afenv.data.receive import receive
from afenv.digest import sha256_bytes
from afenv.documents.data import INSIDE, LockedData, LockedDataFile
from afenv.errors import AfenvError
from afenv.progress import Progress, human_size
from afenv.store.content import write_error
from afenv.store.transport import SourceError, without_secrets

THREADS = 4
KNOWN = "data"  # under what a file without sha256 was found before
MARGIN = 64 << 20  # bytes that are left free


def fetch_data(
    locked: LockedData,
    destination: Path,
    *,
    access: DataAccess,
    quiet: bool = False,
    threads: int = THREADS,
) -> tuple[Path, ...]:
    """The files of data under ``destination``, in the order of the lock; see :func:`fetch_all`."""
    return fetch_all([(locked, destination)], access=access, quiet=quiet, threads=threads)[0]


def fetch_all(
    wanted: Iterable[tuple[LockedData, Path]],
    *,
    access: DataAccess,
    quiet: bool = False,
    threads: int = THREADS,
) -> list[tuple[Path, ...]]:
    """The files of several references, each under its folder, several at once.

    Files that are there already and are right are left as they are. E641 if what came is not what is known
    of it, E642 if no replica has it, E645 if it is not known which files it is; E201, E202, E203, E402,
    E403, E640, E646, E647, E649.
    """
    wanted = list(wanted)
    for locked, _ in wanted:
        if not locked.files:
            raise AfenvError(
                "E645",
                f"which files the data {locked.name} is was not looked up",
                place=without_secrets(locked.uri),
            )
    jobs = [
        (file, destination / file.path, locked.name)
        for locked, destination in wanted
        for file in locked.files
    ]
    with access.store.in_use():
        missing = [job for job in jobs if not _placed(access, job[0], job[1])]
        if missing:
            _fetch(access, missing, quiet=quiet, threads=threads)
    return [tuple(destination / file.path for file in locked.files) for locked, destination in wanted]


def _fetch(
    access: DataAccess, jobs: Sequence[tuple[LockedDataFile, Path, str]], *, quiet: bool, threads: int
) -> None:
    jobs = sorted(jobs, key=lambda job: -(job[0].size or 0))
    total = sum(file.size or 0 for file, _, _ in jobs)
    _check_space(access, jobs)
    names = sorted({name for _, _, name in jobs})
    with Progress(f"fetching {', '.join(names)}", total, quiet=quiet) as progress:

        def work(job: tuple[LockedDataFile, Path, str], stop: threading.Event) -> None:
            file, target, name = job
            if file.size is None:
                _count_in(access, file, progress)
            _bring(access, file, target, f"{name}, {file.path}", progress, stop)

        problems = for_each(jobs, work, threads=threads)
        access.store.sync()
        raise_all(problems)


def _count_in(access: DataAccess, file: LockedDataFile, progress: Progress) -> None:
    with contextlib.suppress(SourceError):
        progress.total += access.look(access.replicas(file.uris)[0]).size or 0


def _check_space(access: DataAccess, jobs: Sequence[tuple[LockedDataFile, Path, str]]) -> None:
    """E649 if what is known to come does not fit, before hours are spent on it."""
    needed: dict[int, tuple[int, Path]] = {}
    for file, target, _ in jobs:
        folder = target.parent if _directly(access, file, target) else access.store.temporary_folder()
        while not folder.exists():
            folder = folder.parent
        device = folder.stat().st_dev
        needed[device] = (needed.get(device, (0, folder))[0] + (file.size or 0), folder)
    for size, folder in needed.values():
        free = shutil.disk_usage(folder).free
        if size + MARGIN > free:
            message = f"{human_size(size)} of data are to come, and {human_size(free)} are free"
            raise AfenvError("E649", message, place=str(folder))


def _directly(access: DataAccess, file: LockedDataFile, target: Path) -> bool:
    """Whether the file is written beside its destination, and not into the store."""
    if any(urlsplit(uri).scheme == "file" for uri in file.uris):
        return True
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev != access.store.temporary_folder().stat().st_dev


def _placed(access: DataAccess, file: LockedDataFile, target: Path) -> bool:
    """Whether the file is at its place, right; it is put there if the store has it."""
    if not INSIDE.match(file.path):
        raise AfenvError(
            "E644", f"{file.path!r} leads out of its folder", place=without_secrets(file.uris[0])
        )
    digest = _known_digest(access, file)
    if digest and access.store.trusted(digest, file.size):
        if not (target.exists() and target.samefile(access.store.path(digest))):
            _make_folder(target.parent)
            access.store.link_or_copy(digest, target)
        return True
    if not target.is_file() or not file.checksums:
        return False
    if file.size is not None and target.stat().st_size != file.size:
        return False
    digests = Digests(file.checksums)
    try:
        with target.open("rb", buffering=0) as content:
            while data := content.read(1 << 20):
                digests.update(data)
        return digests.results() == dict(file.checksums)
    finally:
        digests.close()


def _key(file: LockedDataFile) -> str | None:
    """Under what the store remembers a file whose sha256 is not known; None if too little is known of it."""
    if not file.checksums or file.size is None:
        return None
    value = {"uri": file.uris[0], "size": file.size, "checksums": dict(file.checksums)}
    return sha256_bytes(canonical.compact(value))


def _known_digest(access: DataAccess, file: LockedDataFile) -> str | None:
    if file.sha256:
        return "sha256:" + file.sha256
    key = _key(file)
    kept = access.store.load_key(KNOWN, key) if key else None
    digest = kept.get("blob") if isinstance(kept, dict) else None
    return digest if isinstance(digest, str) and digest.startswith("sha256:") and len(digest) == 71 else None


def part_name(file: LockedDataFile) -> str:
    """The name of the partial file: that of another content, or another place, is another one."""
    value = {
        "size": file.size,
        "checksums": dict(file.checksums),
        "uri": None if file.sha256 else file.uris[0],
    }
    return "data-" + sha256_bytes(canonical.compact(value))[7:39]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder) from error


def _bring(
    access: DataAccess,
    file: LockedDataFile,
    target: Path,
    what: str,
    progress: Progress,
    stop: threading.Event,
) -> None:
    directly = _directly(access, file, target)
    if directly:
        _make_folder(target.parent)
        path = target.parent / f".{part_name(file)}.part"
    else:
        path = access.store.temporary_folder() / f"part-{part_name(file)}"
    algorithms = ("sha256",) if file.sha256 else ("sha256", *file.checksums)
    with hold_part(path, algorithms, progress.advance, stop) as part:
        if not directly and _placed(access, file, target):  # another process was faster
            part.drop()
            progress.advance((file.size or 0) - part.size)
            return
        if part.size and not file.checksums:  # nothing would tell whether the rest belongs to it
            part.restart()
        failures: list[tuple[str, SourceError]] = []
        came = receive(access, file, part, stop, failures)
        if came is None:
            raise failed(what, failures)
        if directly:
            _finish_beside(part, target)
        else:
            digest = store_part(access, file, part, came[1])
            _make_folder(target.parent)
            access.store.link_or_copy(digest, target)


def store_part(access: DataAccess, file: LockedDataFile, part: Part, found: dict[str, str]) -> str:
    """Make a complete part a blob of the store; its digest. The store's ``sync`` is still to be called."""
    digest = "sha256:" + found["sha256"]
    access.store.adopt(part.path, digest, part.size)
    if not file.sha256 and (key := _key(file)):
        access.store.save_key(KNOWN, key, {"blob": digest})
    return digest


def _finish_beside(part: Part, target: Path) -> None:
    try:
        os.fchmod(part.descriptor, 0o444)
        part.sync()
        part.path.replace(target)
    except OSError as error:
        raise write_error(error, target) from error
