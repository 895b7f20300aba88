"""The port of publishing: images in a shared file system such as CVMFS, under names for people.

Whoever publishes is the builder of the target ``cvmfs`` (entry point group ``afenv.builders``); it has the
methods of :class:`Publisher` beside those of a builder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, cast

from afenv.oci.model import Blobs, Image
from afenv.record import record

MOUNTED = Path("/cvmfs")
Method = Literal["folder", "ingest", "transaction", "wishes"]


@record
class Target:
    """Where to publish, and how.

    ``folder``: ``place`` is the folder. ``ingest`` and ``transaction``: ``repository`` is a CVMFS repository
    of this host, ``place`` where it is mounted. ``wishes``: ``place`` is a wish list for DUCC, ``repository``
    the one that it is for, and ``user`` whom DUCC is to work as.
    """

    method: Method
    place: Path
    repository: str = ""
    user: str = ""


def folder_target(folder: Path) -> Target:
    """A folder with the layout of unpacked.cern.ch."""
    return Target(method="folder", place=folder)


def repository_target(name: str, method: Literal["ingest", "transaction"] = "ingest") -> Target:
    """A CVMFS repository whose release manager is this host."""
    return Target(method=method, place=MOUNTED / name, repository=name)


def wishes_target(file: Path, repository: str, user: str = "") -> Target:
    """A wish list, for DUCC to publish to ``repository``."""
    return Target(method="wishes", place=file, repository=repository, user=user)


@record
class Publication:
    """What publishing an image did.

    ``name`` is the name for people, ``path`` that of the flat tree below the target (empty for a wish).
    ``added`` and ``shared`` are digests of layers; ``left_out`` says which paths or properties of the image
    are not published, a line each. If not ``changed``, all was there and nothing was done.
    """

    name: str
    image_id: str
    target: Target
    changed: bool
    path: str = ""
    added: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that ``afenv cvmfs publish --json`` prints."""
        return {
            "name": self.name,
            "image_id": self.image_id,
            "method": self.target.method,
            "place": str(self.target.place),
            "path": self.path,
            "changed": self.changed,
            "layers": {"added": list(self.added), "shared": list(self.shared)},
            "left_out": list(self.left_out),
        }


@record
class PublishedImage:
    """An image that is published: its name for people, its image ID, and the digests of its layers."""

    name: str
    image_id: str
    layers: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The object that ``afenv cvmfs list --json`` prints."""
        return {"name": self.name, "image_id": self.image_id, "layers": list(self.layers)}


@record
class Removal:
    """What was removed, as paths below the target."""

    paths: tuple[str, ...]


class Publisher(Protocol):
    """What publishes images. Failures are AfenvErrors, and leave what was published as it was."""

    def publish(
        self, image: Image, blobs: Blobs, reference: str, target: Target, *, quiet: bool = False
    ) -> Publication:
        """Publish under ``reference`` (``REGISTRY/REPOSITORY[:TAG]``); the layers are in ``blobs``."""
        ...  # pragma: no cover

    def images(self, target: Target) -> tuple[PublishedImage, ...]:
        """What is published, by name."""
        ...  # pragma: no cover

    def remove(self, reference: str, target: Target) -> Removal:
        """Remove a name; the files stay until :meth:`collect`."""
        ...  # pragma: no cover

    def collect(self, target: Target) -> Removal:
        """Remove what no name leads to any more."""
        ...  # pragma: no cover


def find_publisher() -> Publisher:
    """The installed publisher; E030 if there is none."""
    from afenv.oci.builders import find_builder

    return cast("Publisher", find_builder("cvmfs"))
