"""Pushing images to a registry (OCI distribution specification 1.1): only what is missing travels."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, BinaryIO
from urllib.parse import quote, urljoin, urlsplit

from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.model import Blobs, Image
from afenv.progress import Progress
from afenv_registry.authorization import Authorization
from afenv_registry.reference import Reference, parse_reference
from afenv_registry.transport import TRY_AGAIN, Answer, Patience, Transport

CONNECTIONS = 4
ACCEPT = ", ".join((media.IMAGE_MANIFEST, media.DOCKER_MANIFEST, media.IMAGE_INDEX, media.DOCKER_INDEX))


class RegistryClient:
    """Speaks with registries.

    Plain HTTP is used for registries on this machine, for those in ``AFENV_PLAIN_HTTP`` (hosts with
    their ports, separated by spaces), and where ``plain_http`` asks for it.
    """

    def __init__(
        self, *, plain_http: bool = False, connections: int = CONNECTIONS, patience: Patience | None = None
    ) -> None:
        self._plain_http = plain_http
        self._connections = connections
        self._patience = patience or Patience()

    def push(
        self,
        image: Image,
        store: Blobs,
        reference: str,
        *,
        quiet: bool = False,
        mount_from: str | None = None,
    ) -> str:
        """Send the image to ``reference`` and return the manifest's digest.

        ``store`` gives the layers; blobs that the repository has are not sent, nor those that it can
        take from the repository ``mount_from`` of the same registry. E603 for a bad reference, E601
        without access, E602 for an answer that is an error, E201 if the registry cannot be reached,
        E301 if it names another digest.
        """
        target = parse_reference(reference)
        if target.digest is not None and target.digest != image.manifest_digest:
            raise AfenvError("E603", f"the image's manifest is {image.manifest_digest}", place=reference)
        scheme = "http" if self._is_plain(target) else "https"
        transport = Transport(self._patience)
        try:
            with Progress(f"pushing to {target.host}", 0, quiet=quiet) as progress:
                push = _Push(scheme, target, image, store, transport, progress, mount_from)
                return push.run(self._connections)
        finally:
            transport.close()

    def _is_plain(self, target: Reference) -> bool:
        named = os.environ.get("AFENV_PLAIN_HTTP", "").split()
        return self._plain_http or target.is_loopback or target.host in named


class _Push:
    """One push: what it needs to know in every thread."""

    def __init__(
        self,
        scheme: str,
        target: Reference,
        image: Image,
        store: Blobs,
        transport: Transport,
        progress: Progress,
        mount_from: str | None,
    ) -> None:
        self._base = f"{scheme}://{target.api_host}/v2/{target.repository}/"
        self._target = target
        self._image = image
        self._store = store
        self._transport = transport
        self._progress = progress
        self._guard = threading.Lock()
        self._mount_from = mount_from
        self._authorization = Authorization(transport, target)
        if mount_from:
            self._authorization.also_from(mount_from)

    def run(self, connections: int) -> str:
        """Send what is missing, then the manifest."""
        digest, known = self._present()
        if digest == self._image.manifest_digest:
            return digest
        blobs = {layer.digest: layer.size for layer in self._image.layers}
        blobs[self._image.image_id] = len(self._image.config)
        self._send_all(((one, size) for one, size in blobs.items() if one not in known), connections)
        answer = self._put_manifest()
        if answer.status in (400, 404) and known and b"BLOB_UNKNOWN" in answer.body:
            # the repository lost blobs of an image that it still lists
            self._send_all(((one, size) for one, size in blobs.items() if one in known), connections)
            answer = self._put_manifest()
        self._expect(answer, 201, "it does not take the manifest")
        found = answer.header("docker-content-digest")
        if found and found != self._image.manifest_digest:
            raise AfenvError(
                "E301",
                f"it says the manifest is {found}; it is {self._image.manifest_digest}",
                place=self._place,
            )
        return self._image.manifest_digest

    @property
    def _place(self) -> str:
        return str(self._target)

    def _send(self, method: str, url: str, **more: Any) -> Answer:
        """A request with the authorization that the registry asks for."""
        for _ in range(3):
            used = self._authorization.current
            answer = self._transport.send(method, url, authorization=self._authorization.headers, **more)
            if answer.status != 401 or urlsplit(url).netloc != self._target.api_host:
                break
            if not self._authorization.answer(answer, used):
                break
        return answer

    def _expect(self, answer: Answer, status: int, failure: str) -> None:
        if answer.status == status:
            return
        if answer.status in (401, 403):
            raise AfenvError("E601", f"access is refused: {answer.words()}", place=self._place)
        raise AfenvError("E602", f"{failure}: {answer.words()}", place=self._place)

    def _present(self) -> tuple[str, set[str]]:
        """The digest of what the tag names now, and the blobs of which it is made."""
        answer = self._send("GET", f"{self._base}manifests/{self._target.tag}", headers={"Accept": ACCEPT})
        if answer.status in (401, 403):
            self._expect(answer, 200, "")
        if answer.status != 200:
            return "", set()
        try:
            document = json.loads(answer.body)
            parts = [document["config"], *document["layers"]]
            return sha256_bytes(answer.body), {str(part["digest"]) for part in parts}
        except (ValueError, KeyError, TypeError):
            return "", set()

    def _send_all(self, blobs: Iterable[tuple[str, int]], connections: int) -> None:
        blobs = sorted(blobs, key=lambda blob: -blob[1])  # the largest first, so that the end is even
        if not blobs:
            return
        with ThreadPoolExecutor(min(connections, len(blobs)), thread_name_prefix="push") as pool:
            try:
                there = pool.map(self._has, blobs)
                missing = [blob for blob, found in zip(blobs, there, strict=True) if not found]
                self._progress.total += sum(size for _, size in missing)
                work = [pool.submit(self._upload, digest, size) for digest, size in missing]
                for future in as_completed(work):
                    future.result()
            except BaseException:
                self._transport.close()  # what is still on its way would be for nothing
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _has(self, blob: tuple[str, int]) -> bool:
        answer = self._send("HEAD", f"{self._base}blobs/{blob[0]}")
        if answer.status != 404:
            self._expect(answer, 200, "it does not say whether it has a blob")
        return answer.status == 200

    def _opener(self, digest: str, size: int) -> Callable[[], tuple[BinaryIO, int]]:
        def opened() -> tuple[BinaryIO, int]:
            if digest == self._image.image_id:
                return io.BytesIO(self._image.config), size
            return self._store.open(digest), size

        return opened

    def _upload(self, digest: str, size: int) -> None:
        for failures in self._transport.attempts():
            try:
                answer = self._upload_once(digest, size)
            except AfenvError as error:
                if error.code != "E201" or failures.last:
                    raise
            else:
                if answer.status == 201:
                    return
                if answer.status not in (*TRY_AGAIN, 404, 416) or failures.last:
                    self._expect(answer, 201, f"it does not take the blob {digest}")
            if self._has((digest, size)):  # the attempt may have gone through after all
                return
            failures.wait()

    def _upload_once(self, digest: str, size: int) -> Answer:
        """One attempt, from the start: a registry may have kept part of an attempt that broke off."""
        start = f"{self._base}blobs/uploads/"
        if self._mount_from:
            start += f"?mount={quote(digest)}&from={quote(self._mount_from, safe='/')}"
        answer = self._send("POST", start)
        if answer.status == 201:  # mounted
            self._progress.advance(size)
            return answer
        self._expect(answer, 202, "it does not take uploads")
        location = answer.header("location")
        if not location:
            raise AfenvError("E602", "it does not say where to upload to", place=self._place)
        url = urljoin(answer.url, location)
        url += ("&" if urlsplit(url).query else "?") + f"digest={quote(digest)}"
        return self._send(
            "PUT",
            url,
            headers={"Content-Type": "application/octet-stream"},
            file=self._opener(digest, size),
            sent=self._progress.advance,
            once=True,
        )

    def _put_manifest(self) -> Answer:
        return self._send(
            "PUT",
            f"{self._base}manifests/{self._target.tag}",
            headers={"Content-Type": self._image.manifest_media_type},
            body=self._image.manifest,
        )
