"""Reading images: OCI layouts, ``oci-archive`` and ``docker-archive`` tars, whoever wrote them.

Nothing is unpacked to disk. An archive is indexed once and its blobs are read in place; only an archive
that is compressed as a whole is first inflated into an unnamed temporary file.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from afenv import canonical
from afenv.digest import PATTERN, sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.blobs import GZIP, ZSTD, ArchiveBlobs, FolderBlobs, decompressed, stream_errors
from afenv.oci.config_form import check_config, check_manifest, parsed
from afenv.oci.model import Blobs, Image, ImageLayer
from afenv.record import record
from afenv.store.failures import write_error

INDEXES = (media.IMAGE_INDEX, media.DOCKER_INDEX)
SMALL = 16 << 20  # bytes; a config or manifest larger than this is refused
DEPTH = 3  # indexes inside indexes


@record
class OpenedImage:
    """An image and where its blobs are."""

    image: Image
    blobs: Blobs
    path: Path
    index: bytes = b""  # index.json, where there is one

    @contextlib.contextmanager
    def layer(self, position: int, *, buffered: bool = True) -> Iterator[BinaryIO]:
        """The uncompressed tar of a layer, counted from 0 at the bottom, as a stream.

        ``buffered`` is for those who read a little at a time.
        """
        with (
            self.blobs.open(self.image.layers[position].digest) as file,
            decompressed(file, buffered=buffered) as stream,
        ):
            yield stream


def _read_small(file: BinaryIO, place: Path) -> bytes:
    with file:
        data = file.read(SMALL + 1)
    if len(data) > SMALL:
        raise AfenvError("E510", "a manifest or config is larger than 16 MiB", place=str(place))
    return data


def _read_checked(blobs: Blobs, descriptor: Any, place: Path) -> bytes:
    if not PATTERN.match(descriptor["digest"]):
        raise AfenvError("E510", f"{descriptor['digest']!r} is not a sha256 digest", place=str(place))
    data = _read_small(blobs.open(descriptor["digest"]), place)
    if sha256_bytes(data) != descriptor["digest"]:
        raise AfenvError(
            "E301", f"{descriptor['digest']} has another content: {sha256_bytes(data)}", place=str(place)
        )
    return data


def _manifests(blobs: Blobs, index: Any, place: Path, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The descriptors of image manifests, with those inside nested indexes; attestations left out."""
    for descriptor in index["manifests"]:
        platform = descriptor.get("platform") or {}
        if platform.get("os") == "unknown":
            continue
        if descriptor.get("mediaType") in INDEXES:
            if depth >= DEPTH:
                raise AfenvError("E510", "indexes are nested too deeply", place=str(place))
            inner = parsed(_read_checked(blobs, descriptor, place))
            name = (descriptor.get("annotations") or {}).get(media.REF_NAME)
            for found in _manifests(blobs, inner, place, depth + 1):
                notes = ({media.REF_NAME: name} if name else {}) | (found.get("annotations") or {})
                yield found | {"annotations": notes}
        else:
            yield descriptor


def _choose(found: list[dict[str, Any]], reference: str | None, place: Path) -> dict[str, Any]:
    def name(descriptor: dict[str, Any]) -> str:
        return str((descriptor.get("annotations") or {}).get(media.REF_NAME, ""))

    if reference is not None:
        found = [one for one in found if reference in (name(one), one["digest"])]
    if len({one["digest"] for one in found}) == 1:
        return found[0]
    if not found:
        raise AfenvError("E510", f"there is no image {reference or ''}".rstrip(), place=str(place))
    names = ", ".join(sorted(name(one) or one["digest"] for one in found))
    raise AfenvError("E510", f"there are several images: {names}", place=str(place))


def _split_reference(reference: str) -> tuple[str, str]:
    name, _, tag = reference.rpartition(":")
    return (name, tag) if name and "/" not in tag else (reference, "")


def _sources(config: Any) -> list[str]:
    history = [entry for entry in config.get("history") or () if not entry.get("empty_layer")]
    return [str(entry.get("created_by", "")).removeprefix("afenv: ") for entry in history]


def image_from(config: bytes, manifest: bytes, reference: str, place: Path | str) -> Image:
    """The image that these two documents describe; E510 or a ``ValueError``'s kin if they describe none."""
    document, settings = parsed(manifest), parsed(config)
    check_manifest(document)
    check_config(settings)
    diff_ids = settings["rootfs"]["diff_ids"]
    if len(diff_ids) != len(document["layers"]):
        raise AfenvError(
            "E510",
            f"the config names {len(diff_ids)} layers, the manifest {len(document['layers'])}",
            place=str(place),
        )
    sources = _sources(settings)
    if len(sources) != len(diff_ids):
        sources = [""] * len(diff_ids)
    name, tag = _split_reference(reference)
    for digest in (*diff_ids, *(layer["digest"] for layer in document["layers"])):
        if not (isinstance(digest, str) and PATTERN.match(digest)):
            raise AfenvError("E510", f"{digest!r} is not a sha256 digest", place=str(place))
    return Image(
        config=config,
        manifest=manifest,
        layers=tuple(
            ImageLayer(
                diff_id=diff_id,
                digest=layer["digest"],
                size=int(layer["size"]),
                media_type=str(layer["mediaType"]),
                source=source,
            )
            for diff_id, layer, source in zip(diff_ids, document["layers"], sources, strict=True)
        ),
        name=name,
        tag=tag,
        config_media_type=document["config"].get("mediaType", media.IMAGE_CONFIG),
        manifest_media_type=document.get("mediaType", media.IMAGE_MANIFEST),
    )


