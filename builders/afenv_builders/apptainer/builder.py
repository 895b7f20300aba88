"""The builder of Apptainer's forms of an image.

A SIF is written in place: packed layers are put together in the file, or the merged layers go through a
program of the host into it, after the space that header and metadata need, which are known before. Nothing
is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from afenv.digest import sha256_file
from afenv.errors import AfenvError
from afenv.oci import media, sif
from afenv.oci.merge import Index, TarLayers, merged_members, tar_of, with_indexes
from afenv.oci.model import Descriptor, Image, ImageBlobs
from afenv.oci.read import OpenedImage
from afenv.oci.sif_record import SifRecord, holds
from afenv.oci.squashfs_layers import packed_layers
from afenv.progress import Progress
from afenv.store.content import ContentStore, write_error
from afenv_builders.apptainer import runtime_files
from afenv_builders.apptainer.packing import (
    LATEST,
    LEVELS,
    MOST_LEVELS,
    OWN,
    Packing,
    Tool,
    find_tool,
    own_tool,
    pack,
)
from afenv_builders.apptainer.packing_own import NotPackedError, pack_layers

SQUASHFS = "application/vnd.squashfs"
TARGETS = ("sif", "squashfs", "sandbox")
OPTIONS = frozenset(("target", "path", "quiet", "compressor", "level", "threads", "sign", "digest", "packer"))
IDENTITIES = uuid.UUID("5d21ad7e-3c14-5b0e-9c59-0e0dd9f1d6a4")  # the name space of the IDs of SIFs


class ApptainerBuilder:
    """Builds ``sif``, ``squashfs`` and ``sandbox``.

    Options: ``path``; ``compressor`` (``zstd`` or ``gzip``) and ``level``; ``packer``, ``afenv`` (the default
    for zstd) or ``tools`` (those of the host); ``threads`` (default: one per processor; the result does not
    depend on it); ``sign``, the fingerprint of a key in Apptainer's
    keyring, for ``sif``; ``quiet``; ``digest=False`` leaves the digest empty that nobody is going to look
    at, as it takes reading the file again. The descriptor's annotations tell the image ID, the program that
    packed, the compressor, and why it had to be another way where it had to.
    """

    def supports(self, target: str) -> bool:
        """Whether ``target`` is one of the three."""
        return target in TARGETS

    def build(self, image: Image, store: ContentStore, options: Mapping[str, Any]) -> Descriptor:
        """Write the output; a SIF that holds the image already, made in the same way, is kept.

        E030 for unfit options, E032 over something foreign, E413 if packing fails, E414 without the
        programs.
        """
        target, path = options.get("target", "sif"), options.get("path")
        # texts come from the command line; what else callers may give to all builders is their affair
        unknown = [name for name in sorted(options.keys() - OPTIONS) if isinstance(options[name], str)]
        if unknown:
            raise AfenvError("E030", f"the builder of {target!r} has no option {unknown[0]!r}")
        if path is None:
            raise AfenvError("E030", f"an output of kind {target!r} needs a path to write to")
        if options.get("sign") and target != "sif":
            raise AfenvError("E030", f"a {target} cannot be signed; a SIF can")
        if target == "sandbox":
            from afenv_builders.apptainer.sandbox import build_sandbox

            return build_sandbox(image, store, Path(path), quiet=bool(options.get("quiet")))
        packing = _packing(image, options)
        file = Path(path)
        record = _build_file(image, store, file, target, packing, options)
        return Descriptor(
            media_type=media.SIF_LAYER if target == "sif" else SQUASHFS,
            digest=sha256_file(file) if options.get("digest", True) else "",
            size=file.stat().st_size,
            annotations=record.annotations(),
        )

    def check(self, image: Image, path: Path, store: ContentStore) -> None:
        """Compare what was built, and let Apptainer use it; see :mod:`afenv_builders.apptainer.checking`."""
        from afenv_builders.apptainer.checking import check

        check(image, path, store)


def _packing(image: Image, options: Mapping[str, Any]) -> Packing:
    compressor = options.get("compressor") or "zstd"
    if compressor not in LEVELS:
        raise AfenvError("E030", f"{compressor!r} is no compressor; there are: {', '.join(sorted(LEVELS))}")
    level = _number(options, "level", LEVELS[compressor], MOST_LEVELS[compressor])
    threads = _number(options, "threads", len(os.sched_getaffinity(0)), 1024)
    return Packing(compressor=compressor, level=level, threads=threads, time=image_time(image))


def _number(options: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = options.get(name)
    if value is None:
        return default
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 1 <= number <= most:
        raise AfenvError("E030", f"{name} is a number from 1 to {most}, not {value!r}")
    return number


def image_time(image: Image) -> int:
    """When the image, or the newest of its layers, was made, in seconds since 1970."""
    config = image.configuration()
    texts = [config.get("created"), *(entry.get("created") for entry in config.get("history") or ())]
    times = [0]
    for text in texts:
        with contextlib.suppress(TypeError, ValueError):
            times.append(int(datetime.fromisoformat(str(text)[:19] + "+00:00").timestamp()))
    return min(max(times), LATEST)


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
) -> SifRecord:
    """Write the file, or find that it is there; how it was made."""
    if path.is_dir():
        raise AfenvError("E032", f"this is a folder; a {target} would be a file", place=str(path))
    key: str | None = options.get("sign")
    packer = options.get("packer") or ("afenv" if packing.compressor == "zstd" else "tools")
    if packer not in ("afenv", "tools") or (packer == "afenv" and packing.compressor != "zstd"):
        raise AfenvError("E030", f"packer is afenv (with zstd only) or tools, not {packer!r}")
    if packer == "afenv":
        with contextlib.suppress(NotPackedError):  # what only the host's programs write
            return _build_with(image, store, path, target, own_tool(), packing, options, key)
    return _build_with(image, store, path, target, find_tool(packing.compressor), packing, options, key)


def _build_with(
    image: Image,
    store: ContentStore,
    path: Path,
    target: str,
    tool: Tool | None,
    packing: Packing,
    options: Mapping[str, Any],
    key: str | None,
) -> SifRecord:
    record = SifRecord(image=image, tool=tool.version if tool else "", compressor=packing.name)
    try:
        if target == "sif" and _is_current(path, record, key):
            return record
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path) as new:
            if tool is not None:
                _write(record, store, new, target, tool, packing, bool(options.get("quiet")))
            else:
                from afenv_builders.apptainer.fallback import build_with_apptainer

                record = build_with_apptainer(image, store, new, target, packing)
            new.chmod(0o755 if target == "sif" else 0o644)
            if key:
                from afenv_builders.apptainer.signing import sign

                sign(new, key)
            new.replace(path)
    except OSError as error:
        raise write_error(error, path) from error
    return record


def _is_current(path: Path, record: SifRecord, key: str | None) -> bool:
    found = holds(path, record.image)
    if found is None or found.as_bytes() != record.as_bytes():
        return False
    if not key:
        return True
    from afenv_builders.apptainer.signing import is_signed_by

    return is_signed_by(path, key)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` where a file may be made; what is left there is removed."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / path.name


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
    opened = OpenedImage(image=image, blobs=ImageBlobs(image=image, rest=store), path=store.folder)

    first = runtime_files.first_members(image, record, packing.time)
    last = partial(runtime_files.last_members, mtime=packing.time)
    total = sum(layer.size for layer in image.layers)
    with Progress(f"packing {path.name}", total, quiet=quiet) as progress:
        if tool.name == OWN:
            layers = packed_layers(
                opened,
                store,
                path.with_name("packed"),
                level=packing.level,
                threads=packing.threads,
                advance=progress.advance,
            )
            pack_layers(layers, path, offset, packing, first=first, last=last)
        else:
            tars = TarLayers(opened, progress.advance)

            def attempt(indexes: Mapping[int, Index]) -> None:
                path.unlink(missing_ok=True)
                members = merged_members(tars, first=first, last=last, indexes=indexes)
                pack(tool, packing, tar_of(members), path, offset)

            with_indexes(tars, attempt)
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
