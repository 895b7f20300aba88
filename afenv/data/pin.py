"""Pin data: read every file once, from its storage, and write down its size and checksums.

Adler-32 and MD5 are what storage of the grid has; the SHA-256 is ours, and what a fetch is checked by. What
the manifest, a record or the storage itself states has to agree with what was read. The bytes go into the
content store on the way, so that a fetch has them; with ``keep=False`` nothing is stored.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Sequence

from afenv.data.access import DataAccess, failed
from afenv.data.fetch import MARGIN, THREADS, part_name, store_part
from afenv.data.parallel import for_each
from afenv.data.part import Incoming, hold_part
from afenv.data.receive import receive
from afenv.data.source import Found
from afenv.documents.data import LockedData, LockedDataFile
from afenv.errors import AfenvError, Problem
from afenv.progress import Progress, human_size
from afenv.record import replace
from afenv.store.transport import SourceError

ALGORITHMS = ("sha256", "md5", "adler32")
Key = tuple[str, str]  # the name of the reference, the path of the file


class Pinning:
    """The files of several references on their way to being pinned; :meth:`data` tells how far it is."""

    def __init__(self, wanted: Sequence[LockedData], *, again: bool = False) -> None:
        self._data = {data.name: data for data in wanted}
        self._files = {(data.name, file.path): file for data in wanted for file in data.files}
        self.left: list[Key] = [key for key, file in self._files.items() if again or not file.pinned]
        self._lock = threading.Lock()

    def data(self) -> list[LockedData]:
        """The references as they are now."""
        with self._lock:
            return [
                replace(data, files=tuple(self._files[name, file.path] for file in data.files))
                for name, data in self._data.items()
            ]

    def file(self, key: Key) -> LockedDataFile:
        """A file as it is now."""
        return self._files[key]

    def done(self, key: Key, file: LockedDataFile) -> None:
        """A file was pinned."""
        with self._lock:
            self._files[key] = file


def pin_files(
    pinning: Pinning,
    access: DataAccess,
    *,
    keep: bool = True,
    quiet: bool = False,
    threads: int = THREADS,
    saved: Callable[[], None] = lambda: None,
) -> list[Problem]:
    """Read what is left; the problems, one for each file that was not pinned. ``saved`` is called after each.

    The problems are E641, E642, E201, E202, E640, E646, E647; E402, E403, E649 are raised.
    """
    names = sorted({name for name, _ in pinning.left})
    with access.store.in_use(), Progress(f"reading {', '.join(names)}", 0, quiet=quiet) as progress:
        looked = _look_at_all(pinning, access, threads)
        progress.total = sum(found.size or pinning.file(key).size or 0 for key, found in looked.items())
        if keep:
            _check_space(access, progress.total)

        def work(key: Key, stop: threading.Event) -> None:
            file = pinning.file(key)
            pinning.done(key, _pin(access, file, looked[key], ", ".join(key), keep, progress, stop))
            saved()

        problems = for_each(pinning.left, work, threads=threads)
        access.store.sync()
    fatal = [one for one in problems.values() if one.code in ("E402", "E403")]
    if fatal:
        raise AfenvError.many(fatal)
    return [problems[position] for position in sorted(problems)]


def _look_at_all(pinning: Pinning, access: DataAccess, threads: int) -> dict[Key, Found]:
    """What the storage states of each file; nothing where it does not answer, which the reading will say."""
    found = {key: Found() for key in pinning.left}

    def work(key: Key, stop: threading.Event) -> None:
        for uri in access.replicas(pinning.file(key).uris):
            with contextlib.suppress(SourceError):
                found[key] = access.look(uri, stop)
                return

    for_each(pinning.left, work, threads=2 * threads)
    return found


def _check_space(access: DataAccess, size: int) -> None:
    folder = access.store.temporary_folder()
    free = shutil.disk_usage(folder).free
    if size + MARGIN > free:
        message = f"{human_size(size)} are to be read into the cache, and {human_size(free)} are free"
        raise AfenvError("E649", message, place=str(folder))


def _pin(
    access: DataAccess,
    file: LockedDataFile,
    stated: Found,
    what: str,
    keep: bool,
    progress: Progress,
    stop: threading.Event,
) -> LockedDataFile:
    """The file with what was read of it."""
    algorithms = (*ALGORITHMS, *file.checksums, *stated.checksums)
    failures: list[tuple[str, SourceError]] = []
    if keep and not all(uri.startswith("file:") for uri in file.uris):
        path = access.store.temporary_folder() / f"part-{part_name(_as_stated(file, stated))}"
        with hold_part(path, algorithms, progress.advance, stop) as part:
            if part.size and not (file.checksums or stated.checksums):
                part.restart()  # nothing would tell whether the rest belongs to it
            came = receive(access, file, part, stop, failures)
            size = part.size
            if came is not None:
                store_part(access, file, part, came[1])
    else:
        incoming = Incoming(algorithms, progress.advance)
        try:
            came = receive(access, file, incoming, stop, failures)
            size = incoming.size
        finally:
            incoming.close()
    if came is None:
        raise failed(what, failures)
    uri, found = came
    _agree(stated, size, found, uri, what)
    return replace(file, size=size, checksums=found)


def _as_stated(file: LockedDataFile, stated: Found) -> LockedDataFile:
    """What names the partial file: data that has changed does not go on with what came before."""
    checksums = dict(stated.checksums) | dict(file.checksums)
    return replace(file, size=file.size if file.size is not None else stated.size, checksums=checksums)


def _agree(stated: Found, size: int, found: dict[str, str], uri: str, what: str) -> None:
    """E641 if the storage states something else than what it gave."""
    reason = None
    if stated.size not in (None, size):
        reason = f"the storage states {stated.size} bytes, and gave {size}"
    for algorithm, digits in stated.checksums.items():
        if found[algorithm] != digits:
            reason = f"the storage states {algorithm}:{digits}, and gave {algorithm}:{found[algorithm]}"
    if reason:
        remedy = "The storage's own checksum is wrong, or the data is damaged there: tell its operators."
        raise failed(what, [(uri, SourceError("E641", reason, remedy=remedy))])
