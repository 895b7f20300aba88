"""Writing missing layers, several at once.

In threads, because what costs (decompressing, hashing, compressing, compiling) runs outside of the
interpreter's lock; processes would need more memory and copy more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from afenv.documents.lock import LockedConda, LockedDeb, LockedEnvironment, LockedFile, LockedWheel
from afenv.layers.model import PACKAGE_MTIME, Layer, PlannedLayer
from afenv.layers.plan import layer_source
from afenv.progress import Progress
from afenv.record import field, record
from afenv.settings import Settings
from afenv.store.content import BlobWriter, ContentStore

if TYPE_CHECKING:
    from concurrent.futures import Future

    from afenv.layers.base_tree import Ground, OpenBase
    from afenv.layers.bytecode import Compiler
    from afenv.layers.conda_open import OpenConda
    from afenv.layers.conda_python import CondaPython
    from afenv.layers.cvmfs import CvmfsParts
    from afenv.layers.writer import LayerWriter

Lost = Mapping[str, frozenset[str]]

_RANK = {"debian": 0, "cvmfs": 1, "conda": 1, "conda-environment": 1, "pypi": 1, "code": 2}


class Files(Protocol):
    """What brings locked files into the store: :class:`afenv.store.fetch.Fetcher`, or the like."""

    def files(self, files: Sequence[LockedFile], *, title: str) -> list[Path]:
        """The files in the store, checked."""


@record
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
    base: OpenBase | None = None
    ground: Ground | None = None  # of the base
    cvmfs: CvmfsParts | None = None
    opened: Mapping[str, OpenConda] = field(default_factory=dict)  # conda packages, where all were read
    stop: threading.Event = field(default_factory=threading.Event)


class _StoppedError(Exception):
    """Another layer failed, or the user interrupted."""


def write_missing(planned: Sequence[PlannedLayer], job: Job, done: Callable[[int, Layer], object]) -> None:
    """Write layers; ``done`` hears of each, with its number, as soon as it is in the store.

    On an error, the others stop soon, and what is unfinished is dropped.
    """
    if all(one.kind == "code" for one in planned):  # small, so that threads would not pay
        with Progress("Writing layers", 0, quiet=job.quiet) as progress:
            for number, one in enumerate(planned):
                done(number, _write(one, job, {}, None, progress))
        return
    from concurrent.futures import ThreadPoolExecutor

    paths = _fetch(planned, job)
    if job.cvmfs is not None:
        job.cvmfs.ensure([part for one in planned for part in one.cvmfs])
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
            _collect(waiting, planned, set(_RANK), done)
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
    from concurrent.futures import FIRST_COMPLETED, wait

    while any(planned[number].kind in kinds for number in waiting.values()):
        finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in sorted(finished, key=lambda future: waiting[future]):
            done(waiting.pop(future), future.result())


def _fetch(planned: Sequence[PlannedLayer], job: Job) -> dict[str, Path]:
    """The archives that the layers need, by sha256."""
    debs = [deb for one in planned for deb in one.debs]
    if any(one.kind == "system" for one in planned):
        debs = list(job.environment.debs)
    conda = [package for one in planned for package in one.conda]
    if any(one.kind == "conda-environment" for one in planned):
        conda = list(job.environment.conda)
    packages: list[LockedDeb | LockedConda | LockedWheel] = [*debs, *conda]
    packages += [wheel for one in planned for wheel in one.wheels]
    files = [package.file for package in packages]
    paths = job.fetcher.files(files, title="Downloading packages") if files else []
    return {file.sha256: path for file, path in zip(files, paths, strict=True)}


def _compiler(job: Job) -> Compiler:
    from afenv.layers.bytecode import Compiler
    from afenv.layers.interpreter import Interpreter, needed_debs, prepare_interpreter

    assert job.interpreter is not None
    conda = _conda_python(job.environment)
    if conda is not None:
        from afenv.layers.conda_interpreter import prepare_conda_interpreter

        def prepare_conda() -> Interpreter:
            return prepare_conda_interpreter(conda, job.environment.conda, bring, job.store)

        def bring(packages: Sequence[LockedConda]) -> dict[str, Path]:
            files = [package.file for package in packages]
            found = job.fetcher.files(files, title="Downloading the interpreter")
            return {file.sha256: path for file, path in zip(files, found, strict=True)}

        return Compiler(job.interpreter, conda.version, prepare_conda, job.store, max(1, job.settings.jobs))
    assert job.environment.python is not None
    version = job.environment.python.version
    debs = needed_debs(job.environment.debs, version)

    def prepare() -> Interpreter:
        files = [deb.file for deb in debs]
        found = job.fetcher.files(files, title="Downloading the interpreter")
        paths = {file.sha256: path for file, path in zip(files, found, strict=True)}
        if job.base is not None:
            from afenv.layers.base_interpreter import prepare_base_interpreter

            return prepare_base_interpreter(job.environment, job.base, paths, job.store)
        return prepare_interpreter(debs, paths, version, job.store)

    return Compiler(job.interpreter, version, prepare, job.store, max(1, job.settings.jobs))


def _conda_python(environment: LockedEnvironment) -> CondaPython | None:
    if not environment.conda:
        return None
    from afenv.layers.conda_python import conda_python

    return conda_python(environment.conda)


def compiles_debs(environment: LockedEnvironment) -> bool:
    """Whether Debian's Python modules get bytecode: not where the environment's Python is another one."""
    python = environment.python
    if environment.base is not None and (python is None or not python.executable.startswith("/usr/bin/")):
        return False
    return _conda_python(environment) is None


def _uncompiled(planned: PlannedLayer, job: Job, compiler: Compiler) -> bool:
    from afenv.layers.wheel import bytecode_name

    python = job.environment.python
    return python is not None and any(
        not compiler.has(bytecode_name(wheel, python)) for wheel in planned.wheels
    )


def _size(planned: PlannedLayer) -> int:
    packages: list[LockedDeb | LockedConda | LockedWheel] = [*planned.debs, *planned.conda, *planned.wheels]
    return sum(package.file.size for package in packages) + sum(part.size for part in planned.cvmfs)


def _write(
    planned: PlannedLayer, job: Job, paths: Mapping[str, Path], compiler: Compiler | None, progress: Progress
) -> Layer:
    from afenv.layers.listing import write_listing
    from afenv.layers.writer import LayerWriter

    with job.store.writer(durable=False) as blob:
        writer = LayerWriter(
            _Blob(blob, job.stop),
            mtime=job.mtime if planned.kind == "code" else PACKAGE_MTIME,
            ground=job.ground if planned.kind != "cvmfs" else None,
        )
        effect = _fill(writer, planned, job, paths, compiler, progress)
        written = writer.finish()
        blob.commit(written.digest)
    return Layer(
        diff_id=written.diff_id,
        digest=written.digest,
        size=written.size,
        source=layer_source(planned),
        listing=write_listing(job.store, written.entries),
        **effect,
    )


def _fill(
    writer: LayerWriter,
    planned: PlannedLayer,
    job: Job,
    paths: Mapping[str, Path],
    compiler: Compiler | None,
    progress: Progress,
) -> dict[str, Any]:
    """Write the content; returns what the layer changes in the image beside its files."""
    environment = job.environment
    if planned.kind == "debian":
        from afenv.layers.deb import write_debs

        adapted = _DebCompiler(compiler) if compiler is not None and compiles_debs(environment) else None
        for deb in planned.debs:
            write_debs(
                [deb],
                [paths[deb.file.sha256]],
                writer,
                compiler=adapted,
                store=job.store,
                merged=job.base is None,
            )
            progress.advance(deb.file.size)
    elif planned.kind == "system" and job.base is not None:
        from afenv.layers.base_system import write_base_system

        for warning in write_base_system(environment, job.base, paths, writer, store=job.store):
            if job.warn is not None:
                job.warn(warning)
    elif planned.kind == "system":
        from afenv.layers.system import write_system

        for warning in write_system(environment, paths, writer, store=job.store):
            if job.warn is not None:
                job.warn(warning)
    elif planned.kind == "cvmfs":
        assert job.cvmfs is not None
        for part in planned.cvmfs:
            job.cvmfs.write(part, writer)
            progress.advance(part.size)
    elif planned.kind == "conda":
        from afenv.layers.conda import write_conda

        write_conda(
            planned.conda,
            paths,
            environment,
            writer,
            compiler=compiler,
            lost=conda_lost(job.lost),
            opened=job.opened,
            done=progress.advance,
        )
    elif planned.kind == "conda-environment":
        return _fill_conda_environment(writer, job, paths)
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
        write_code(planned.code, job.folder, job.store, job.settings, writer, quiet=job.quiet)
    return {}


def conda_lost(lost: Lost) -> Lost:
    """The part of ``lost`` that is about conda packages, by their names."""
    return {name[6:]: paths for name, paths in lost.items() if name.startswith("conda:")}


def _fill_conda_environment(writer: LayerWriter, job: Job, paths: Mapping[str, Path]) -> dict[str, Any]:
    from afenv.layers import conda_activation
    from afenv.layers.conda_plan import open_packages, tree_of

    environment, lost = job.environment, conda_lost(job.lost)
    opened = job.opened or open_packages(environment, paths, job.settings.jobs)
    files: dict[str, bytes | None] = {}
    for name in sorted(opened):
        files |= conda_activation.activation_files(opened[name], lost.get(name, frozenset()))
    found = conda_activation.activation(files, environment, tree_of(opened))
    conda_activation.write_environment(environment, found, writer)
    return {
        "variables": found.variables,
        "entrypoint": conda_activation.entrypoint(environment, found),
    }


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
