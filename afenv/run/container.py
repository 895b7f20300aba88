"""Running a command in an image, as a person at the host expects it.

The host's folder is there at the same path and is the working directory; the command runs as the
calling user, so what it writes belongs to that user; standard streams, signals and the exit status pass
through. Which surroundings a command finds is told in :mod:`afenv.run.request`, and is the same in every
runtime.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.choose import find_runtime, module_of
from afenv.run.request import Mount, Prepared, RunRequest
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    from afenv.run.choose import Runtime

__all__ = ["Mount", "RunPlan", "find_runtime", "plan_request", "plan_run", "request_of", "run_image"]

_SCRATCH = "/afenv-scratch-folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What will be run: the runtime, the image as the runtime knows it, and what is asked of it.

    ``config`` is the ``config`` of the image's configuration.
    """

    runtime: Runtime
    image: str
    config: Mapping[str, Any]
    request: RunRequest

    def command_line(self, scratch: str = _SCRATCH) -> tuple[str, ...]:
        """The runtime's whole command line; ``scratch`` is an empty folder that some runtimes need."""
        words: tuple[str, ...] = module_of(self.runtime).launch(
            self.runtime, self.image, self.config, self.request, scratch
        )
        return words

    def shown(self) -> str:
        """The command line as a line for a shell, which makes the empty folder itself."""
        return shlex.join(self.command_line()).replace(_SCRATCH, '"$(mktemp -d)"')


def plan_run(
    image: Image,
    store: ContentStore,
    command: Sequence[str],
    *,
    workdir: Path,
    runtime: str | None = None,
    interactive: bool = False,
    mounts: Sequence[Mount] = (),
    env: Mapping[str, str] | None = None,
    gpu: bool = False,
    network: bool = True,
    load: bool = True,
    quiet: bool = False,
) -> RunPlan:
    """:func:`plan_request` for what :func:`request_of` makes of the rest."""
    request = request_of(
        command,
        workdir=workdir,
        interactive=interactive,
        mounts=mounts,
        env=env,
        gpu=gpu,
        network=network,
    )
    return plan_request(image, store, request, runtime=runtime, load=load, quiet=quiet)


def plan_request(
    image: Image,
    store: ContentStore,
    request: RunRequest,
    *,
    runtime: str | None = None,
    load: bool = True,
    quiet: bool = False,
) -> RunPlan:
    """Choose a runtime, bring the image into it if it is not there, and say what will be run.

    Without ``load`` no image is loaded into an engine, which is for showing the command line. Errors: those
    of :func:`~afenv.run.choose.find_runtime`, E502 if the image cannot be brought in.
    """
    chosen = find_runtime(runtime)
    prepared: Prepared = module_of(chosen).prepare(chosen, image, store, request, load=load, quiet=quiet)
    return RunPlan(
        runtime=chosen,
        image=prepared.image,
        config=image.configuration().get("config") or {},
        request=replace(request, mounts=(*request.mounts, *prepared.mounts)),
    )


def request_of(
    command: Sequence[str],
    *,
    workdir: Path,
    interactive: bool = False,
    mounts: Sequence[Mount] = (),
    env: Mapping[str, str] | None = None,
    gpu: bool = False,
    network: bool = True,
    entrypoint: bool = True,
) -> RunRequest:
    """What this process asks for.

    ``interactive`` asks for a terminal; without ``entrypoint`` the image's own is passed over, activation
    excepted. E001 and E030 for a working directory that cannot be used.
    """
    folder = workdir.absolute()
    if not folder.is_dir():
        raise AfenvError("E001", "there is no such folder", place=str(folder))
    if folder.parent == folder:
        raise AfenvError("E030", "the root folder cannot be the working directory; change into another one")
    return RunRequest(
        command=tuple(command),
        workdir=folder,
        uid=os.getuid(),
        gid=os.getgid(),
        groups=tuple(sorted(set(os.getgroups()) - {os.getgid()})),
        hostname=os.uname().nodename,
        env=dict(env or {}),
        mounts=tuple(mounts),
        interactive=interactive,
        term=os.environ.get("TERM", ""),
        gpu=gpu,
        network=network,
        entrypoint=entrypoint,
    )


def run_image(plan: RunPlan) -> int:
    """Run the plan and return the command's exit status (128 + n after signal n).

    E502 if the runtime could not start a container, E503 and E504 if the command could not be started; the
    runtime's own words are on standard error by then.
    """
    with _scratch_folder() as scratch:
        status: int = module_of(plan.runtime).run(
            plan.runtime, plan.image, plan.config, plan.request, scratch
        )
        return status


@contextlib.contextmanager
def _scratch_folder() -> Iterator[str]:
    """A folder of the host for what is written below ``/tmp`` and ``HOME``, removed afterwards."""
    folder = tempfile.mkdtemp(prefix="afenv-run-")
    try:
        yield folder
    finally:
        from afenv.store.trees import remove_tree

        with contextlib.suppress(OSError):
            remove_tree(Path(folder))
