"""Answering a registry that asks who we are: Basic, and Bearer tokens from a token server.

The Bearer flow is that of the distribution project's token specification (``spec/auth/token.md`` and
``oauth.md``).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from afenv.errors import AfenvError
from afenv_registry.credentials import Credentials, find_credentials
from afenv_registry.reference import Reference, is_loopback
from afenv_registry.transport import Answer, Transport

_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",\s]+))')


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme, in lower case, and the parameters of a ``WWW-Authenticate`` header."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {key.lower(): quoted or plain for key, quoted, plain in _PARAMETER.findall(rest)}


class Authorization:
    """The ``Authorization`` header for one repository; it is sent to the registry's own host only."""

    def __init__(self, transport: Transport, reference: Reference, actions: str = "pull,push") -> None:
        self._transport = transport
        self._reference = reference
        self._actions = actions
        self._header: str | None = None
        self._guard = threading.Lock()
        self._sources: tuple[str, ...] = ()

    def also_from(self, repository: str) -> None:
        """Ask for the right to pull from another repository too, to mount its blobs."""
        self._sources = (*self._sources, repository)

    def headers(self, url: str) -> Mapping[str, str]:
        """The headers that a request to ``url`` needs as far as it is known."""
        if self._header is None or urlsplit(url).netloc != self._reference.api_host:
            return {}
        return {"Authorization": self._header}

    def answer(self, refusal: Answer, used: str | None) -> bool:
        """Get what the refusal (status 401) asks for; whether there is something new to try.

        ``used`` is the header that was refused. E601 if there is nothing to answer with.
        """
        with self._guard:
            if self._header != used:
                return True  # another thread has been here
            scheme, parameters = parse_challenge(refusal.header("www-authenticate") or "")
            credentials = find_credentials(self._reference.host, self._reference.repository)
            if scheme == "basic":
                if credentials is None or not credentials.user:
                    raise self._denied("it asks for a user name and password, and none are saved")
                new = credentials.basic
            elif scheme == "bearer":
                new = "Bearer " + self._token(parameters, credentials)
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
        return AfenvError(
            "E601", f"{self._reference.host} refuses access: {reason}", place=str(self._reference)
        )

    def _scopes(self, parameters: Mapping[str, str]) -> list[str]:
        own = f"repository:{self._reference.repository}:{self._actions}"
        asked = (parameters.get("scope") or "").split()
        others = [f"repository:{source}:pull" for source in self._sources]
        return list(dict.fromkeys([own, *others, *(one for one in asked if not own.startswith(one))]))

    def _token(self, parameters: Mapping[str, str], credentials: Credentials | None) -> str:
        realm = parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https"):
            raise self._denied("it names no token server")
        if parts.scheme == "http" and not is_loopback(parts.netloc) and credentials is not None:
            raise self._denied(f"its token server {realm} is not encrypted")
        scopes = self._scopes(parameters)
        service = parameters.get("service", "")
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "service": service,
                "client_id": "afenv",
                "scope": " ".join(scopes),
            }
            answer = self._transport.send(
                "POST",
                realm,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(form).encode(),
            )
        else:
            query = urlencode([("service", service), *(("scope", scope) for scope in scopes)])
            headers = {"Authorization": credentials.basic} if credentials else {}
            answer = self._transport.send(
                "GET", f"{realm}{'&' if parts.query else '?'}{query}", headers=headers
            )
        if answer.status != 200:
            raise self._denied(f"its token server says {answer.words()}")
        try:
            document = json.loads(answer.body)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError):
            raise AfenvError("E602", "the token server's answer has no token", place=realm) from None
        return str(token)
