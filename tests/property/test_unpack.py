"""Whatever layers there are: the folder has the files that the layers make together, and nothing outside."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import BinaryIO

from hypothesis import given
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.oci.files import Entry, lay, read_layer
from afenv.oci.model import ImageLayer
from afenv.oci.unpack import unpack_layers
from afenv.testing import Member, folder, hardlink, symlink, tar_of

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ANY = st.one_of(PATHS, st.sampled_from(["..", "../x", "a/../../x", "/a", "./b", "a//b", "a/.wh..", "dev/a"]))
TARGETS = st.one_of(PATHS, st.sampled_from(["/", "..", "../..", "/etc/passwd"]))


def whiteout(path: str) -> Member:
    parent, _, name = path.rpartition("/")
    return Member(path=f"{parent}/.wh.{name}" if parent else f".wh.{name}")


def members(paths: st.SearchStrategy[str]) -> st.SearchStrategy[Member]:
    return st.one_of(
        st.builds(lambda path, text: Member(path=path, content=text), paths, st.binary(max_size=3)),
        st.builds(folder, paths, st.sampled_from([0o755, 0o700, 0o555])),
        st.builds(symlink, paths, TARGETS),
        st.builds(hardlink, paths, paths),
        st.builds(whiteout, paths),
        st.builds(lambda path: Member(path=f"{path}/.wh..wh..opq"), paths),
    )


def with_parents(layer: list[Member]) -> list[Member]:
    """Each path once, after its parent folders, as every tool writes layers."""
    done: dict[str, Member] = {}
    for member in layer:
        parts = member.path.split("/")
        for count in range(1, len(parts)):
            done.setdefault("/".join(parts[:count]), folder("/".join(parts[:count])))
        done.setdefault(member.path, member)
    return list(done.values())


def files_of(root: Path) -> dict[str, tuple[str, int, str, bytes]]:
    found = {}
    for path in root.rglob("*"):
        kind = "l" if path.is_symlink() else "d" if path.is_dir() else "f"
        target = str(path.readlink()) if kind == "l" else ""
        mode = 0o777 if kind == "l" else path.lstat().st_mode & 0o7777
        found[str(path.relative_to(root))] = (kind, mode, target, path.read_bytes() if kind == "f" else b"")
    return found


class Memory:
    """Layers in memory: uncompressed tars by a number in the place of a digest."""

    def __init__(self, layers: list[list[Member]]) -> None:
        self.tars = {str(number): tar_of(layer) for number, layer in enumerate(layers)}
        self.layers = [
            ImageLayer(diff_id=name, digest=name, size=len(tar), media_type="")
            for name, tar in self.tars.items()
        ]

    def open(self, digest: str) -> BinaryIO:
        return io.BytesIO(self.tars[digest])


@given(st.lists(st.lists(members(PATHS), max_size=6).map(with_parents), min_size=1, max_size=4))
def test_the_folder_is_what_the_layers_make(layers: list[list[Member]]) -> None:
    memory = Memory(layers)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        try:
            unpack_layers(memory.layers, memory, root, quiet=True)
        except AfenvError as error:
            assert error.code in ("E304", "E510")
            return
        wanted: dict[str, Entry] = {}
        for tar in memory.tars.values():
            lay(wanted, read_layer(io.BytesIO(tar), keep=lambda _: True))
        assert files_of(root) == {
            path: (entry.kind, entry.mode, entry.target, entry.content or b"")
            for path, entry in wanted.items()
        }


@given(st.lists(st.lists(members(ANY), max_size=8), min_size=1, max_size=3))
def test_nothing_is_written_outside(layers: list[list[Member]]) -> None:
    memory = Memory(layers)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        root = place / "deep" / "root"
        root.mkdir(parents=True)
        try:
            unpack_layers(memory.layers, memory, root, quiet=True)
        except AfenvError as error:
            assert error.code in ("E304", "E510")
        assert [path.name for path in place.iterdir()] == ["deep"]
        assert [path.name for path in (place / "deep").iterdir()] == ["root"]
