"""Downloads from a git LFS server: the batch API with basic transfers (git-lfs, docs/api/batch.md)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from afenv.documents.lock import LockedFile
from afenv.errors import AfenvError, Problem
from afenv.layers.code_credentials import Login, logins, tell_helper
from afenv.layers.code_lfs import Objects, Pointer
from afenv.layers.code_lfs_url import ssh_command
from afenv.layers.code_url import split_user
from afenv.layers.codetree import show
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import TRY_AGAIN, Patience, retry_after, without_secrets

BATCH = 100  # objects asked for at once, as git-lfs does
ANSWER_LIMIT = 16 << 20  # bytes of an answer to such a question
PATIENCE = Patience()
SSH_PATIENCE = 60.0  # seconds
_MEDIA = "application/vnd.git-lfs+json"


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    headers: Mapping[str, str]


def download(
    missing: Mapping[Pointer, bytes],
    objects: Objects,
    store: ContentStore,
    settings: Settings,
    *,
    quiet: bool,
) -> None:
    """Bring the content of pointers from the server into the store.

    E131 if the server wants other credentials, E133 if it has not all of them or does not speak the
    protocol, E301 or E302 for other content, E201, E202.
    """
    from afenv.store.fetch import Fetcher

    server = _server(objects)
    files: list[LockedFile] = []
    headers: dict[str, Mapping[str, str]] = {}
    wanted = list(missing)
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        for pointer, url, extra in _ask(server, batch, missing, settings):
            files.append(LockedFile(urls=(url,), size=pointer.size, sha256=pointer.sha256))
            headers[settings.rewrite(url)] = extra
    fetcher = Fetcher(store, settings, quiet=quiet, patience=PATIENCE, headers=headers)
    try:
        fetcher.files(files, title="Downloading LFS objects")
    except AfenvError as error:
        names = {file.file_name: show(missing[pointer]) for file, pointer in zip(files, wanted, strict=True)}
        raise AfenvError.many([_named(problem, names) for problem in error.problems]) from None


def _named(problem: Problem, names: Mapping[str, str]) -> Problem:
    """A download's problem with the path of the file rather than the name that the server has for it."""
    name, separator, rest = problem.message.partition(": ")
    message = f"LFS object of {names[name]!r}: {rest}" if separator and name in names else problem.message
    if problem.code == "E103":  # the server named a place where there is nothing
        return Problem("E133", message, place=problem.place)
    return Problem(problem.code, message, place=problem.place, remedy=problem.remedy)


def _server(objects: Objects) -> _Server:
    """The server, asked for through ssh where the repository is there (server-discovery.md, "SSH")."""
    assert objects.url is not None
    command = ssh_command(objects.ssh) if objects.ssh else None
    if command is not None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SSH_PATIENCE, check=False)
            answer = json.loads(done.stdout) if done.returncode == 0 else None
        except (OSError, ValueError, subprocess.SubprocessError):
            answer = None
        match answer:
            case {"href": str(href), **rest} if href.startswith(("http://", "https://")):
                return _Server(href.rstrip("/"), _texts(rest.get("header")))
    return _Server(objects.url, {})


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name): text
        for name, text in value.items()
        if isinstance(text, str) and "\n" not in text and "\r" not in text
    }


