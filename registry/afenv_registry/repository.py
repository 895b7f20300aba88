"""The parts of the protocol (OCI distribution specification 1.1) for one repository.

What is read is asked of the mirrors first, then of the registry; what is written goes to the registry.
Manifests are checked against the digest by which they were asked for, or which the registry names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from afenv.digest import PATTERN, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.registries import RemoteManifest, Stored
from afenv.progress import Progress
from afenv_registry.answers import Answer, Response, printable
from afenv_registry.reference import Reference
from afenv_registry.session import Session
from afenv_registry.transport import Transport
from afenv_registry.urls import join, same_origin

if TYPE_CHECKING:
    from afenv.store.content import ContentStore

MANIFEST = (
    4 << 20
)  # bytes; registries need not take larger manifests (distribution-spec 1.1, pushing manifests)
SMALL = 16 << 20  # bytes of a config, or another blob that is read whole
PAGES = 1000  # of one list
ACCEPT = ", ".join((media.IMAGE_MANIFEST, media.DOCKER_MANIFEST, media.IMAGE_INDEX, media.DOCKER_INDEX))
OTHER_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+\Z")
_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')


class Repository:
    """One repository of a registry: see :class:`afenv.oci.registries.Repository`."""

    def __init__(
        self, transport: Transport, reference: Reference, own: Session, mirrors: Sequence[Session] = ()
    ) -> None:
        self.transport = transport
        self.reference = reference
        self.own = own
        self.mirrors = tuple(mirrors)

    @property
    def name(self) -> str:
        """``HOST[:PORT]/NAME``, without tag and digest."""
        return f"{self.reference.host}/{self.reference.repository}"

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Where to read from, in order; without the mirrors that were not reached."""
        return (*(mirror for mirror in self.mirrors if not mirror.down), self.own)

    def close(self) -> None:
        """Break off what is under way, in any thread."""
        self.transport.close()
        for mirror in self.mirrors:
            mirror.transport.close()

    # manifests

    def find_manifest(self, name: str, *, accept: str = ACCEPT) -> RemoteManifest | None:
        """The manifest with that tag or digest; None if there is none. E301, E601, E602, E201."""
        for session in self.sessions:
            try:
                found = self._find_manifest(session, name, accept)
            except AfenvError as error:
                if session is self.own:
                    raise
                session.down = error.code == "E201"
                continue
            if found is not None:
                return found
        return None

    def get_manifest(self, name: str, *, accept: str = ACCEPT) -> RemoteManifest:
        """As :meth:`find_manifest`; E604 if there is none."""
        found = self.find_manifest(name, accept=accept)
        if found is None:
            raise AfenvError("E604", f"there is no image {name}", place=self.name)
        return found

    def _find_manifest(self, session: Session, name: str, accept: str) -> RemoteManifest | None:
        where = f"manifests/{quote(name, safe=':')}"
        answer = session.send("GET", where, headers={"Accept": accept}, limit=MANIFEST)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise session.refused(answer, f"it does not give {name}")
        digest = sha256_bytes(answer.body)
        promised = name if ":" in name else answer.header("docker-content-digest")
        if promised and promised.startswith("sha256:") and promised != digest:
            raise AfenvError(
                "E301", f"for {printable(promised)} it sends a manifest that is {digest}", place=str(session)
            )
        kind = (answer.header("content-type") or "").partition(";")[0].strip()
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            kind = str(json.loads(answer.body).get("mediaType") or kind)
        return RemoteManifest(content=answer.body, media_type=kind or media.IMAGE_MANIFEST)

    def find_own(self, name: str) -> str | None:
        """The digest of what the registry itself, no mirror, has under a tag or digest; None if nothing."""
        found = self._find_manifest(self.own, name, ACCEPT)
        return None if found is None else found.digest

    def put_manifest(self, content: bytes, media_type: str, name: str | None = None) -> Stored:
        """Store a manifest under a tag, or under its digest alone. E301 if another digest comes back."""
        digest = sha256_bytes(content)
        return self.stored(self.send_manifest(content, media_type, name or digest), digest)

    def stored(self, answer: Answer, digest: str) -> Stored:
        """What the answer to a manifest says; E601, E602, or E301 if it names another digest."""
        if answer.status != 201:
            raise self.own.refused(answer, "it does not take the manifest")
        found = answer.header("docker-content-digest")
        if found and found != digest:
            raise AfenvError(
                "E301", f"it says the manifest is {printable(found)}; it is {digest}", place=self.name
            )
        return Stored(digest=digest, subject=answer.header("oci-subject"))

    def send_manifest(self, content: bytes, media_type: str, name: str) -> Answer:
        """Send a manifest; the answer, whatever it is."""
        return self.own.send(
            "PUT",
            f"manifests/{quote(name, safe=':')}",
            headers={"Content-Type": media_type},
            body=content,
        )

    def delete_manifest(self, digest: str) -> bool:
        """Remove a manifest by its digest; False if it was not there. E602 if the registry does not."""
        answer = self.own.send("DELETE", f"manifests/{digest}")
        if answer.status not in (202, 204, 200, 404):
            raise self.own.refused(answer, f"it does not remove {digest}")
        return answer.status != 404

    # blobs

    def has_blob(self, digest: str) -> bool:
        """Whether the registry has the blob in this repository."""
        answer = self.own.send("HEAD", f"blobs/{digest}")
        if answer.status == 404:
            return False
        if answer.status in (401, 403, 405) and not same_origin(answer.url, self.own.endpoint.base):
            return True  # it leads to a storage that answers to GET only
        if answer.status != 200:
            raise self.own.refused(answer, "it does not say whether it has a blob")
        return True

    def get_blob(self, digest: str, *, limit: int = SMALL) -> bytes:
        """A small blob, checked. E604 if there is none, E301 if it is another, E602 if it is larger."""
        last: AfenvError | None = None
        for session in self.sessions:
            try:
                answer = session.send("GET", f"blobs/{digest}", limit=limit)
                if answer.status == 200:
                    found = sha256_bytes(answer.body)
                    if found == digest:
                        return answer.body
                    raise AfenvError("E301", f"for {digest} it sends {found}", place=str(session))
                if answer.status != 404:
                    raise session.refused(answer, f"it does not give {digest}")
            except AfenvError as error:
                session.down = error.code == "E201"
                last = error
        raise last or AfenvError("E604", f"there is no blob {digest}", place=self.name)

    @contextlib.contextmanager
    def open_blob(self, digest: str) -> Iterator[Response]:
        """A blob as it comes (``readinto``), **not checked**: the caller hashes it. E604, E602, E201."""
        try:
            with self.own.stream(f"blobs/{digest}", {}) as response:
                if response.status == 404:
                    raise AfenvError("E604", f"there is no blob {digest}", place=self.name)
                if response.status != 200:
                    body = response.read(1 << 16) or b""
                    answer = Answer(response.status, response.headers, body, response.url)
                    raise self.own.refused(answer, f"it does not give {digest}")
                yield response
        except OSError as error:
            raise self.transport.failed(error, self.own.url(f"blobs/{digest}")) from None

    def fetch_blob(self, digest: str, size: int, store: ContentStore) -> None:
        """Bring a blob of any size into the content store, resumable and checked; not synced."""
        from afenv_registry.pull import pull_blobs

        with Progress(f"pulling from {self.reference.host}", 0, quiet=True) as progress:
            pull_blobs(self, [(digest, size)], store, progress, 1)

    def put_blob(
        self,
        digest: str,
        size: int,
        open_file: Callable[[], BinaryIO],
        *,
        mount_from: Sequence[str] = (),
        sent: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Send a blob, or let the registry take it from one of the repositories ``mount_from``.

        ``open_file`` gives its content from the start, anew for each attempt. E301 if the registry finds
        another digest.
        """
        from afenv_registry.upload import upload

        upload(self.own, digest, size, open_file, mount_from=mount_from, sent=sent)

    def put_bytes(self, content: bytes) -> str:
        """Send a small blob unless it is there; its digest."""
        import io

        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if not self.has_blob(digest):
            self.put_blob(digest, len(content), lambda: io.BytesIO(content))
        return digest

    def mount_blob(self, digest: str, source: str) -> bool:
        """Let the registry take a blob from the repository ``source`` of its own; whether it did."""
        from afenv_registry.upload import mount

        return mount(self.own, digest, source)

    # lists

    def tags(self) -> Iterator[str]:
        """The tags, in the registry's order; none if there is no such repository."""
        for page in self._pages("tags/list?n=1000"):
            tags = page.get("tags") or []
            if not isinstance(tags, list):
                raise AfenvError("E602", "its list of tags is damaged", place=self.name)
            yield from (tag for tag in tags if isinstance(tag, str))

    def referrers(self, digest: str, *, artifact_type: str | None = None) -> list[dict[str, Any]] | None:
        """The descriptors of what refers to a manifest; None if the registry lacks the referrers API."""
        where = f"referrers/{digest}"
        if artifact_type:
            where += f"?artifactType={quote(artifact_type, safe='')}"
        found: list[dict[str, Any]] = []
        try:
            for page in self._pages(where, accept=media.IMAGE_INDEX, needed="manifests"):
                for one in page["manifests"] or ():
                    if not PATTERN.match(str(one["digest"])):
                        raise AfenvError("E602", f"{one['digest']!r} is not a digest", place=self.name)
                    if artifact_type in (None, one.get("artifactType")):
                        found.append(one)
        except _NoSuchList:
            return None
        except (TypeError, KeyError, AttributeError) as error:
            raise AfenvError("E602", f"its list of referrers is damaged: {error}", place=self.name) from None
        return found

    def _pages(self, where: str, accept: str = "application/json", needed: str = "") -> Iterator[Any]:
        url = self.own.url(where)
        for _ in range(PAGES):
            answer = self.own.send("GET", url, headers={"Accept": accept}, limit=MANIFEST)
            if answer.status in (404, 405) and needed:
                raise _NoSuchList
            if answer.status == 404:
                return
            if answer.status != 200:
                raise self.own.refused(answer, "it does not give a list")
            try:
                page = json.loads(answer.body)
            except (ValueError, RecursionError):
                page = None
            if not isinstance(page, dict) or (needed and needed not in page):
                if needed:  # a page for people, from something that is not a registry
                    raise _NoSuchList
                raise AfenvError("E602", "its list is damaged", place=self.name)
            yield page
            following = _NEXT.search(answer.header("link") or "")
            if following is None:
                return
            url = join(answer.url, following[1])
            if not same_origin(url, self.own.endpoint.base):
                raise AfenvError("E602", "its list goes on at another host", place=self.name)
        raise AfenvError("E602", "its list has no end", place=self.name)


class _NoSuchList(Exception):
    """The registry does not know this kind of list."""
