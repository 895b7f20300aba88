"""Requests to one repository at one place, with the authorization that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from afenv.errors import AfenvError
from afenv.record import replace
from afenv_registry.answers import Answer, Response
from afenv_registry.authorization import Authorization
from afenv_registry.routes import Endpoint
from afenv_registry.transport import ANSWER, Transport
from afenv_registry.urls import bare, join, same_origin
from afenv_registry.wire import Body, Broken

ASKED = 3  # how often one request is made with new authorization


class Session:
    """One repository at one place. URLs are given whole, or relative to the repository."""

    def __init__(self, transport: Transport, endpoint: Endpoint, actions: str) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.authorization = Authorization(transport, endpoint, actions)
        self.down = False  # a mirror that was not reached, and is not asked again

    def url(self, location: str, base: str | None = None) -> str:
        """The URL of a part of the repository, or what a ``Location`` header names.

        A registry behind a proxy that ends the encryption may name itself by HTTP: that is mended.
        """
        if base is None and location.startswith("blobs/sha256:"):  # of which there are many
            return self.endpoint.base + location
        found = join(base or self.endpoint.base, location)
        if not found.startswith(("https:", "http:")):
            raise AfenvError("E602", f"it leads to {bare(found)}, which is not HTTP", place=str(self))
        if self.endpoint.scheme == "https" and found.startswith("http:"):
            mended = "https:" + found[5:]
            if same_origin(mended, self.endpoint.base):
                return mended
            raise AfenvError("E602", f"it leads to {bare(found)} without encryption", place=str(self))
        return found

    def __str__(self) -> str:
        return str(self.endpoint)

    def send(
        self,
        method: str,
        location: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        sent: Callable[[int], None] = lambda _: None,
        once: bool = False,
        limit: int = ANSWER,
    ) -> Answer:
        """A request and its whole answer: see :meth:`Transport.send`."""

        def attempt() -> Answer:
            return self.transport.send(
                method,
                self.url(location),
                headers=headers,
                body=body,
                sent=sent,
                authorization=self.authorization.headers,
                once=once,
                limit=limit,
            )

        return self._authorized(attempt)

    def _authorized(self, attempt: Callable[[], Answer]) -> Answer:
        for count in range(ASKED):
            used = self.authorization.current
            try:
                answer = attempt()
            except AfenvError as error:
                if self.endpoint.guessed and isinstance(error.__context__, Broken) and self._speaks_tls():
                    self._encrypt()
                    continue
                raise
            if answer.status == 400 and self.endpoint.guessed and b"HTTPS" in answer.body:
                self._encrypt()
                continue
            if self.endpoint.guessed:
                self.endpoint = replace(self.endpoint, guessed=False)
            if answer.status != 401 or count == ASKED - 1 or not same_origin(answer.url, self.endpoint.base):
                break
            if not self.authorization.answer(answer, used):
                break
        return answer

    def _speaks_tls(self) -> bool:
        """Whether the registry speaks TLS where it was thought to speak plain HTTP."""
        from afenv_registry.connecting import connect

        patience = self.transport.patience
        try:
            connect("https", self.endpoint.host, patience.connect, patience.stall).close()
        except OSError as error:
            return type(error).__name__ == "SSLCertVerificationError"
        return True

    def _encrypt(self) -> None:
        self.endpoint = self.endpoint.encrypted()
        self.authorization.move(self.endpoint)

    def stream(self, location: str, headers: Mapping[str, str]) -> Response:
        """One attempt at a GET whose answer is read piece by piece; OSError if it fails on the way."""
        for count in range(ASKED):
            used = self.authorization.current
            response = self.transport.open(
                "GET", self.url(location), headers=headers, authorization=self.authorization.headers
            )
            own = same_origin(response.url, self.endpoint.base)
            if response.status != 401 or count == ASKED - 1 or not own:
                break
            with response:
                refusal = Answer(401, response.headers, response.read(ANSWER) or b"", response.url)
            if not self.authorization.answer(refusal, used):
                raise self.refused(refusal)
        return response

    def refused(self, answer: Answer, failure: str = "") -> AfenvError:
        """What the user is told of an answer that is not what was hoped for."""
        if answer.status in (401, 403):
            return AfenvError("E601", f"access is refused: {answer.words()}", place=str(self))
        return AfenvError("E602", f"{failure}: {answer.words()}", place=str(self))