def _ask(
    server: _Server, batch: Sequence[Pointer], paths: Mapping[Pointer, bytes], settings: Settings
) -> Iterator[tuple[Pointer, str, Mapping[str, str]]]:
    """Where each object is, and the headers to ask for it with."""
    question = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": pointer.sha256, "size": pointer.size} for pointer in batch],
        "hash_algo": "sha256",
    }
    place = without_secrets(server.url)
    answer, login = _post(server, question, settings)
    found: dict[str, Any] = {}
    match answer:
        case {"objects": [*entries]}:
            found = {str(entry.get("oid")): entry for entry in entries if isinstance(entry, dict)}
        case _:
            raise AfenvError("E133", "the LFS server does not answer as the protocol says", place=place)
    if answer.get("transfer", "basic") != "basic" or answer.get("hash_algo", "sha256") != "sha256":
        raise AfenvError("E133", "the LFS server wants another kind of transfer", place=place)
    for pointer in batch:
        name = show(paths[pointer])
        match found.get(pointer.sha256):
            case {"error": {**error}}:
                code, reason = error.get("code", "?"), str(error.get("message", ""))[:200]
                raise AfenvError("E133", f"LFS object of {name!r}: {code} {reason}".rstrip(), place=place)
            case {"actions": {"download": {"href": str(href), **action}}, **entry}:
                if entry.get("size", pointer.size) != pointer.size:
                    message = f"LFS object of {name!r}: expected {pointer.size} bytes, the server has "
                    raise AfenvError("E302", f"{message}{entry.get('size')!r}"[:200], place=place)
                if urlsplit(href).scheme not in ("http", "https"):
                    raise AfenvError(
                        "E133", f"LFS object of {name!r}: no URL of a kind to fetch", place=place
                    )
                headers = _texts(action.get("header"))
                if login is not None and not headers and not entry.get("authenticated"):
                    headers = _authorization(login) if _same_host(href, server.url) else {}
                yield pointer, href, headers
            case _:
                raise AfenvError("E133", f"the LFS server has no object for {name!r}", place=place)


def _same_host(first: str, second: str) -> bool:
    one, other = urlsplit(first), urlsplit(second)
    return (one.scheme, one.netloc) == (other.scheme, other.netloc)


def _authorization(login: Login) -> dict[str, str]:
    import base64

    text = base64.b64encode(f"{login.user}:{login.secret}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def _post(server: _Server, question: Any, settings: Settings) -> tuple[Any, Login | None]:
    """The JSON answer of the batch API, and what the server accepted as credentials."""
    import requests

    target = settings.rewrite(server.url) + "/objects/batch"
    url, _, _ = split_user(target)
    place = without_secrets(url)
    offers, login = logins(target), None
    failures = 0
    with requests.Session() as session:
        session.trust_env = False  # no ~/.netrc behind our back; proxies and certificates as usual:
        asked = session.merge_environment_settings
        session.trust_env = True
        environment = asked(url, {}, None, None, None)
        session.trust_env = False
        while True:
            headers = {"Accept": _MEDIA, "Content-Type": _MEDIA, **server.headers}
            if login is not None:
                headers |= _authorization(login)
            try:
                with session.post(
                    url,
                    data=json.dumps(question),
                    headers=headers,
                    timeout=(PATIENCE.connect, PATIENCE.stall),
                    allow_redirects=False,
                    proxies=environment["proxies"],
                    verify=environment["verify"],
                    cert=environment["cert"],
                    stream=True,
                ) as response:
                    status = response.status_code
                    body = response.raw.read(ANSWER_LIMIT + 1, decode_content=True) if status == 200 else b""
                    pause = retry_after(response.headers.get("Retry-After"), time.time())
            except Exception as error:
                if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] != "urllib3":
                    raise
                failures += 1
                if failures >= PATIENCE.attempts:
                    reason = "no answer" if isinstance(error, requests.Timeout) else "no connection"
                    raise AfenvError("E201", f"the LFS server: {reason}", place=place) from None
                time.sleep(PATIENCE.pause(failures, None))
                continue
            if status == 200:
                if login is not None:
                    tell_helper(target, login, good=True)
                try:
                    return json.loads(body), login
                except ValueError:
                    message = "the LFS server does not answer as the protocol says"
                    raise AfenvError("E133", message, place=place) from None
            if status in (401, 403):
                if login is not None:
                    tell_helper(target, login, good=False)
                login = next(offers, None) if status == 401 else None
                if login is None:
                    raise AfenvError("E131", f"the LFS server: {status} {response.reason}", place=place)
                continue
            failures += 1
            if status not in TRY_AGAIN or failures >= PATIENCE.attempts:
                code = "E133" if status in (404, 410, 422) else "E202"
                raise AfenvError(code, f"the LFS server: {status} {response.reason}", place=place)
            time.sleep(PATIENCE.pause(failures, pause))
