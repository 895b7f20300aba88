"""Writing missing layers, several at once.

In threads, because what costs (decompressing, hashing, compressing, compiling) runs outside of the
interpreter's lock; processes would need more memory and copy more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from afenv.documents.lock import LockedDeb, LockedEnvironment, LockedFile, LockedWheel
from afenv.layers.model import PACKAGE_MTIME, Layer, PlannedLayer
from afenv.layers.plan import layer_source
from afenv.progress import Progress
from afenv.settings import Settings
from afenv.store.content import BlobWriter, ContentStore

if TYPE_CHECKING:
    from afenv.layers.bytecode import Compiler
    from afenv.layers.writer import LayerWriter

Lost = Mapping[str, frozenset[str]]

_RANK = {"debian": 0, "pypi": 1, "code": 2}


class Files(Protocol):
    """What brings locked files into the store: :class:`afenv.store.fetch.Fetcher`, or the like."""

    def files(self, files: Sequence[LockedFile], *, title: str) -> list[Path]:
        """The files in the store, checked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What the layers of one environment are written with; see :func:`afenv.layers.write.write_layers`."""

    environment: LockedEnvironment
    store: ContentStore
    settings: Settings
    fetcher: Files
    folder: Path
    mtime: int
    lost: Lost
    interpreter: str | None
    quiet: bool
    warn: Callable[[str], object] | None
    stop: threading.Event = field(default_factory=threading.Event)


class _StoppedError(Exception):
    """Another layer failed, or the user interrupted."""


def write_missing(planned: Sequence[PlannedLayer], job: Job, done: Callable[[int, Layer], object]) -> None:
    """Write layers; ``done`` hears of each, with its number, as soon as it is in the store.

    On an error, the others stop soon, and what is unfinished is dropped.
    """
    paths = _fetch(planned, job)
    compiler = _compiler(job) if job.interpreter else None
    order = sorted(
        (number for number, one in enumerate(planned) if one.kind != "system"),
        key=lambda number: (_RANK[planned[number].kind], -_size(planned[number])),
    )
    pool = ThreadPoolExecutor(max(1, job.settings.jobs), thread_name_prefix="layer")
    try:
        with Progress("Writing layers", sum(map(_size, planned)), quiet=job.quiet) as progress:
            waiting = {
                pool.submit(_write, planned[number], job, paths, compiler, progress): number
                for number in order
            }
            if compiler is not None and any(_uncompiled(one, job, compiler) for one in planned):
                compiler.interpreter()
            _collect(waiting, planned, {"debian"}, done)  # the system layer needs what these leave
            for number, one in enumerate(planned):
                if one.kind == "system":
                    done(number, _write(one, job, paths, None, progress))
            _collect(waiting, planned, {"debian", "pypi", "code"}, done)
    except BaseException:
        job.stop.set()
        if compiler is not None:
            compiler.cancel()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        if compiler is not None:
            compiler.close()


def _collect(
    waiting: dict[Future[Layer], int],
    planned: Sequence[PlannedLayer],
    kinds: set[str],
    done: Callable[[int, Layer], object],
) -> None:
    """Take the layers that are finished, until none of these kinds is waited for."""
    while any(planned[number].kind in kinds for number in waiting.values()):
        finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in sorted(finished, key=lambda future: waiting[future]):
            done(waiting.pop(future), future.result())


def _fetch(planned: Sequence[PlannedLayer], job: Job) -> dict[str, Path]:
    """The archives that the layers need, by sha256."""
    debs = [deb for one in planned for deb in one.debs]
    if any(one.kind == "system" for one in planned):
        debs = list(job.environment.debs)
    packages: list[LockedDeb | LockedWheel] = [*debs, *(wheel for one in planned for wheel in one.wheels)]
    files = [package.file for package in packages]
    paths = job.fetcher.files(files, title="Downloading packages") if files else []
    return {file.sha256: path for file, path in zip(files, paths, strict=True)}


def _compiler(job: Job) -> Compiler:
    from afenv.layers.bytecode import Compiler
    from afenv.layers.interpreter import Interpreter, needed_debs, prepare_interpreter

    assert job.interpreter is not None
    assert job.environment.python is not None
    version = job.environment.python.version
    debs = needed_debs(job.environment.debs, version)

    def prepare() -> Interpreter:
        files = [deb.file for deb in debs]
        found = job.fetcher.files(files, title="Downloading the interpreter")
        paths = {file.sha256: path for file, path in zip(files, found, strict=True)}
        return prepare_interpreter(debs, paths, version, job.store)

    return Compiler(job.interpreter, version, prepare, job.store, max(1, job.settings.jobs))


def _uncompiled(planned: PlannedLayer, job: Job, compiler: Compiler) -> bool:
    from afenv.layers.wheel import bytecode_name

    python = job.environment.python
    return python is not None and any(
        not compiler.has(bytecode_name(wheel, python)) for wheel in planned.wheels
    )


def _size(planned: PlannedLayer) -> int:
    return sum(deb.file.size for deb in planned.debs) + sum(wheel.file.size for wheel in planned.wheels)


def _write(
    planned: PlannedLayer, job: Job, paths: Mapping[str, Path], compiler: Compiler | None, progress: Progress
) -> Layer:
    from afenv.layers.listing import write_listing
    from afenv.layers.writer import LayerWriter

    with job.store.writer(durable=False) as blob:
        writer = LayerWriter(
            _Blob(blob, job.stop), mtime=job.mtime if planned.kind == "code" else PACKAGE_MTIME
        )
        _fill(writer, planned, job, paths, compiler, progress)
        written = writer.finish()
        blob.commit(written.digest)
    return Layer(
        diff_id=written.diff_id,
        digest=written.digest,
        size=written.size,
        source=layer_source(planned),
        listing=write_listing(job.store, written.entries),
    )


def _fill(
    writer: LayerWriter,
    planned: PlannedLayer,
    job: Job,
    paths: Mapping[str, Path],
    compiler: Compiler | None,
    progress: Progress,
) -> None:
    environment = job.environment
    if planned.kind == "debian":
        from afenv.layers.deb import write_debs

        adapted = None if compiler is None else _DebCompiler(compiler)
        for deb in planned.debs:
            write_debs([deb], [paths[deb.file.sha256]], writer, compiler=adapted, store=job.store)
            progress.advance(deb.file.size)
    elif planned.kind == "system":
        from afenv.layers.system import write_system

        for warning in write_system(environment, paths, writer, store=job.store):
            if job.warn is not None:
                job.warn(warning)
    elif planned.kind == "pypi":
        from afenv.layers.wheel import write_wheels

        assert environment.python is not None
        write_wheels(
            planned.wheels,
            paths,
            environment.python,
            writer,
            compiler=compiler,
            lost=job.lost,
            check=False,  # the fetcher gives checked files
            done=progress.advance,
        )
    else:
        from afenv.layers.code import write_code

        assert planned.code is not None
        write_code(planned.code, job.folder, job.store, job.settings, writer)


class _Blob:
    """A blob that can be written to until the job is stopped."""

    def __init__(self, blob: BlobWriter, stop: threading.Event) -> None:
        self._blob = blob
        self._stop = stop
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._stop.is_set():
            raise _StoppedError
        count = self._blob.write(data)
        self.size += count
        return count

    def digest(self) -> str:
        return self._blob.digest()


class _DebCompiler:
    """The compiler as the writer of Debian packages uses it: relative paths in, bytecode files out."""

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler

    def compile(self, key: str, sources: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
        absolute = sorted(("/" + path, content) for path, content in sources)
        return {pyc.path: pyc.data() for pyc in self._compiler.compile(key, absolute).values()}
