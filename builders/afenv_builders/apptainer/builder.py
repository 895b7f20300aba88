"""The builder of Apptainer's forms of an image.

A SIF is written in place: the merged layers go through squashfs's packer into the file, after the space
that header and metadata need, which are known before. Nothing is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from afenv.digest import sha256_file
from afenv.errors import AfenvError
from afenv.oci import media, sif
from afenv.oci.merge import Index, merged_tar, with_indexes
from afenv.oci.model import Descriptor, Image, ImageBlobs
from afenv.oci.read import OpenedImage
from afenv.oci.sif_record import SifRecord
from afenv.progress import Progress
from afenv.store.content import ContentStore, write_error
from afenv_builders.apptainer import runtime_files
from afenv_builders.apptainer.packing import LEVELS, Compressor, Packing, Tool, find_tool, pack

SQUASHFS = "application/vnd.squashfs"
TARGETS = ("sif", "squashfs", "sandbox")
IDENTITIES = uuid.UUID("5d21ad7e-3c14-5b0e-9c59-0e0dd9f1d6a4")  # of the names that SIFs are numbered by


class ApptainerBuilder:
    """Builds ``sif``, ``squashfs`` and ``sandbox``.

    Options: ``path``; ``compressor`` (``zstd`` or ``gzip``) and ``level``; ``threads`` (default: all
    processors); ``quiet``. The annotations of the descriptor tell ``tool``, ``compressor`` and, where the
    fallback was used, ``fallback``.
    """

    def supports(self, target: str) -> bool:
        """Whether ``target`` is one of the three."""
        return target in TARGETS

    def build(self, image: Image, store: ContentStore, options: Mapping[str, Any]) -> Descriptor:
        """Write the output; E030 for unfit options, E032 over something foreign, E414 without tools."""
        target, path = options.get("target", "sif"), options.get("path")
        if path is None:
            raise AfenvError("E030", f"an output of kind {target!r} needs a path to write to")
        if target == "sandbox":
            from afenv_builders.apptainer.sandbox import build_sandbox

            return build_sandbox(image, store, Path(path), quiet=bool(options.get("quiet")))
        return _build_file(image, store, Path(path), target, _packing(image, options), options)


def _packing(image: Image, options: Mapping[str, Any]) -> Packing:
    compressor = options.get("compressor") or "zstd"
    if compressor not in LEVELS:
        raise AfenvError("E030", f"{compressor!r} is no compressor; there are: {', '.join(sorted(LEVELS))}")
    level = int(options.get("level") or LEVELS[compressor])
    most = {"zstd": 22, "gzip": 9}[compressor]
    if not 1 <= level <= most:
        raise AfenvError("E030", f"{compressor} has the levels 1 to {most}, not {level}")
    return Packing(
        compressor=cast(Compressor, compressor),
        level=level,
        threads=int(options.get("threads") or 0),
        time=image_time(image),
    )


def image_time(image: Image) -> int:
    """When the image, or the newest of its layers, was made, in seconds since 1970."""
    config = image.configuration()
    texts = [config.get("created"), *(entry.get("created") for entry in config.get("history") or ())]
    times = [0]
    for text in texts:
        with contextlib.suppress(TypeError, ValueError):
            times.append(int(datetime.fromisoformat(str(text)[:19] + "+00:00").timestamp()))
    return max(times)


def identity(image: Image, packing: Packing) -> uuid.UUID:
    """The SIF's ID: it depends on the image ID and on the compressor with its level."""
    return uuid.uuid5(IDENTITIES, f"{image.image_id} {packing.name}")


def _build_file(
    image: Image,
    store: ContentStore,
    path: Path,
    target: str,
    packing: Packing,
    options: Mapping[str, Any],
) -> Descriptor:
    if path.is_dir():
        raise AfenvError("E032", f"this is a folder; a {target} would be a file", place=str(path))
    tool = find_tool(packing.compressor)
    record = SifRecord(image=image, tool=tool.version if tool else "", compressor=packing.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path) as new:
            if tool is not None:
                _write(record, store, new, target, tool, packing, bool(options.get("quiet")))
            else:
                from afenv_builders.apptainer.fallback import build_with_apptainer

                record = build_with_apptainer(image, store, new, target, packing)
            new.chmod(0o755 if target == "sif" else 0o644)
            digest, size = sha256_file(new), new.stat().st_size
            new.replace(path)
    except OSError as error:
        raise write_error(error, path) from error
    return Descriptor(
        media_type=media.SIF_LAYER if target == "sif" else SQUASHFS,
        digest=digest,
        size=size,
        annotations=record.annotations(),
    )


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` where a file may be made; what is left there is removed."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / "new"


def _write(
    record: SifRecord,
    store: ContentStore,
    path: Path,
    target: str,
    tool: Tool,
    packing: Packing,
    quiet: bool,
) -> None:
    image = record.image
    objects = runtime_files.sif_objects(image, record) if target == "sif" else []
    offset = sif.partition_offset(len(content) for _, _, content in objects) if objects else 0
    opened = OpenedImage(image, ImageBlobs(image=image, rest=store), store.folder)

    def attempt(indexes: Mapping[int, Index]) -> None:
        path.unlink(missing_ok=True)
        total = sum(layer.size for layer in image.layers)
        with Progress(f"packing {target}", total, quiet=quiet) as progress:
            pieces = merged_tar(
                opened,
                first=runtime_files.first_members(image, record, packing.time),
                last=lambda present: runtime_files.last_members(present, packing.time),
                indexes=indexes,
                advance=progress.advance,
            )
            pack(tool, packing, pieces, path, offset)

    with_indexes(opened, attempt)
    if objects:
        head = sif.sif_head(
            objects=objects,
            partition_size=path.stat().st_size - offset,
            architecture=str(image.configuration().get("architecture", "")),
            identity=identity(image, packing),
            created=packing.time,
        )
        with path.open("r+b") as file:
            file.write(head)
