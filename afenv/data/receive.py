"""One file from its replicas, checked: what fetching and pinning have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial

from afenv.data.access import DataAccess
from afenv.data.part import Incoming
from afenv.documents.data import LockedDataFile
from afenv.store.partial import Stopped
from afenv.store.transport import SourceError


def receive(
    access: DataAccess,
    file: LockedDataFile,
    part: Incoming,
    stop: threading.Event,
    failures: list[tuple[str, SourceError]],
    replicas: Sequence[str] | None = None,
) -> tuple[str, dict[str, str]] | None:
    """The replica that gave the file, and its checksums; None if none did, and then ``failures`` say why.

    What is known of the file (size, checksums) is what has to come; a replica that gives something else is
    left for the next one. E402, E403.
    """
    for uri in access.replicas(file.uris) if replicas is None else replicas:
        began, had = time.monotonic(), part.size
        fill = partial(_fill, access, file, part, uri, stop)
        try:
            access.persist(uri, fill, stop, lambda: part.highest)
        except SourceError as error:
            failures.append((uri, error))
            if error.code in ("E641", "E302"):
                part.restart()
            continue
        access.measured(uri, part.size - had, time.monotonic() - began)
        return uri, part.results()
    return None


def _fill(access: DataAccess, file: LockedDataFile, part: Incoming, uri: str, stop: threading.Event) -> None:
    size, resumed = file.size, part.size
    if size is None or resumed < size or size == 0:
        _read(access, part, uri, size, stop)
    if size is not None and part.size < size:
        raise SourceError("E302", f"expected {size} bytes, found {part.size}", again=True)
    found = part.results()
    for algorithm, digits in file.checksums.items():
        if found.get(algorithm, digits) != digits:
            part.restart()
            # If a part came from an earlier attempt, it may be that part which is wrong.
            reason = f"expected {algorithm}:{digits}, found {algorithm}:{found[algorithm]}"
            raise SourceError("E641", reason, again=resumed > 0, pause=0.0)


def _read(access: DataAccess, part: Incoming, uri: str, size: int | None, stop: threading.Event) -> None:
    resumed = part.size
    try:
        with access.source(uri).read(uri, resumed) as content:
            if size is not None and content.size not in (None, size):
                raise SourceError("E641", f"expected {size} bytes, the storage has {content.size}")
            if content.start > resumed:
                raise SourceError("E202", "an answer that was not asked for")
            skip = 0
            if content.start < resumed:
                if content.start == 0 and type(part) is not Incoming:
                    part.restart()
                else:  # nothing of it was kept, but its checksums go on
                    skip = resumed - content.start
            whole = size if size is not None else content.size
            for data in content.chunks:
                if stop.is_set():
                    raise Stopped
                if skip:
                    kept = data[skip:]
                    skip -= len(data) - len(kept)
                    data = kept
                if size is not None and part.size + len(data) > size:
                    raise SourceError("E641", f"expected {size} bytes, the storage sends more")
                if data:
                    part.write(bytes(data))
            if whole is not None and part.size < whole:  # an end that looks like one may be a cut
                raise SourceError("E302", f"expected {whole} bytes, found {part.size}", again=True)
    except SourceError as error:
        if resumed and error.code == "E202" and not error.again:  # such as 416: no parts from here
            part.restart()
            raise SourceError("E202", error.reason, again=True, pause=0.0) from error
        raise
