"""``afenv restore``: what is in a bag, in the form that is needed here.

Only the files that are needed are read, and what is read is checked against the index of the bag, which is
checked against its manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.archive.index import PARTS
from afenv.errors import AfenvError, Problem
from afenv.oci.attached import Attachment
from afenv.oci.model import Image
from afenv.oci.read import OpenedImage
from afenv.progress import Progress
from afenv.record import record, replace
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.workflow.archive_bag import Bag, new_folder, open_archive

if TYPE_CHECKING:
    from afenv.documents.facility import FacilityProfile
    from afenv.facility.needs import Needs

# which form a runtime of a facility takes
FORMS_OF_RUNTIMES = {
    "apptainer": "apptainer",
    "singularity": "apptainer",
    "docker": "docker",
    "podman": "podman",
    "containerd": "registry",
    "kubernetes": "registry",
    "cri-o": "registry",
    "userns": "folder",
}


@record
class Restored:
    """What was restored: the form, where it is, and for an image what it is."""

    form: str
    environment: str | None
    path: str
    image_id: str | None = None
    files: int = 0
    images: Mapping[str, str] = field(default_factory=dict)  # of a project: image IDs by environment

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "form": self.form,
            "environment": self.environment,
            "path": self.path,
            "image_id": self.image_id,
            "files": self.files,
            **({"images": dict(self.images)} if self.form == "project" else {}),
        }


@record
class _Job:
    """An image to restore, and where."""

    bag: Bag
    environment: str
    opened: OpenedImage
    attachments: tuple[Attachment, ...]
    store: ContentStore
    folder: Path
    output: str | None
    quiet: bool
    offline: bool

    @property
    def image(self) -> Image:
        """The image."""
        return self.opened.image

    def path(self, ending: str) -> Path:
        """Where to write."""
        return self.folder / (self.output or f"{self.environment}{ending}")


def restore(
    path: Path,
    *,
    to: str | None,
    folder: Path,
    store: ContentStore,
    settings: Settings,
    environment: str | None = None,
    output: str | None = None,
    only: Sequence[str] = (),
    facility: FacilityProfile | None = None,
    rebuild: bool = False,
    quiet: bool = False,
) -> Restored:
    """Restore an image, the project, or files; see ``FORMS``. Relative paths are relative to ``folder``.

    Without ``to``, a ``facility`` chooses the form that runs there; ``only`` restores parts as files; with
    ``rebuild`` a project gets no images, and builds them from its inputs. E030 for wrong usage, E031, E735 if
    nothing runs there; those of bags; and those of the form.
    """
    unknown = [one for one in only if one not in PARTS]
    if unknown:
        raise AfenvError("E030", f"{unknown[0]!r} is no part of a bag; there are: {', '.join(PARTS)}")
    if only and to not in (None, "files"):
        raise AfenvError("E030", "--only restores files as they are in the bag; it goes with --to files")
    if rebuild and to != "project":
        raise AfenvError(
            "E030", "--rebuild goes with --to project; `afenv verify BAG --rebuild` tries it alone"
        )
    with open_archive(path) as bag, store.in_use():
        form = "files" if only else to
        if form == "files":
            return _files(bag, only or PARTS, folder / (output or "restored"), quiet)
        if form == "project":
            from afenv.workflow.archive_project import restore_project

            return restore_project(
                bag, folder / (output or bag.index.name), store, images=not rebuild, quiet=quiet
            )
        name = _environment(bag, environment)
        if form is None:
            if facility is None:
                raise AfenvError("E030", "say with --to in which form, or with --facility for which facility")
            form = form_for(bag, name, facility, store, quiet=quiet)
        elif facility is not None:
            form_for(bag, name, facility, store, quiet=quiet)
        if form not in FORMS:
            known = ", ".join((*FORMS, "project", "files"))
            raise AfenvError("E030", f"{form!r} is not a form; there are: {known}")
        opened, attachments = bag.image(name)
        job = _Job(
            bag=bag,
            environment=name,
            opened=opened,
            attachments=tuple(attachments),
            store=store,
            folder=folder,
            output=output,
            quiet=quiet,
            offline=settings.offline,
        )
        place = FORMS[form](job)
        return Restored(form=form, environment=name, path=place, image_id=opened.image.image_id)


def _environment(bag: Bag, name: str | None) -> str:
    names = sorted(bag.index.environments)
    if name is None:
        if len(names) > 1 and "default" not in names:
            raise AfenvError("E031", f"choose an environment with -e; the bag has: {', '.join(names)}")
        return "default" if "default" in names else names[0]
    if name not in names:
        raise AfenvError("E031", f"there is no environment {name!r}; the bag has: {', '.join(names)}")
    return name


def needs_of_bag(bag: Bag, name: str, store: ContentStore, *, content: bool, quiet: bool) -> Needs:
    """What the image of an environment in a bag needs of a facility."""
    from afenv.oci.files import merged
    from afenv.oci.forms import Tree
    from afenv.workflow.check import of_tree

    opened, _ = bag.image(name)
    tree = Tree(
        path=Path(bag.place),
        form="oci",
        read=lambda contents, keep, known: merged(opened, contents=contents, keep=keep, known=known),
        image=opened.image,
        config=opened.image.configuration(),
        opened=opened,
    )
    return replace(of_tree(tree, Path(bag.place), store, content, quiet), in_bag=True)


def form_for(bag: Bag, name: str, facility: FacilityProfile, store: ContentStore, *, quiet: bool) -> str:
    """The form of an image that runs at a facility, by the verdict on it; E735 if there is none."""
    from afenv.facility.verdict import verdict

    found = verdict(needs_of_bag(bag, name, store, content=True, quiet=quiet), facility)
    if found.outcome == "cannot":
        where = f"it cannot run at {facility.name}"
        raise AfenvError.many(
            [
                Problem("E735", f"{where}: {one.message}", bag.place, None, one.remedy)
                for one in found.reasons
                if one.outcome == "cannot"
            ]
        )
    if found.runtime is None:
        raise AfenvError("E735", f"nothing is known of what runs images at {facility.name}", place=bag.place)
    form = FORMS_OF_RUNTIMES.get(found.runtime)
    if form is None:
        raise AfenvError("E735", f"no form in a bag is for {found.runtime}", place=bag.place)
    return form


def _bring(job: _Job) -> Image:
    bring_image(job.bag, job.image, job.store, quiet=job.quiet)
    return job.image


def bring_image(bag: Bag, image: Image, store: ContentStore, *, quiet: bool) -> None:
    """The blobs of the image into the store, checked; E728 if layers were left out."""
    left_out = bag.left_out()
    known = bag.index.by_digest()
    wanted = [image.manifest_digest, image.image_id, *(layer.digest for layer in image.layers)]
    with Progress("restoring the image", image.size, quiet=quiet) as progress:
        for digest in dict.fromkeys(wanted):
            file = known.get(digest)
            if file is None:
                what = "was left out because of its licence" if digest in left_out else "is not in the bag"
                raise AfenvError("E728", f"{digest} {what}", place=bag.place)
            bag.into_store(file, store)
            progress.advance(file.size)
    store.sync()


def _oci(job: _Job) -> str:
    from afenv.oci.layout import write_layout

    image = _bring(job)
    path = job.path(".oci")
    if path.suffix == ".tar":
        return _built(job, image, "oci-archive", path)
    write_layout(image, job.store, path, attachments=job.attachments)
    return str(path)


def _folder(job: _Job) -> str:
    return _built(job, _bring(job), "sandbox", job.path(".sandbox"))


def _cvmfs(job: _Job) -> str:
    return _built(job, _bring(job), "cvmfs", job.path(".cvmfs"))


def _apptainer(job: _Job) -> str:
    path = job.path(".sif")
    kept = job.bag.index.environments[job.environment].sif
    if kept is None:
        return _built(job, _bring(job), "sif", path)
    file = next(one for one in job.bag.index.files if one.path == kept)
    if path.exists():
        raise AfenvError("E032", "there is something of that name already", place=str(path))
    with Progress("restoring the SIF", file.size, quiet=job.quiet) as progress:
        job.bag.copy(file, path, progress.advance)
    path.chmod(0o755)
    return str(path)


def _vm(job: _Job) -> str:
    """The virtual machine of the bag, as it is; else one that is made of the image."""
    from afenv.workflow.archive_vm import restore_machine

    path = job.path(".vm")
    if not restore_machine(job.bag, job.environment, path, quiet=job.quiet):
        _built(job, _bring(job), "vm", path, **({"offline": "yes"} if job.offline else {}))
    return str(path)


def _built(job: _Job, image: Image, target: str, path: Path, **more: str) -> str:
    from afenv.oci.builders import find_builder

    options: Mapping[str, Any] = {
        **more,
        "target": target,
        "path": path,
        "quiet": job.quiet,
        "attachments": job.attachments,
        "digest": False,
    }
    find_builder(target).build(image, job.store, options)
    return str(path)


def _engine(name: str) -> Callable[[_Job], str]:
    def load(job: _Job) -> str:
        from afenv.run.choose import Host
        from afenv.run.engines import Engine
        from afenv.run.load import load_from_store

        engine = Host()[name]
        if isinstance(engine, AfenvError):
            raise engine
        assert isinstance(engine, Engine)
        image = _bring(job)
        load_from_store(engine, image, job.store, quiet=job.quiet)
        return image.reference

    return load


def _registry(job: _Job) -> str:
    from afenv.workflow.push import publish

    if job.output is None:
        raise AfenvError("E030", "say with -o where to: HOST[:PORT]/NAME[:TAG]")
    left_out = job.bag.left_out()
    if any(layer.digest in left_out for layer in job.image.layers):
        raise AfenvError("E728", "layers were left out because of their licences", place=job.bag.place)
    publish(job.image, job.opened.blobs, job.output, job.attachments, quiet=job.quiet)
    return job.output


FORMS: dict[str, Callable[[_Job], str]] = {
    "oci": _oci,
    "folder": _folder,
    "apptainer": _apptainer,
    "docker": _engine("docker"),
    "podman": _engine("podman"),
    "registry": _registry,
    "cvmfs": _cvmfs,
    "vm": _vm,
}


def _files(bag: Bag, parts: Sequence[str], folder: Path, quiet: bool) -> Restored:
    """The files of some parts, with their paths in the bag."""
    files = [file for file in bag.index.files if file.part in parts]
    if not files:
        held = [part for part in PARTS if any(file.part == part for file in bag.index.files)]
        message = f"the bag was written without {' and '.join(parts)}; it has: {', '.join(held)}"
        raise AfenvError("E784", message, place=bag.place)
    total = sum(file.size for file in files)
    with new_folder(folder), Progress("restoring files", total, quiet=quiet) as progress:
        for file in files:
            bag.copy(file, folder / file.path, progress.advance)
    return Restored(form="files", environment=None, path=str(folder), files=len(files))
