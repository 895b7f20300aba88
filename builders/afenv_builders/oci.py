"""Outputs in OCI's own formats: ``oci`` (folder), ``oci-archive`` (tar), ``docker`` (the local engine)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.oci.archive import write_archive
from afenv.oci.attached import Attachment
from afenv.oci.layout import write_layout
from afenv.oci.model import Descriptor, Image
from afenv.store.content import ContentStore, write_error

ARCHIVE = "application/x-tar"
TARGETS = ("oci", "oci-archive", "docker")
OPTIONS = frozenset(("target", "path", "quiet", "digest", "attachments", "reference"))


class OciBuilder:
    """Builds ``oci``, ``oci-archive`` and ``docker``.

    Options: ``path`` and ``attachments`` (:class:`afenv.oci.attached.Attachment`) for the first two;
    ``reference`` (default: the image's own name) for ``oci``; ``quiet``.
    """

    def supports(self, target: str) -> bool:
        """Whether ``target`` is one of the three."""
        return target in TARGETS

    def build(self, image: Image, store: ContentStore, options: Mapping[str, Any]) -> Descriptor:
        """Write the output; E030 for unfit options, E032 over something foreign, E502 if the engine fails."""
        target = options.get("target", "oci")
        unknown = [name for name in sorted(options.keys() - OPTIONS) if isinstance(options[name], str)]
        if unknown:
            raise AfenvError("E030", f"the builder of {target!r} has no option {unknown[0]!r}")
        if target == "docker":
            from afenv.run.engines import docker
            from afenv.run.load import load_from_store

            load_from_store(docker(), image, store, quiet=bool(options.get("quiet")))
            return image.config_descriptor()
        path, attachments = options.get("path"), options.get("attachments") or ()
        if path is None:
            raise AfenvError("E030", f"an output of kind {target!r} needs a path to write to")
        if target == "oci":
            name = options.get("reference")
            write_layout(image, store, Path(path), reference=name, attachments=attachments)
            return image.manifest_descriptor()
        return _write_archive_file(image, store, Path(path), attachments)


class _HashingFile:
    """A file that hashes what is written, for :func:`write_archive`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.size += len(data)
        return int(self._file.write(data))


def _write_archive_file(
    image: Image, store: ContentStore, path: Path, attachments: Sequence[Attachment]
) -> Descriptor:
    if path.is_dir():
        raise AfenvError("E032", "this is a folder; an archive would be a file", place=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                hashing = _HashingFile(file)
                write_archive(image, store, hashing, attachments=attachments)  # type: ignore[arg-type]
                os.fchmod(file.fileno(), 0o644)
            Path(name).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise write_error(error, path) from error
    return Descriptor(media_type=ARCHIVE, digest="sha256:" + hashing.hash.hexdigest(), size=hashing.size)
