"""Layers of all kinds for tests that lay them on one another."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Mapping

from hypothesis import assume
from hypothesis import strategies as st

from afenv.oci.files import _parents
from afenv.oci.model import Image, ImageBlobs
from afenv.oci.read import OpenedImage
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, hardlink, symlink


def file(path: str, content: bytes = b"x", mode: int = 0o644) -> Member:
    return Member(path=path, content=content, mode=mode)


def opened(store: ContentStore, image: Image) -> OpenedImage:
    """The image with its blobs in the store."""
    return OpenedImage(image=image, blobs=ImageBlobs(image=image, rest=store), path=store.folder)


def any_layers(*contents: bytes) -> st.SearchStrategy[list[list[Member]]]:
    """One to four layers with files of these contents, folders, links and whiteouts in a few places."""
    paths = st.sampled_from(["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/f", "g/h"])
    members = st.one_of(
        st.builds(file, paths, st.sampled_from(contents), st.sampled_from([0o644, 0o755])),
        st.builds(folder, paths, st.sampled_from([0o755, 0o700])),
        st.builds(symlink, paths, paths),
        st.builds(hardlink, paths, paths),
        st.builds(lambda path: file("/".join([*path.split("/")[:-1], ".wh." + path.split("/")[-1]])), paths),
        st.builds(lambda path: file(path + "/.wh..wh..opq"), st.sampled_from(["d", "d/e", "g"])),
    )
    return st.lists(st.lists(members, max_size=7), min_size=1, max_size=4)


def assume_only_folders_hold(kinds: Mapping[str, object], folder_kind: object) -> None:
    """Leave out what has a path below one that is there and is no folder."""
    assume(
        not any(kinds.get(parent, folder_kind) != folder_kind for path in kinds for parent in _parents(path))
    )


def assume_sensible(layers: Iterable[Iterable[Member]]) -> None:
    """The same of each layer."""
    for layer in layers:
        assume_only_folders_hold({member.path: member.kind for member in layer}, tarfile.DIRTYPE)
