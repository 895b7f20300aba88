"""Bytecode of packages: compiled once by the environment's own Python, then kept.

Without bytecode, importing the usual analysis stack takes three times as long. What is compiled depends
only on the package, the interpreter and the place in the image, so it is cached under these for all
environments. Files are unchecked hash-based pycs (PEP 552): no time stamp, and no look at the source.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import ASSEMBLY_VERSION
from afenv.layers import gzip_members, zip_archive
from afenv.layers.compile_server import CompileServer
from afenv.layers.interpreter import Interpreter, cache_tag
from afenv.layers.writer import OWN_MEMBER, LayerWriter
from afenv.store.content import ContentStore

# One request to a compile server: files in sorted order until either is reached. What a file compiles to
# can depend on its neighbours in the request, so both belong to the assembly version.
CHUNK_FILES = 256
CHUNK_BYTES = 1 << 22

_KIND = "bytecode"


class Pyc(NamedTuple):
    """The bytecode of one file: its path in the image (relative), and its content."""

    path: str
    size: int
    crc32: int
    content: memoryview  # raw deflate stream if ``deflated``
    deflated: bool

    def write(self, writer: LayerWriter) -> None:
        """Write it into a layer, mode 0644."""
        if self.deflated:
            writer.deflated(self.path, 0o644, self.size, self.crc32, self.content)
        else:
            writer.file(self.path, 0o644, self.content)

    def data(self) -> bytes:
        """The content, inflated."""
        if self.deflated:
            return b"".join(gzip_members.inflate(self.content, self.size, self.crc32))
        return bytes(self.content)


def pyc_path(path: str, cache_tag: str) -> str:
    """Where the bytecode of the source at ``path`` lies (PEP 3147)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{cache_tag}.pyc".lstrip("/")


class Compiler:
    """Compiles packages with ``jobs`` processes, and keeps the results in the store.

    ``identity`` and ``version`` are those of the interpreter that ``prepare`` gives;
    it is asked for only when something is not in the cache. To be closed, or used as a context manager;
    any number of threads may call :meth:`compile`.
    """

    def __init__(
        self,
        identity: str,
        version: str,
        prepare: Callable[[], Interpreter],
        store: ContentStore,
        jobs: int,
    ) -> None:
        self.identity = identity
        self.cache_tag = cache_tag(version)
        self._prepare = prepare
        self._prepared: Interpreter | None = None
        self._preparing = threading.Lock()
        self._store = store
        self._jobs = jobs
        self._idle: queue.LifoQueue[CompileServer | None] = queue.LifoQueue()
        for _ in range(jobs):
            self._idle.put(None)
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="compile")

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
        for _ in range(self._jobs):
            server = self._idle.get()
            if server is not None:
                server.close()

    def interpreter(self) -> Interpreter:
        """The interpreter, prepared on the first call; E404 if it cannot run here."""
        with self._preparing:
            if self._prepared is None:
                self._prepared = self._prepare()
            return self._prepared

    def cancel(self) -> None:
        """Drop what is waiting; :meth:`compile` fails from then on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def has(self, package: str) -> bool:
        """Whether the package is in the cache."""
        return self._blob(self._key(package)) is not None

    def compile(self, package: str, sources: Iterable[tuple[str, bytes]]) -> Mapping[str, Pyc]:
        """The bytecode of a package, by the path of the source.

        ``sources`` are ``(absolute path in the image, content)`` sorted by path; they are read only if
        the package is not in the cache. ``package`` names, for the cache, what determines them: the
        sha256 of the archive and, where it may vary, the place it is installed at. Files that do not
        compile are left out, as pip does. E404 if the interpreter fails.
        """
        key = self._key(package)
        found = self._load(key)
        if found is None:
            self._save(key, sources)
            found = self._load(key)
            assert found is not None
        return found

    def _key(self, package: str) -> str:
        how = [gzip_members.COMPRESSOR, gzip_members.LEVEL, OWN_MEMBER]
        return sha256_bytes(canonical.compact([_KIND, ASSEMBLY_VERSION, self.identity, package, how]))

    def _blob(self, key: str) -> str | None:
        known = self._store.load_key(_KIND, key)
        if not isinstance(known, dict) or not self._store.trusted(known["digest"], known["size"]):
            return None
        return str(known["digest"])

    def _load(self, key: str) -> Mapping[str, Pyc] | None:
        digest = self._blob(key)
        if digest is None:
            return None
        archive = zip_archive.map_zip(self._store.path(digest))
        return {
            path: Pyc(
                pyc_path(path, self.cache_tag),
                entry.size,
                entry.crc32,
                archive.content(entry),
                entry.method == zip_archive.DEFLATED,
            )
            for path, entry in archive.entries.items()
        }

    def _save(self, key: str, sources: Iterable[tuple[str, bytes]]) -> None:
        futures = [self._pool.submit(self._chunk, chunk) for chunk in _chunks(sources)]
        try:
            with self._store.writer(durable=False) as blob:
                for piece in zip_archive.write_zip(chain.from_iterable(_results(futures))):
                    blob.write(piece)
                size = blob.size
                digest = blob.commit()
        finally:
            for future in futures:
                future.cancel()
        self._store.save_key(_KIND, key, {"digest": digest, "size": size})

    def _chunk(self, files: list[tuple[str, bytes]]) -> list[tuple[str, int, int, int, bytes]]:
        with self._server() as server:
            results = server.compile(files)
        return [_packed(path, pyc) for (path, _), pyc in zip(files, results, strict=True) if pyc]

    @contextlib.contextmanager
    def _server(self) -> Iterator[CompileServer]:
        server = self._idle.get()
        try:
            if server is None:
                server = CompileServer(self.interpreter())
            yield server
        except BaseException:
            if server is not None:
                server.close()
            server = None
            raise
        finally:
            self._idle.put(server)


def _packed(path: str, pyc: bytes) -> tuple[str, int, int, int, bytes]:
    """One file of the cached archive: deflated if it will be a gzip member of its own."""
    crc32 = gzip_members.crc32(pyc)
    stream = gzip_members.deflate(pyc)
    if len(stream) < OWN_MEMBER:
        return path, zip_archive.STORED, len(pyc), crc32, pyc
    return path, zip_archive.DEFLATED, len(pyc), crc32, stream


def _chunks(sources: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    chunk: list[tuple[str, bytes]] = []
    size = 0
    for path, source in sources:
        chunk.append((path, source))
        size += len(source)
        if len(chunk) == CHUNK_FILES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _results(
    futures: list[Future[list[tuple[str, int, int, int, bytes]]]],
) -> Iterator[list[tuple[str, int, int, int, bytes]]]:
    while futures:
        yield futures.pop(0).result()
