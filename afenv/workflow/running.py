"""The image that ``afenv run`` and ``afenv shell`` run: the one that is built already, or built now."""

from __future__ import annotations

from pathlib import Path

from afenv.oci.model import Image
from afenv.workflow.project import Project
from afenv.workflow.receipt import known_result


def image_to_run(
    project: Project, environment: str, *, locked: bool = False, allow_dirty: bool = False, live: bool = False
) -> Image:
    """The environment's image, all of whose layers are in the store.

    Where nothing has changed since the last build, it is read from the layout that the build wrote. With
    ``live`` it is the one of the last commit. Errors: those of :func:`afenv.workflow.build.build_project`.
    """
    if not live:
        known = _known(project, environment, allow_dirty)
        if known is not None:
            return known
    from afenv.workflow.build import build_project

    (built,) = build_project(
        project, environment=environment, locked=locked, allow_dirty=allow_dirty, live=live
    )
    return built.image


def _known(project: Project, environment: str, allow_dirty: bool) -> Image | None:
    for asked in (environment, None):
        for one in known_result(project.folder, asked, allow_dirty) or ():
            if one["environment"] == environment:
                return _read(project, Path(one["path"]))
    return None


def _read(project: Project, path: Path) -> Image | None:
    from afenv.errors import AfenvError
    from afenv.oci.read import open_image

    try:
        with open_image(path) as opened:
            image = opened.image
    except AfenvError:
        return None
    return image if all(project.store.has(layer.digest, layer.size) for layer in image.layers) else None
