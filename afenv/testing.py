"""For authors of builders and registries: small images made in memory, and the tests that a plugin passes.

A plugin's own tests subclass the contract::

    from afenv.testing import BuilderContract
    from my_builder import MyBuilder

    class TestMyBuilder(BuilderContract):
        builder = MyBuilder()
        target = "my-target"
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from afenv.documents.lock import Lock, LockedEnvironment
from afenv.layers.model import Layer
from afenv.oci.builders import Builder
from afenv.oci.image import assemble
from afenv.oci.model import Image
from afenv.store.content import ContentStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file, folder or link of a hand-made layer; ``kind`` is a type flag of :mod:`tarfile`."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    uid: int = 0
    gid: int = 0


def folder(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Member:
    """A folder."""
    return Member(path=path, mode=mode, kind=tarfile.DIRTYPE, uid=uid, gid=gid)


def symlink(path: str, target: str) -> Member:
    """A symbolic link."""
    return Member(path=path, mode=0o777, kind=tarfile.SYMTYPE, link=target)


def hardlink(path: str, target: str) -> Member:
    """A hard link to an earlier path."""
    return Member(path=path, kind=tarfile.LNKTYPE, link=target)


def tar_of(members: Iterable[Member]) -> bytes:
    """The members as an uncompressed tar, in the order given."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            information = tarfile.TarInfo(member.path)
            information.type = member.kind
            information.mode = member.mode
            information.linkname = member.link
            information.uid, information.gid = member.uid, member.gid
            information.size = len(member.content) if member.kind == tarfile.REGTYPE else 0
            tar.addfile(information, io.BytesIO(member.content))
    return stream.getvalue()


def gzip_of(data: bytes, members: int = 1) -> bytes:
    """``data`` as a gzip file of so many members (RFC 1952, 2.2)."""
    cuts = [len(data) * count // members for count in range(members + 1)]
    parts = []
    for start, end in pairwise(cuts):
        piece = zlib.compressobj(6, zlib.DEFLATED, 31)
        parts.append(piece.compress(data[start:end]) + piece.flush())
    return b"".join(parts)


def make_layer(
    store: ContentStore, members: Iterable[Member], *, source: str = "by hand", gzip_members: int = 1
) -> Layer:
    """A gzip layer with these members, in ``store``. It has an empty listing."""
    tar = tar_of(members)
    blob = gzip_of(tar, gzip_members)
    return Layer(
        diff_id="sha256:" + hashlib.sha256(tar).hexdigest(),
        digest=store.put(blob),
        size=len(blob),
        source=source,
        listing=store.put(b""),
    )


def make_lock(**environment: Any) -> Lock:
    """A lock without packages; ``environment`` sets fields of its only environment, ``default``."""
    values: dict[str, Any] = {
        "request": "sha256:" + "0" * 64,
        "platform": "linux/amd64",
        "as_of": "2025-01-01T00:00:00Z",
    }
    return Lock(
        name="sample", version="1.0", environments={"default": LockedEnvironment(**(values | environment))}
    )


def make_foreign_image(
    store: ContentStore,
    layers: Iterable[Iterable[Member] | bytes],
    *,
    settings: Mapping[str, Any] | None = None,
    platform: str = "linux/amd64",
    compression: str = "gzip",
    docker: bool = False,
    **config: Any,
) -> Image:
    """An image as another tool might have made it, its blobs in ``store``.

    A layer is given by its members, or as the bytes of a tar; ``compression`` is ``gzip``, ``zstd`` or empty.
    ``settings`` is the part ``config`` of the image's config, ``config`` are other keys of it; with
    ``docker`` the manifest is Docker's schema 2.
    """
    from afenv import canonical
    from afenv.oci import media
    from afenv.oci.read import image_from

    types = {"gzip": media.LAYER_GZIP, "zstd": media.LAYER_ZSTD, "": media.LAYER_TAR}
    if docker:
        types = {"gzip": media.DOCKER_LAYER_GZIP, "": media.DOCKER_LAYER_TAR}
    tars = [layer if isinstance(layer, bytes) else tar_of(layer) for layer in layers]
    blobs = [_compressed(tar, compression) for tar in tars]
    system, architecture = platform.split("/")[:2]
    document = canonical.compact(
        {
            "os": system,
            "architecture": architecture,
            "config": dict(settings or {}),
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars],
            },
        }
        | config
    )
    manifest = canonical.compact(
        {
            "schemaVersion": 2,
            "mediaType": media.DOCKER_MANIFEST if docker else media.IMAGE_MANIFEST,
            "config": {
                "mediaType": media.DOCKER_CONFIG if docker else media.IMAGE_CONFIG,
                "digest": store.put(document),
                "size": len(document),
            },
            "layers": [
                {"mediaType": types[compression], "digest": store.put(blob), "size": len(blob)}
                for blob in blobs
            ],
        }
    )
    store.put(manifest)
    return image_from(document, manifest, "", "")


def _compressed(tar: bytes, compression: str) -> bytes:
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor().compress(tar)
    return gzip_of(tar) if compression == "gzip" else tar


def make_image(
    store: ContentStore,
    layers: Iterable[Iterable[Member]] | None = None,
    *,
    created: int = 1735689600,
    **environment: Any,
) -> Image:
    """A small image in ``store``: of the layers given, or two layers with a few files."""
    if layers is None:
        layers = (
            (folder("etc"), Member(path="etc/os-release", content=b"ID=sample\n"), folder("home")),
            (folder("home/analyst", uid=1000, gid=1000), Member(path="hello.txt", content=b"hello\n")),
        )
    made = [make_layer(store, members, source=f"layer {count}") for count, members in enumerate(layers, 1)]
    return assemble(make_lock(**environment), "default", made, created, store)


class BuilderContract:
    """What every builder of the entry point group ``afenv.builders`` must do.

    ``options`` are passed to ``build`` with ``path`` added, a place that does not exist yet.
    """

    builder: Builder
    target: str
    options: Mapping[str, Any] = {}

    def _build(self, store: ContentStore, path: Path) -> tuple[Image, Any]:
        image = make_image(store)
        return image, self.builder.build(image, store, {"target": self.target, "path": path, **self.options})

    def test_it_supports_its_target_only(self) -> None:
        """The builder answers for its target, and for no other."""
        assert self.builder.supports(self.target)
        assert not self.builder.supports("no-such-target")

    def test_it_returns_a_descriptor(self, tmp_path: Path) -> None:
        """What is built is named by media type, digest and size."""
        _, built = self._build(ContentStore(tmp_path / "store"), tmp_path / "out")
        assert built.media_type
        assert built.digest.startswith("sha256:")
        assert len(built.digest) == 71
        assert built.size > 0

    def test_it_is_reproducible(self, tmp_path: Path) -> None:
        """Two builds of one image, in two stores and places, have one digest."""
        digests = set()
        for name in ("one", "two"):
            _, built = self._build(ContentStore(tmp_path / name), tmp_path / f"out-{name}")
            digests.add(built.digest)
        assert len(digests) == 1

    def test_it_may_be_repeated(self, tmp_path: Path) -> None:
        """Building again at the same place succeeds and gives the same descriptor."""
        store = ContentStore(tmp_path / "store")
        _, first = self._build(store, tmp_path / "out")
        _, second = self._build(store, tmp_path / "out")
        assert first == second

    def test_it_leaves_the_store_as_it_was(self, tmp_path: Path) -> None:
        """Blobs that were in the store keep their content."""
        store = ContentStore(tmp_path / "store")
        image, _ = self._build(store, tmp_path / "out")
        for layer in image.layers:
            assert len(store.read(layer.digest)) == layer.size
