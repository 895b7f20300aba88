"""Bringing one blob into the content store: one pass of hashing, resumed after a cut, from several places."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from afenv.digest import check_form
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import record
from afenv.store.content import ContentStore
from afenv.store.partial import Partial, Stopped, hold_partial
from afenv_registry.answers import Answer, Response
from afenv_registry.receiving import Receiver
from afenv_registry.session import Session
from afenv_registry.transport import TRY_AGAIN, is_final
from afenv_registry.urls import same_origin

GAIN = 1 << 16  # bytes; an attempt that brought as many was not in vain
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)\Z")


@record
class Wanted:
    """A blob, as the downloads of the content store know files."""

    digest: str
    size: int


class _Again(Exception):
    """The attempt failed in a way that may pass; ``answer`` is what the registry said, if it did."""

    def __init__(self, error: AfenvError, answer: Answer | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.answer = answer


def fetch(
    sessions: Sequence[Session],
    digest: str,
    size: int,
    store: ContentStore,
    progress: Progress,
    stop: threading.Event,
    *,
    alone: bool = True,
) -> None:
    """Bring a blob into the store from the first place that gives exactly its bytes.

    ``alone`` says that few others are fetched meanwhile, so that it is worth hashing it in a thread.
    It is trusted by this process; by others after the store's ``sync``. What came before a failure is kept
    for the next attempt, of this process or another. E301 and E302 if what comes is not what was asked for
    (nothing is kept), E604 if no place has it, E601, E602, E201, E402, E403; ``Stopped`` if ``stop`` is set.
    """
    wanted = Wanted(digest=check_form(digest), size=size)
    with hold_partial(store, wanted, progress, stop) as part:
        if store.trusted(digest, size):  # another process was faster
            part.drop()
            progress.advance(size - part.size)
            return
        problems: list[AfenvError] = []
        for session in sessions:
            try:
                _persist(session, part, stop, alone)
                store.adopt(part.path, digest, size)
                return
            except AfenvError as error:
                if error.code == "E402":  # what it holds is what the disk lacks
                    part.drop()
                if error.code in ("E402", "E403", "E901"):
                    raise
                if error.code in ("E301", "E302"):
                    part.restart()
                session.down = error.code == "E201"
                problems.append(error)
        problems.sort(key=lambda error: error.code not in ("E301", "E302"))  # the gravest gives the status
        raise AfenvError.many([problem for error in problems for problem in error.problems])


def _persist(session: Session, part: Partial, stop: threading.Event, alone: bool) -> None:
    failures, highest = 0, part.highest
    patience = session.transport.patience
    while True:
        try:
            return _attempt(session, part, stop, alone)
        except _Again as again:
            if part.highest >= highest + GAIN:
                failures, highest = 0, part.highest
            failures += 1
            if failures >= patience.attempts:
                raise again.error from None
            asked = again.answer.header("retry-after") if again.answer else None
        if stop.is_set():
            raise Stopped
        session.transport.wait(failures, asked, session.endpoint.host)


def _attempt(session: Session, part: Partial, stop: threading.Event, alone: bool) -> None:
    size, resumed = part.file.size, part.size
    if resumed > size:
        part.restart()
        resumed = 0
    if resumed < size or size == 0:
        where = f"blobs/{part.file.digest}"
        try:
            with session.stream(where, {"Range": f"bytes={resumed}-"} if resumed else {}) as response:
                _accept(session, part, response)
                with Receiver(part, alone=alone) as receiver:
                    while receiver.take(response):
                        if stop.is_set():
                            raise Stopped
                        if part.size > size:
                            text = f"{part.file.digest} has {size} bytes, and it sends more"
                            raise _bad(session, "E302", text)
        except OSError as error:
            failed = session.transport.failed(error, session.url(where))
            if session.transport.closed or is_final(error):
                raise failed from None
            raise _Again(failed) from None
    if part.size < size:  # an end without an announced length may be a cut
        found = f"{part.file.digest} has {size} bytes, and it sends {part.size}"
        raise _Again(_bad(session, "E302", found))
    if (found := part.digest()) != part.file.digest:
        part.restart()
        wrong = _bad(session, "E301", f"for {part.file.digest} it sends {found}")
        if resumed:  # it may be the part from before that was wrong
            raise _Again(wrong)
        raise wrong


def _accept(session: Session, part: Partial, response: Response) -> None:
    """Let the answer's body follow, from the byte at which the part ends."""
    if response.status == 200:
        if part.size:
            part.restart()
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) != part.file.size:
            text = f"{part.file.digest} has {part.file.size} bytes, and it sends {int(length)}"
            raise _bad(session, "E302", text)
        return
    if response.status == 206 and part.size:
        found = _RANGE.match(response.headers.get("content-range", ""))
        if found and int(found[1]) == part.size and found[2] in ("*", str(part.file.size)):
            return
        part.restart()
        raise _Again(_bad(session, "E602", "it sends another part than was asked for"))
    answer = Answer(response.status, response.headers, response.read(1 << 16) or b"", response.url)
    if response.status == 404:
        raise _bad(session, "E604", f"there is no blob {part.file.digest}")
    error = session.refused(answer, f"it does not give {part.file.digest}")
    if part.size and response.status not in (401, 403, *TRY_AGAIN):  # such as 416: no parts from here
        part.restart()
        raise _Again(error)
    if response.status in TRY_AGAIN or not same_origin(response.url, session.endpoint.base):
        raise _Again(error, answer)  # from a storage elsewhere, whose URLs are good for a while only
    raise error


def _bad(session: Session, code: str, text: str) -> AfenvError:
    return AfenvError(code, text, place=str(session))
