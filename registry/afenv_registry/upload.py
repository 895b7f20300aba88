"""Sending one blob: mounted if the registry can, else in one request, or in chunks if it is large.

After a failure the registry is asked how far the upload came (OCI distribution specification 1.1, pushing a
blob in chunks), and it goes on there. A registry that has forgotten it gets the blob from the start, and one
that knows no chunks gets it in one request.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from afenv.errors import AfenvError
from afenv_registry.answers import Answer
from afenv_registry.session import Session
from afenv_registry.transport import TRY_AGAIN
from afenv_registry.wire import Body

CHUNK = 64 << 20  # bytes; a blob up to this size is sent in one request
NO_CHUNKS = (400, 404, 405, 411, 413, 415, 501)  # what registries say that do not take chunks
SOURCES = 3  # repositories that are asked for one blob
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})\Z")

Opener = Callable[[], BinaryIO]


def upload(
    session: Session,
    digest: str,
    size: int,
    open_file: Opener,
    *,
    mount_from: Sequence[str] = (),
    sent: Callable[[int], None] = lambda _: None,
) -> None:
    """Send a blob that the repository lacks: see :meth:`Repository.put_blob`."""
    _Upload(session, digest, size, open_file, sent).run(mount_from)


def mount(session: Session, digest: str, source: str) -> bool:
    """Let the registry take a blob from its repository ``source``; whether it did."""
    answer = _ask_to_mount(session, digest, source)
    if answer.status == 202 and (location := answer.header("location")):  # an upload that nobody wants
        session.send("DELETE", session.url(location, answer.url), once=True)
    return answer.status == 201


def _ask_to_mount(session: Session, digest: str, source: str) -> Answer:
    session.authorization.also_from(source)
    return session.send("POST", f"blobs/uploads/?mount={quote(digest)}&from={quote(source, safe='/')}")


class _Upload:
    """One blob on its way: where it goes, and how much of it is there."""

    def __init__(
        self, session: Session, digest: str, size: int, open_file: Opener, sent: Callable[[int], None]
    ) -> None:
        self._session = session
        self._digest = digest
        self._size = size
        self._open = open_file
        self._sent = sent
        self._url = ""
        self._at = 0  # bytes that the registry has, and that were counted as sent
        self._chunk = CHUNK
        self._chunks = size > CHUNK

    def run(self, mount_from: Sequence[str]) -> None:
        if self._mount(mount_from):
            return
        if self._size <= CHUNK:
            self._send_all()
            return
        from afenv_registry.bookmarks import load_bookmark, remove_bookmark

        place = self._session.endpoint.base
        self._url = load_bookmark(place, self._digest) or self._url
        if self._url:
            self._find_out()
        self._send_all()
        remove_bookmark(place, self._digest)

    def _send_all(self) -> None:
        failures, before = 0, self._at
        if not self._url:
            self._begin(self._session.send("POST", "blobs/uploads/"))
        while True:
            asked: str | None = None
            at = self._at
            try:
                answer = self._step()
            except AfenvError as error:
                failures = 1 if self._at > before else failures + 1
                if error.code != "E201" or failures >= self._session.transport.patience.attempts:
                    raise
            else:
                if answer is None:
                    return
                if answer.status < 300 and self._at > at:
                    continue
                failures = 1 if self._at > before else failures + 1
                if not self._may_pass(answer, failures):
                    raise self._refused(answer)
                asked = answer.header("retry-after")
            before = self._at
            self._session.transport.wait(failures, asked, self._session.endpoint.host)
            if self._is_there():
                return
            self._find_out()

    def _may_pass(self, answer: Answer, failures: int) -> bool:
        if failures >= self._session.transport.patience.attempts or b"DIGEST_INVALID" in answer.body:
            return False
        in_chunks = self._chunks and self._at > 0  # it took some already
        if in_chunks and answer.status == 400 and self._at < self._size:
            return True  # it does not know any more how far it was
        if answer.status in NO_CHUNKS and not in_chunks and (self._chunks or self._at > 0):
            self._chunks = False
            self._url = ""
            return True
        return answer.status in (*TRY_AGAIN, 404, 416)

    def _refused(self, answer: Answer) -> AfenvError:
        if b"DIGEST_INVALID" in answer.body:
            text = f"the registry finds another content in {self._digest}: {answer.words()}"
            return AfenvError("E301", text, place=str(self._session))
        return self._session.refused(answer, f"it does not take the blob {self._digest}")

    def _is_there(self) -> bool:
        """Whether an attempt that seemed to fail went through after all."""
        there = self._session.send("HEAD", f"blobs/{self._digest}").status == 200
        if there:
            self._sent(self._size - self._at)
        return there

    def _mount(self, sources: Sequence[str]) -> bool:
        begun: Answer | None = None
        for source in sources[:SOURCES]:
            answer = _ask_to_mount(self._session, self._digest, source)
            if answer.status == 201:
                self._sent(self._size)
                return True
            begun = answer if answer.status == 202 else begun
        if begun is not None:  # what was not mounted is an upload that has begun
            self._begin(begun)
        return False

    def _begin(self, answer: Answer) -> None:
        """Take up a new upload."""
        if answer.status != 202:
            raise self._session.refused(answer, "it does not take uploads")
        self._sent(-self._at)
        self._at = 0
        self._locate(answer)
        if not self._url:
            raise AfenvError("E602", "it does not say where to upload to", place=str(self._session))
        least = answer.header("oci-chunk-min-length") or ""
        if least.isdecimal():
            self._chunk = max(CHUNK, int(least[:12]))

    def _locate(self, answer: Answer) -> None:
        location = answer.header("location")
        if location:
            self._url = self._session.url(location, answer.url)

    def _find_out(self) -> None:
        """Ask how far the upload came; begin anew if the registry does not know it."""
        answer = self._status()
        found = _RANGE.match(answer.header("range") or "") if answer else None
        if answer is None or found is None:
            self._begin(self._session.send("POST", "blobs/uploads/"))
            return
        end = int(found[1])
        at = end + 1 if end else 0  # some say 0-0 of nothing: one byte is worth sending twice
        self._locate(answer)
        self._sent(at - self._at)
        self._at = at

    def _status(self) -> Answer | None:
        """What the registry says of the upload so far; None if it has none that can go on."""
        if not self._url:
            return None
        try:
            answer = self._session.send("GET", self._url, once=True)
        except AfenvError as error:
            if error.code == "E901":
                raise
            return None
        found = _RANGE.match(answer.header("range") or "")
        return answer if answer.status in (200, 202, 204) and found and int(found[1]) < self._size else None

    def _step(self) -> Answer | None:
        """The next request; None when the blob is there."""
        whole = not self._chunks and self._at == 0
        if not whole and self._at < self._size:
            return self._send_chunk()
        body = Body(open=self._open if whole else io.BytesIO, size=self._size if whole else 0)
        answer = self._session.send(
            "PUT",
            f"{self._url}{'&' if urlsplit(self._url).query else '?'}digest={quote(self._digest)}",
            headers={"Content-Type": "application/octet-stream"},
            body=body,
            sent=self._sent,
            once=True,
        )
        return None if answer.status == 201 else answer

    def _send_chunk(self) -> Answer:
        count = min(self._chunk, self._size - self._at)
        answer = self._session.send(
            "PATCH",
            self._url,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{self._at}-{self._at + count - 1}",
            },
            body=Body(open=self._open, size=count, start=self._at),
            sent=self._sent,
            once=True,
        )
        if answer.status in (202, 204, 201):
            self._at += count
            self._locate(answer)
            if self._at < self._size:
                from afenv_registry.bookmarks import save_bookmark

                save_bookmark(self._session.endpoint.base, self._digest, self._url)
            found = _RANGE.match(answer.header("range") or "")
            if found and int(found[1]) + 1 < self._at:  # it took less than was sent
                self._sent(int(found[1]) + 1 - self._at)
                self._at = int(found[1]) + 1
        return answer
