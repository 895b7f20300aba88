"""The layers of an image as one stream of tar members, laid on one another while they are read.

Layers are read from the top down, each once, and nothing is unpacked or kept: a member goes out as it
came in, unless a layer above has its path, has removed it or emptied its folder, or has something other
than a folder in its place (OCI image-spec, layer.md). So a path occurs once, the metadata of a folder are
those of the topmost layer that has it, and a folder may come after what is in it. The order depends on
the image alone.

Hard links are kept. One into a lower layer waits until that layer is read; where the path that it names
is itself replaced above, the content goes out under the link's own path.

Two things cannot be decided while a layer passes by: a path that the layer has twice, and a hard link to
content of the layer that has passed and was dropped. Then the stream begins anew, with an index of that
layer, which is made by reading it once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Generic, Protocol, TypeVar

from afenv.errors import AfenvError
from afenv.layers.tar_header import END, FOLDER, HARD_LINK, header
from afenv.oci.files import OPAQUE, WHITEOUT
from afenv.oci.read import OpenedImage
from afenv.oci.tar_stream import FILES, Piece, TarMember, TarStream, chunks_of

_WHITEOUT = WHITEOUT.encode()
_OPAQUE = OPAQUE.encode()
MODE = 0o755  # of folders that no layer has

Present = Mapping[bytes, bytes]  # path to type flag
Index = Mapping[int, tuple[bytes, ...]]  # number of a member to its paths; what is not there is dropped


class Member(Protocol):
    """A member of a layer: normal path, type flag as in a tar, and the target of a hard link."""

    path: bytes
    kind: bytes
    target: bytes

    def rename(self, path: bytes) -> None:
        """Give it another path."""
        ...  # pragma: no cover


M = TypeVar("M", bound=Member)
Made = TypeVar("Made", bound=Member, covariant=True)


class Layers(Protocol[Made]):
    """The layers of an image, counted from 0 at the bottom."""

    def __len__(self) -> int: ...  # pragma: no cover

    def members(self, position: int) -> AbstractContextManager[Iterator[Made]]:
        """The members of a layer, in its order."""
        ...  # pragma: no cover


class TarLayers:
    """The layers of an image as tars; ``advance`` is told the stored size of each that was read."""

    def __init__(self, opened: OpenedImage, advance: Callable[[int], None] = lambda _: None) -> None:
        self._opened = opened
        self._advance = advance

    def __len__(self) -> int:
        return len(self._opened.image.layers)

    @contextmanager
    def members(self, position: int) -> Iterator[Iterator[TarMember]]:
        """The members of a layer, while it is inflated in a thread."""
        with (
            self._opened.layer(position, buffered=False) as stream,
            closing(chunks_of(stream)) as chunks,
        ):
            yield TarStream(chunks).members()
        self._advance(self._opened.image.layers[position].size)


class NeedsIndexError(Exception):
    """The layer at a position (the argument) has to be indexed before the stream can be made."""


def merged_members(
    layers: Layers[M],
    *,
    first: Mapping[bytes, bytes] | None = None,
    last: Callable[[Present], Mapping[bytes, bytes]] = lambda _: {},
    indexes: Mapping[int, Index] | None = None,
) -> Iterator[M | TarMember]:
    """The files of the whole image; each has to be used before the next one is asked for.

    ``first`` are whole tar members by path, which come first and win over the image's; ``last`` is told
    what is there by then and gives those that come last. Raises NeedsIndexError (see
    :func:`with_indexes`), and E510 if a layer is damaged or says what has no meaning.
    """
    above = _Above()
    for path, data in (first or {}).items():
        for made in _made(data):
            above.add(path, made.kind)
            yield made
    for position in reversed(range(len(layers))):
        layer: _Layer[M] = _Layer(above, position, (indexes or {}).get(position))
        with layers.members(position) as members:
            for number, member in enumerate(members):
                yield from layer.member(number, member)
        layer.end()
    for target in above.waiting:
        raise above.missing_target(target)
    for path in sorted(above.folders - above.paths.keys()):
        above.paths[path] = FOLDER
        yield from _made(header(path + b"/", MODE, 0, FOLDER))
    for data in last(above.paths).values():
        yield from _made(data)


def tar_of(members: Iterable[TarMember]) -> Iterator[Piece]:
    """The pieces of an uncompressed tar with these members, as they came."""
    for member in members:
        yield from member.pieces()
    yield memoryview(END)


def with_indexes(layers: Layers[Member], attempt: Callable[[Mapping[int, Index]], None]) -> None:
    """Call ``attempt``, and again with an index more as long as it raises NeedsIndexError."""
    indexes: dict[int, Index] = {}
    while True:
        try:
            attempt(indexes)
        except NeedsIndexError as needed:
            (position,) = needed.args
            with layers.members(position) as members:
                indexes[position] = index_layer(members)
        else:
            return


def index_layer(members: Iterable[Member]) -> Index:
    """Which members of a layer stay, and under which paths: the last one of a path wins, and a file has
    the paths of its hard links as well."""
    owner: dict[bytes, int] = {}  # path to the member that has the content
    first: dict[int, bytes] = {}
    for number, member in enumerate(members):
        if member.kind == HARD_LINK and member.target in owner:
            owner[member.path] = owner[member.target]
        else:
            owner[member.path] = number
            first[number] = member.path
    names: dict[int, list[bytes]] = {}
    for path, number in owner.items():
        names.setdefault(number, []).append(path)
    return {
        number: tuple(sorted(paths, key=lambda path: (path != first[number], path)))
        for number, paths in names.items()
    }


class _Above:
    """What has gone out, and what the layers above say of those below."""

    def __init__(self) -> None:
        self.paths: dict[bytes, bytes] = {}  # with the type flag
        self.folders: set[bytes] = set()  # of paths that have gone out
        self.waiting: dict[bytes, list[bytes]] = {}  # hard links, by the path in a lower layer
        self._removed: set[bytes] = set()
        self._emptied: set[bytes] = set()
        self._files: set[bytes] = set()  # everything that is no folder
        self._hidden: dict[bytes, bool] = {}  # answers for the layer that is being read

    def add(self, path: bytes, kind: bytes) -> None:
        """The path goes out, with the folders that it is in."""
        if kind != FOLDER and path in self.folders:
            raise _no_folder(path)
        self.paths[path] = kind
        while (cut := path.rfind(b"/")) > 0:
            path = path[:cut]
            if path in self.folders:
                break
            if self.paths.get(path, FOLDER) != FOLDER:
                raise _no_folder(path)
            self.folders.add(path)

    def visible(self, path: bytes) -> bool:
        """Whether a path of the layer that is being read can be seen from above."""
        return not (path in self.paths or path in self._removed or self._hides(path.rpartition(b"/")[0]))

    def add_folders(self, path: bytes) -> None:
        """Folders that a path which cannot be seen is in are there nevertheless, if they can be seen."""
        for folder in _folders(path):
            if folder and folder not in self.folders and self.visible(folder):
                self.folders.add(folder)

    def _hides(self, folder: bytes) -> bool:
        answer = self._hidden.get(folder)
        if answer is None:
            answer = (
                folder in self._removed
                or folder in self._emptied
                or folder in self._files
                or (folder != b"" and self._hides(folder.rpartition(b"/")[0]))
            )
            self._hidden[folder] = answer
        return answer

    def end_layer(
        self, own: Present, removed: set[bytes], emptied: set[bytes], linked: Mapping[bytes, list[bytes]]
    ) -> None:
        """Add what a layer says of those below it."""
        files = {path for path, kind in own.items() if kind != FOLDER}
        for target in self.waiting:
            folders = list(_folders(target))
            if target in removed or any(one in removed or one in emptied or one in files for one in folders):
                raise self.missing_target(target)
        self._removed |= removed
        self._emptied |= emptied
        self._files |= files
        self._hidden.clear()
        for target, links in linked.items():
            self.waiting.setdefault(target, []).extend(links)

    def missing_target(self, target: bytes) -> AfenvError:
        """What is wrong where a hard link waits for a path that cannot come any more."""
        link = self.waiting[target][0]
        return AfenvError("E510", f"{_text(link)} is a hard link to {_text(target)}, which does not exist")


class _Layer(Generic[M]):
    """One layer while it is read."""

    def __init__(self, above: _Above, position: int, index: Index | None) -> None:
        self._above = above
        self._position = position
        self._index = index
        self._own: dict[bytes, bytes] = {}  # all paths of the layer, with the type flag
        self._placed: dict[bytes, bytes] = {}  # its files, to the path under which the content went out
        self._removed: set[bytes] = set()
        self._emptied: set[bytes] = set()
        self._linked: dict[bytes, list[bytes]] = {}  # paths in lower layers, to links to them

    def member(self, number: int, member: M) -> Iterable[M | TarMember]:
        """What of a member goes out; to be used before the next member."""
        path = member.path
        if _WHITEOUT in path:
            folder, _, name = path.rpartition(b"/")
            if name == _OPAQUE:
                self._emptied.add(folder)
                return ()
            if name.startswith(_WHITEOUT):
                name = name.removeprefix(_WHITEOUT)
                self._removed.add(folder + b"/" + name if folder else name)
                return ()
        names: tuple[bytes, ...] = (path,)
        if self._index is not None:
            names = self._index.get(number, ())
            if not names:
                return ()
        elif path in self._own:
            raise NeedsIndexError(self._position)
        if member.kind == HARD_LINK:
            return self._link(member.target, names)
        found = self._take(names, member.kind)
        if not found:
            return ()
        for path in names:
            self._placed[path] = found[0]
        if found == [member.path]:
            return (member,)
        return self._renamed(member, found)

    def _take(self, names: tuple[bytes, ...], kind: bytes) -> list[bytes]:
        """Those of the paths under which the thing goes out, with the links above that wait for it."""
        found = []
        above = self._above
        for path in names:
            if above.visible(path):
                found.append(path)
                above.add(path, kind)
            else:
                above.add_folders(path)
            self._own[path] = kind
        for path in names if above.waiting else ():
            links = above.waiting.pop(path, ())
            if links and kind == FOLDER:
                raise AfenvError("E510", f"{_text(links[0])} is a hard link to the folder {_text(path)}")
            found += links
        return found

    def _renamed(self, member: M, found: list[bytes]) -> Iterator[M | TarMember]:
        if found[0] != member.path:
            member.rename(found[0])
        yield member
        for link in found[1:]:
            if member.kind in FILES:
                yield from _made(header(link, 0o644, 0, HARD_LINK, target=found[0]))
            else:
                member.rename(link)
                yield member

    def _link(self, target: bytes, names: tuple[bytes, ...]) -> Iterator[TarMember]:
        below = target not in self._own
        kind = self._own.get(target, HARD_LINK)
        found = self._take(names, kind)
        if below:
            if found:
                self._linked.setdefault(target, []).extend(found)
        elif found:
            if target not in self._placed or kind not in FILES:
                raise NeedsIndexError(self._position)
            for link in found:
                yield from _made(header(link, 0o644, 0, HARD_LINK, target=self._placed[target]))
            for path in names:
                self._placed[path] = self._placed[target]

    def end(self) -> None:
        """The layer is done: tell those below."""
        self._above.end_layer(self._own, self._removed, self._emptied, self._linked)


def _made(data: bytes) -> Iterator[TarMember]:
    """The member whose headers and content these are."""
    return TarStream(iter((data,))).members()


def _folders(path: bytes) -> Iterator[bytes]:
    """The folders that a path is in, up to the root."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def _no_folder(path: bytes) -> AfenvError:
    return AfenvError("E510", f"{_text(path)} has files in it, and here or in a lower layer it is no folder")


def _text(path: bytes) -> str:
    return path.decode(errors="replace")
