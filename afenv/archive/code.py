"""The analysis code in a bag: repositories as bundles, a checkout's files as a tar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.archive.bundle import install_bundle, make_bundle
from afenv.archive.index import ArchivedCode, ArchivedRepository
from afenv.archive.items import Item, of_blob, of_bytes
from afenv.documents.lock import LockedCode
from afenv.errors import AfenvError
from afenv.layers import codetree
from afenv.layers.tar_header import END, FILE, FOLDER, SYMBOLIC_LINK, header, padding
from afenv.settings import Settings
from afenv.store.content import ContentStore

if TYPE_CHECKING:
    import pygit2

    from afenv.archive.source import BagSource
    from afenv.layers.code_lfs import Objects

MTIME = 315532800
_PLACE = "inputs/code"


@dataclass(frozen=True, slots=True)
class _Recording:
    """A repository by its URL that remembers its submodules, as :class:`afenv.layers.code_git.FromUrl`."""

    url: str
    store: ContentStore
    settings: Settings
    quiet: bool
    found: list[tuple[str, str, pygit2.Repository]] = field(default_factory=list)

    @property
    def place(self) -> str:
        from afenv.layers.code_url import without_credentials

        return without_credentials(self.url)

    def submodule(
        self, path: bytes, commit: str, sections: Mapping[bytes, Mapping[str, str]]
    ) -> tuple[pygit2.Repository, _Recording, str, str | None]:
        from afenv.layers.code_git import Clone, FromUrl

        origin = FromUrl(self.url, self.store, self.settings, self.quiet)
        _, inner, commit, shown = origin.submodule(path, commit, sections)
        clone = Clone(inner.url, self.store, self.settings, self.quiet)
        clone.history(commit)
        self.found.append((inner.url, commit, clone.repository))
        below = _Recording(inner.url, self.store, self.settings, self.quiet, self.found)
        return clone.repository, below, commit, shown

    def objects(self, config: bytes | None) -> Objects:
        from afenv.layers.code_git import FromUrl

        return FromUrl(self.url, self.store, self.settings, self.quiet).objects(config)

    def working_file(self, path: bytes) -> Path | None:
        return None


def code_items(
    number: int, code: LockedCode, folder: Path, store: ContentStore, settings: Settings, *, quiet: bool
) -> tuple[ArchivedCode, list[Item]]:
    """What the bag has of one entry of the lock's code, and the items for it; errors are those of reading."""
    if code.git is None:
        return _checkout(number, code, folder, store, settings, quiet)
    from afenv.layers.code_git import Clone
    from afenv.layers.code_read import How, read_commit
    from afenv.layers.code_url import absolute_url, without_credentials

    assert code.commit is not None
    url = absolute_url(code.git, folder)
    clone = Clone(url, store, settings, quiet)
    clone.history(code.commit)
    origin = _Recording(url, store, settings, quiet, [(url, code.commit, clone.repository)])
    how = How(store=store, settings=settings, exempt=False, export=code.exported, content=True, quiet=quiet)
    reading = read_commit(clone.repository, code.commit, origin, how)
    found, items = [], []
    seen: dict[tuple[str, str], None] = {}
    for place, commit, repository in origin.found:
        if (place, commit) in seen:
            continue
        name = f"{_PLACE}/{number}/repository" + (f"-{len(seen)}" if seen else "")
        seen[place, commit] = None
        bundle, index, complete = make_bundle(repository, commit)
        shown = without_credentials(place)
        items.append(of_bytes(f"{name}.bundle", bundle, "inputs", f"git repository {shown} at {commit}"))
        items.append(of_bytes(f"{name}.idx", index, "inputs", "index of the pack in the bundle beside it"))
        found.append(
            ArchivedRepository(
                url=code.git if len(seen) == 1 else shown,
                commit=commit,
                bundle=f"{name}.bundle",
                index=f"{name}.idx",
                complete=complete,
            )
        )
    for path, pointer in sorted(set(reading.lfs)):
        shown = codetree.show(path)
        place = f"{_PLACE}/lfs/{pointer.sha256}"
        if not any(item.path == place for item in items):
            items.append(of_blob(place, store, pointer.digest, "inputs", f"git LFS content of {shown}"))
    return ArchivedCode(into=code.into, tree=code.tree, repositories=tuple(found)), items


