"""Live mode: the checkout lies over the code of the image, so an edit is seen without a build.

``afenv run --live`` is ``build_project(project, …, live=True)``, which takes the code as it was last
committed whatever has been changed since, and then a run with the folders of :func:`live_binds` mounted
read-write. The image below is the one of the last commit, so nothing is built for an edit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the host, as a real and absolute path, that covers ``target`` of the image, writable."""

    source: Path
    target: str


def live_binds(manifest: AnalysisManifest, folder: Path) -> tuple[Bind, ...]:
    """Each ``path:`` code source over its ``into``, sorted by target; ``folder`` is that of the manifest.

    Code from git URLs stays as the image has it. No target lies in another one (the manifest may not say
    so). E001 if a folder is missing; E030 if the manifest has no folder, or one that goes into ``/``, which
    nothing can cover.
    """
    binds = []
    for source in manifest.code:
        if source.git is not None:
            continue
        target = "/" + source.into.strip("/")
        if target == "/":
            message = "code that goes into / cannot be mounted over the image"
            raise AfenvError("E030", message, place="--live", remedy="Give the code a folder with `into`.")
        here = Path(os.path.realpath(folder / (source.folder or ".")))
        if not here.is_dir():
            raise AfenvError("E001", "there is no such folder", place=str(here))
        binds.append(Bind(here, target))
    if not binds:
        message = "the manifest has no code from a folder, so there is nothing to mount"
        remedy = "List the checkout under `code`, as {path: .}, or run without --live."
        raise AfenvError("E030", message, place="--live", remedy=remedy)
    return tuple(sorted(binds, key=lambda bind: bind.target))
