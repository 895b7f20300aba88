"""``afenv run --image``: an image that is there already, in whatever form, without a manifest.

An OCI layout or archive goes through the content store and runs in every runtime. A SIF, a squashfs file or
a folder that afenv made runs like that too where the store still has its layers; else it runs as it is, in
the runtimes that take such a form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afenv.documents.vm import is_vm, read_vm
from afenv.errors import AfenvError
from afenv.oci.forms import open_tree
from afenv.oci.model import Image
from afenv.run.choose import Host, choose, preference
from afenv.run.container import RunPlan, plan_request
from afenv.run.request import RunRequest
from afenv.store.content import ContentStore

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "sif": ("apptainer",),
    "squashfs": ("apptainer",),
    "folder": ("apptainer", "userns"),
    "vm": ("qemu",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenImage:
    """An image at a path: its form, as much of its configuration as it has, and the image where the store
    has all of it.
    """

    path: Path
    form: str
    config: Mapping[str, Any]
    image: Image | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """The ``config`` of the image's configuration: variables, entry point, labels."""
        return self.config.get("config") or {}


def open_given(path: Path, store: ContentStore) -> GivenImage:
    """What is at the path; the layers of an OCI layout or archive are in the store afterwards.

    E001, E301 and E510 for what cannot be read.
    """
    if path.is_dir() and is_vm(path):
        machine = read_vm(path)
        config = {"architecture": machine.architecture, "config": machine.config}
        return GivenImage(path=path.absolute(), form="vm", config=config)
    with open_tree(path) as tree:
        config = dict(tree.config or {})
        image = tree.image
        form = tree.form
    if image is not None and not _is_stored(image, store):
        image = None
        if form == "oci":
            from afenv.oci.importing import import_image

            image = import_image(path, store)
    return GivenImage(path=path.absolute(), form=form, config=config, image=image)


def _is_stored(image: Image, store: ContentStore) -> bool:
    return all(store.trusted(layer.digest, layer.size) for layer in image.layers)


def plan_given(
    given: GivenImage,
    store: ContentStore,
    request: RunRequest,
    *,
    runtime: str | None = None,
    load: bool = True,
    quiet: bool = False,
) -> RunPlan:
    """What will be run; arguments and errors are those of :func:`afenv.run.container.plan_request`.

    E501 where no runtime that is wanted and works takes the form.
    """
    if given.image is not None:
        return plan_request(given.image, store, request, runtime=runtime, load=load, quiet=quiet)
    asked = ("qemu",) if given.form == "vm" and runtime is None else preference(runtime)
    wanted = tuple(name for name in asked if name in RUNTIMES[given.form])
    if not wanted:
        names = " or ".join(RUNTIMES[given.form])
        raise AfenvError(
            "E501",
            f"a {given.form} of which the layers are not in the cache runs in {names}",
            place=str(given.path),
            remedy=f"Choose --runtime {RUNTIMES[given.form][0]}, or run the OCI image.",
        )
    return RunPlan(
        runtime=choose(Host(), wanted), image=str(given.path), config=given.settings, request=request
    )