def _from_index(blobs: Blobs, index: bytes, reference: str | None, place: Path) -> Image:
    descriptor = _choose(list(_manifests(blobs, parsed(index), place)), reference, place)
    manifest = _read_checked(blobs, descriptor, place)
    config = _read_checked(blobs, parsed(manifest)["config"], place)
    name = str((descriptor.get("annotations") or {}).get(media.REF_NAME, ""))
    return image_from(config, manifest, name, place)


def _from_docker_archive(blobs: ArchiveBlobs, reference: str | None, place: Path) -> Image:
    entries = parsed(_read_small(blobs.open_path("manifest.json"), place))
    if reference is not None:
        entries = [entry for entry in entries if reference in (entry.get("RepoTags") or ())]
    if len(entries) != 1:
        names = ", ".join(tag for entry in entries for tag in entry.get("RepoTags") or ()) or "none"
        raise AfenvError("E510", f"one image is needed; there are: {names}", place=str(place))
    (entry,) = entries
    config = _read_small(blobs.open_path(entry["Config"]), place)
    layers = []
    for name, diff_id in zip(entry["Layers"], parsed(config)["rootfs"]["diff_ids"], strict=True):
        media_type, digest = _layer_identity(blobs, name, diff_id)
        blobs.name_digest(digest, name)
        layers.append({"mediaType": media_type, "digest": digest, "size": blobs.size_of(name)})
    manifest = canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.IMAGE_MANIFEST,
            "config": {
                "mediaType": media.IMAGE_CONFIG,
                "digest": sha256_bytes(config),
                "size": len(config),
            },
            "layers": layers,
        }
    )
    blobs.name_digest(sha256_bytes(config), entry["Config"])
    tags = entry.get("RepoTags") or [""]
    return image_from(config, manifest, tags[0], place)


def _layer_identity(blobs: ArchiveBlobs, name: str, diff_id: str) -> tuple[str, str]:
    """Media type and digest of a layer that a ``docker-archive`` names by its path only."""
    with blobs.open_path(name) as file:
        start = file.read(4)
        if not (start.startswith(GZIP) or start == ZSTD):
            return media.LAYER_TAR, diff_id
        file.seek(0)
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return (media.LAYER_GZIP if start.startswith(GZIP) else media.LAYER_ZSTD), digest


def _plain_tar(path: Path, stack: contextlib.ExitStack) -> BinaryIO:
    file = stack.enter_context(path.open("rb"))
    start = file.read(4)
    file.seek(0)
    if not (start.startswith(GZIP) or start == ZSTD):
        return file
    import shutil
    import tempfile

    plain = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    try:
        shutil.copyfileobj(decompressed(file), plain, 1 << 20)
        plain.seek(0)
    except stream_errors() as error:
        if isinstance(error, OSError) and error.errno:
            raise write_error(error, Path(tempfile.gettempdir())) from error
        raise ValueError(f"it cannot be inflated: {error}") from None
    return plain


@contextlib.contextmanager
def open_image(path: Path, *, reference: str | None = None) -> Iterator[OpenedImage]:
    """Open an image layout folder, an ``oci-archive`` or a ``docker-archive``.

    Where there are several images, ``reference`` (its name, or the manifest's digest) chooses. The
    digests of config and manifest are checked (E301), those of layers are not (see
    :mod:`afenv.oci.check`). E001 if there is nothing at ``path``, E510 if it is not an image.
    """
    with contextlib.ExitStack() as stack:
        try:
            opened = _open(path, reference, stack)
        except FileNotFoundError:
            raise AfenvError("E001", "there is no such file or folder", place=str(path)) from None
        except OSError as error:
            code = "E001" if error.errno else "E510"  # a damaged gzip has no number
            raise AfenvError(code, f"cannot be read: {error.strerror or error}", place=str(path)) from None
        except (KeyError, TypeError, ValueError, AttributeError, EOFError) as error:
            raise AfenvError("E510", f"this is not an image: {error}", place=str(path)) from None
        yield opened


@contextlib.contextmanager
def open_index(path: Path) -> Iterator[tuple[bytes, Blobs]]:
    """The ``index.json`` and the blobs of a layout folder or ``oci-archive``; E001, E510."""
    with contextlib.ExitStack() as stack:
        try:
            if path.is_dir():
                found: FolderBlobs | ArchiveBlobs = FolderBlobs(path)
                index = _read_small((path / "index.json").open("rb"), path)
            else:
                found = archive = ArchiveBlobs(_plain_tar(path, stack), path)
                index = _read_small(archive.open_path("index.json"), path)
        except (OSError, EOFError, ValueError) as error:
            raise AfenvError("E510", f"this is not an image layout: {error}", place=str(path)) from None
        yield index, found


def _open(path: Path, reference: str | None, stack: contextlib.ExitStack) -> OpenedImage:
    if path.is_dir():
        if not (path / "oci-layout").is_file() or not (path / "index.json").is_file():
            raise AfenvError("E510", "this folder is not an OCI image layout", place=str(path))
        folder = FolderBlobs(path)
        index = _read_small((path / "index.json").open("rb"), path)
        return OpenedImage(
            image=_from_index(folder, index, reference, path), blobs=folder, path=path, index=index
        )
    archive = ArchiveBlobs(_plain_tar(path, stack), path)
    if archive.has_path("index.json") and archive.has_path("oci-layout"):
        index = _read_small(archive.open_path("index.json"), path)
        return OpenedImage(
            image=_from_index(archive, index, reference, path), blobs=archive, path=path, index=index
        )
    if archive.has_path("manifest.json"):
        return OpenedImage(image=_from_docker_archive(archive, reference, path), blobs=archive, path=path)
    raise AfenvError("E510", "this archive holds no image", place=str(path))