def _checkout(
    number: int, code: LockedCode, folder: Path, store: ContentStore, settings: Settings, quiet: bool
) -> tuple[ArchivedCode, list[Item]]:
    from afenv.layers.code import code_files

    path = f"{_PLACE}/{number}/files.tar"
    with store.writer() as writer:
        for data in _tar(code_files(code, folder, store, settings, quiet=quiet)):
            writer.write(data)
        digest = writer.digest()
        writer.commit(digest)
    item = of_blob(path, store, digest, "inputs", f"the files of the code for {code.into}")
    return ArchivedCode(into=code.into, tree=code.tree, files=path), [item]


def _tar(files: Iterator[tuple[codetree.CodeFile, codetree.Content]]) -> Iterator[bytes | memoryview]:
    folders: set[bytes] = set()
    for file, data in files:
        parent = b""
        for part in file.path.split(b"/")[:-1]:
            parent += part + b"/"
            if parent not in folders:
                folders.add(parent)
                yield header(parent, 0o755, MTIME, FOLDER)
        if file.mode == codetree.SYMLINK:
            yield header(file.path, 0o777, MTIME, SYMBOLIC_LINK, target=bytes(data))
            continue
        mode = 0o755 if file.mode == codetree.EXECUTABLE else 0o644
        yield header(file.path, mode, MTIME, FILE, len(data))
        yield data
        yield padding(len(data))
    yield END


@dataclass(frozen=True, slots=True)
class _FromBag:
    """A repository whose submodules are bundles of a bag, which are put where a clone would be."""

    url: str
    store: ContentStore
    bundles: Mapping[str, ArchivedRepository]  # by commit
    source: BagSource

    @property
    def place(self) -> str:
        return self.source.place

    def install(self, commit: str) -> pygit2.Repository:
        from afenv.archive.fixity import read_small
        from afenv.archive.names import PAYLOAD
        from afenv.layers.code_git import clone_folder

        found = self.bundles.get(commit)
        if found is None:
            raise AfenvError("E728", f"the bag has no repository with the commit {commit}", place=self.place)
        bundle = read_small(self.source, PAYLOAD + found.bundle, 4 << 30)
        index = read_small(self.source, PAYLOAD + found.index, 1 << 30)
        place = f"{self.place}, {found.bundle}"
        return install_bundle(clone_folder(self.store, self.url), bundle, index, place)

    def submodule(
        self, path: bytes, commit: str, sections: Mapping[bytes, Mapping[str, str]]
    ) -> tuple[pygit2.Repository, _FromBag, str, str | None]:
        from afenv.layers.code_submodules import submodule_url

        inner = _FromBag(
            submodule_url(path, sections, self.url, self.place), self.store, self.bundles, self.source
        )
        return inner.install(commit), inner, commit, None

    def objects(self, config: bytes | None) -> Objects:
        from afenv.layers.code_lfs import Objects

        return Objects(place=self.place)

    def working_file(self, path: bytes) -> Path | None:
        return None


def restore_code(
    kept: ArchivedCode,
    code: LockedCode,
    folder: Path,
    store: ContentStore,
    settings: Settings,
    source: BagSource,
) -> None:
    """Put the code of a bag where a build of the project in ``folder`` looks for it.

    LFS content is to be in the store already. E725 if the code would lie outside the folder above the
    project, E727, E728 if it is not there or another.
    """
    if kept.files is not None:
        from afenv.archive.names import PAYLOAD
        from afenv.oci.unpack import unpack_tar

        here = (folder / (code.folder or ".")).resolve()
        if not here.is_relative_to(folder.parent.parent.resolve()):
            raise AfenvError(
                "E725", f"the code would lie in {code.folder}, outside the project", place=source.place
            )
        here.mkdir(parents=True, exist_ok=True)
        with source.open(PAYLOAD + kept.files) as file:
            unpack_tar(file, here, f"{source.place}, {kept.files}")
        return
    from afenv.layers.code_read import How, read_commit
    from afenv.layers.code_url import absolute_url

    assert code.git is not None and code.commit is not None
    url = absolute_url(code.git, folder)
    origin = _FromBag(url, store, {one.commit: one for one in kept.repositories}, source)
    repository = origin.install(code.commit)
    how = How(store=store, settings=settings, exempt=False, export=code.exported, content=True, quiet=True)
    read_commit(repository, code.commit, origin, how)
