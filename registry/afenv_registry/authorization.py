"""Answering a registry that asks who we are: Basic, and Bearer tokens from a token server.

The Bearer flow is that of the distribution project's token specification (``spec/auth/token.md`` and
``oauth.md``).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from afenv.errors import AfenvError
from afenv_registry.answers import Answer
from afenv_registry.credentials import Credentials, as_sent, find_credentials
from afenv_registry.reference import is_loopback
from afenv_registry.routes import Endpoint
from afenv_registry.transport import Transport
from afenv_registry.urls import bare, join, same_origin

_CHALLENGE = re.compile(r"(?:^|,)\s*([A-Za-z][A-Za-z0-9_-]*)(?=\s+[A-Za-z_]+\s*=|\s*(?:,|$))")
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))')
LONGEST = 8192  # letters of a challenge that are looked at
LIFETIME = 60.0  # seconds of a token that does not say how long it is good
EARLY = 5.0  # seconds before its end in which a token is renewed


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme, in lower case, and the parameters of a ``WWW-Authenticate`` header.

    Of several challenges in it, Bearer is preferred to Basic.
    """
    header = header[:LONGEST]
    masked = re.sub(r'"(?:[^"\\]|\\.)*"', lambda quoted: "x" * len(quoted[0]), header)
    starts = [(match[1].lower(), match.start(1), match.end(1)) for match in _CHALLENGE.finditer(masked)]
    if not starts:
        return "", {}
    ends = [start for _, start, _ in starts[1:]] + [len(header)]
    found = [
        (scheme, {key.lower(): quoted or plain for key, quoted, plain in _PARAMETER.findall(header[at:end])})
        for (scheme, _, at), end in zip(starts, ends, strict=True)
    ]
    for known in ("bearer", "basic"):
        for scheme, parameters in found:
            if scheme == known:
                return scheme, parameters
    return found[0]


class Authorization:
    """The ``Authorization`` header for one repository; it is sent to the registry's own origin only."""

    def __init__(self, transport: Transport, endpoint: Endpoint, actions: str = "pull,push") -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._actions = actions
        self._header: str | None = None
        self._expires = 0.0
        self._challenge: dict[str, str] = {}
        self._guard = threading.Lock()
        self._sources: tuple[str, ...] = ()

    def move(self, endpoint: Endpoint) -> None:
        """The registry is reached in another way than was thought."""
        self._endpoint = endpoint

    def also_from(self, repository: str) -> None:
        """Ask for the right to pull from another repository too, to mount its blobs."""
        if repository not in self._sources:
            self._sources = (*self._sources, repository)
            with self._guard:
                if self._challenge:
                    self._header = None  # the token does not cover it

    def headers(self, url: str) -> Mapping[str, str]:
        """The headers that a request to ``url`` needs as far as it is known."""
        if not same_origin(url, self._endpoint.base):
            return {}
        if self._challenge and (self._header is None or time.monotonic() > self._expires - EARLY):
            with self._guard:
                if self._header is None or time.monotonic() > self._expires - EARLY:
                    self._renew()
        return {} if self._header is None else {"Authorization": self._header}

    def _renew(self) -> None:
        credentials = find_credentials(self._endpoint.credentials_host, self._endpoint.repository)
        self._header = "Bearer " + self._token(self._challenge, credentials)

    def answer(self, refusal: Answer, used: str | None) -> bool:
        """Get what the refusal (status 401) asks for; whether there is something new to try.

        ``used`` is the header that was refused. E601 if there is nothing to answer with.
        """
        with self._guard:
            if self._header != used:
                return True  # another thread has been here
            scheme, parameters = parse_challenge(refusal.header("www-authenticate") or "")
            credentials = find_credentials(self._endpoint.credentials_host, self._endpoint.repository)
            if scheme == "basic":
                if credentials is None or not credentials.user:
                    raise self._denied("it asks for a user name and password, and none are saved")
                new, self._challenge = credentials.basic, {}
            elif scheme == "bearer":
                new = "Bearer " + self._token(parameters, credentials)
                self._challenge = parameters
            else:
                raise self._denied(f"it asks for {scheme or 'nothing'}, which is not known")
            changed = new != used
            self._header = new
            return changed

    @property
    def current(self) -> str | None:
        """The header in use."""
        return self._header

    def _denied(self, reason: str) -> AfenvError:
        host = self._endpoint.credentials_host
        return AfenvError("E601", f"{host} refuses access: {reason}", place=str(self._endpoint))

    def _scopes(self, parameters: Mapping[str, str]) -> list[str]:
        own = f"repository:{self._endpoint.repository}:{self._actions}"
        asked = (parameters.get("scope") or "").split()
        others = [f"repository:{source}:pull" for source in self._sources]
        return list(dict.fromkeys([own, *others, *(one for one in asked if not own.startswith(one))]))

    def _token(self, parameters: Mapping[str, str], credentials: Credentials | None) -> str:
        realm = parameters.get("realm", "")
        try:
            parts = urlsplit(join(realm, ""))
        except AfenvError:
            raise self._denied("it names no token server") from None
        if parts.scheme not in ("http", "https"):
            raise self._denied("it names no token server")
        host = parts.netloc.rpartition("@")[2]
        if parts.scheme == "http" and not is_loopback(host) and credentials is not None:
            raise self._denied(f"its token server {realm} is not encrypted")
        if credentials is not None and credentials.token:
            self._expires = float("inf")
            return credentials.token
        answer = self._ask(realm, parameters, credentials)
        if answer.status != 200:
            raise self._denied(f"its token server says {answer.words()}")
        try:
            document = json.loads(answer.body)
            token = str(document.get("token") or document["access_token"])
            lifetime = float(document.get("expires_in") or LIFETIME)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError):
            raise AfenvError("E602", "the token server's answer has no token", place=realm) from None
        self._expires = time.monotonic() + max(lifetime, 2 * EARLY)
        return token

    def _ask(self, realm: str, parameters: Mapping[str, str], credentials: Credentials | None) -> Answer:
        scopes = self._scopes(parameters)
        service = parameters.get("service", "")
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": as_sent(credentials.identity_token),
                "service": service,
                "client_id": "afenv",
                "scope": " ".join(scopes),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}

            def stays(asked: str) -> Mapping[str, str]:
                if not same_origin(asked, realm):  # a redirect would take the token along
                    raise self._denied(f"its token server leads to {bare(asked)}")
                return {}

            body = urlencode(form).encode()
            return self._transport.send("POST", realm, headers=headers, body=body, authorization=stays)
        query = urlencode([("service", service), *(("scope", scope) for scope in scopes)])
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"

        def own(asked: str) -> Mapping[str, str]:
            return {"Authorization": credentials.basic} if credentials and same_origin(asked, realm) else {}

        return self._transport.send("GET", url, authorization=own)
