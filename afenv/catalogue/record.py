"""What a catalogue says of an image, as frozen values. The norm is ``specs/record/v1``.

Design goals of the format: one record is enough to decide whether, how and why not an image runs somewhere,
without asking a registry; the image is named by its digest, so a record never comes to mean another image;
what is not known is absent. :mod:`afenv.catalogue.record_tree` reads and writes the JSON form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afenv.facility.needs import Needs
from afenv.record import field, record

FORMAT_VERSION = 1
STATES = ("same", "moved", "vanished", "changed", "unreached")


@record
class Form:
    """A form in which the image can be had: ``oci``, ``sif``, or ``cvmfs`` (a folder tree at ``path``).

    ``size`` is in bytes as transferred, ``digest`` that of the manifest under ``reference``.
    """

    form: str
    reference: str | None = None
    digest: str | None = None
    size: int | None = None
    path: str | None = None


@record
class Metadata:
    """What people want to know of the analysis."""

    title: str | None = None
    description: str | None = None
    license: str | None = None
    url: str | None = None
    authors: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


@record
class Origin:
    """Who built the image, when, and from which commit of which repository, as its provenance says."""

    builder: str | None = None
    created: str | None = None
    source: str | None = None
    commit: str | None = None
    dirty: bool = False


@record
class Checked:
    """What was found when the registry was last asked.

    ``state``: ``same``; ``moved``, the tag names another image now and this one is there by its digest;
    ``vanished``; ``changed``, what comes back is not what the digest says; ``unreached``, nobody answered.
    ``found`` is the digest that the tag names now.
    """

    time: str
    state: str = "same"
    found: str | None = None


@record
class ImageRecord:
    """One image. ``digest`` is that of its manifest, ``added`` the time when the record last changed.

    ``attached`` are digests of documents by kind (``lock``, ``manifest``, ``sbom``, ``provenance``).
    ``more`` are keys of the record that this version does not know, kept when it is written again.
    """

    name: str
    reference: str
    digest: str
    image_id: str
    added: str
    needs: Needs
    forms: tuple[Form, ...]
    environment: str = "default"
    version: str | None = None
    platform: str | None = None
    attached: Mapping[str, str] = field(default_factory=dict, hash=False)
    metadata: Metadata = Metadata()
    origin: Origin = Origin()
    checked: Checked | None = None
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def repository(self) -> str:
        """``HOST[:PORT]/NAME`` of the image, without its tag."""
        folder, slash, last = self.reference.partition("@")[0].rpartition("/")
        return folder + slash + last.partition(":")[0]

    @property
    def key(self) -> str:
        """What tells records apart: the repository and the digest in it."""
        return f"{self.repository}@{self.digest}"

    @property
    def exact(self) -> str:
        """The reference with the digest, which names this image for ever."""
        return f"{self.reference.partition('@')[0]}@{self.digest}"

    @property
    def title(self) -> str:
        """The name for people: ``dimuon``, or ``dimuon:gpu`` for an environment of another name."""
        return self.name if self.environment == "default" else f"{self.name}:{self.environment}"

    def form(self, name: str) -> Form | None:
        """The form of that name, if the image can be had in it."""
        return next((one for one in self.forms if one.form == name), None)
