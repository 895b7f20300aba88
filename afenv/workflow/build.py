"""From the lock to images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.documents.lock import Lock, LockedEnvironment, LockedFile
from afenv.documents.lockfile import environment_json
from afenv.errors import AfenvError
from afenv.layers.model import PACKAGE_MTIME, Layer, PlannedLayer
from afenv.workflow.lock import Locking, check_lock, load, lock_project
from afenv.workflow.project import Project, choose_environments

if TYPE_CHECKING:
    from afenv.oci.image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """An image that was built: where it was written, and what it is."""

    environment: str
    image: Image
    lock_digest: str
    assembly_version: int
    path: str
    pushed: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The object that ``afenv build --json`` prints."""
        return {
            "environment": self.environment,
            "image_id": self.image.image_id,
            "manifest_digest": self.image.manifest_digest,
            "lock_digest": self.lock_digest,
            "assembly_version": self.assembly_version,
            "layers": [
                {"diff_id": layer.diff_id, "digest": layer.digest, "size": layer.size, "source": layer.source}
                for layer in self.image.layers
            ],
            "path": self.path,
            **({"pushed": self.pushed} if self.pushed else {}),
        }


def build_project(
    project: Project,
    *,
    environment: str | None = None,
    output: Path | None = None,
    target: str = "oci",
    locked: bool = False,
    allow_dirty: bool = False,
    check: bool = False,
    push: str | None = None,
) -> list[Built]:
    """Build one environment, or all, and write each for ``target``.

    With ``locked`` a lock that does not fit is an error (E020, E021); else it is refreshed first. With
    ``check`` every digest of what was written is checked; with ``push`` the image goes to that
    reference as well.
    """
    names = choose_environments(load(project), environment)
    if len(names) > 1 and (output or push):
        raise AfenvError(
            "E030", f"--output and --push take one environment; choose one of {', '.join(names)} with -e"
        )
    if locked:
        lock = check_lock(project, allow_dirty=allow_dirty)
    else:
        lock, _ = lock_project(project, Locking(allow_dirty=allow_dirty))
    return [
        _build(project, lock, name, output=output, target=target, check=check, push=push) for name in names
    ]
