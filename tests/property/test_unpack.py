"""Whatever layers there are: the folder has the files that the layers make together, and nothing outside."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.oci.files import merged
from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.oci.unpack import unpack_layers
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, hardlink, make_image, symlink

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


@given(st.lists(st.lists(members(PATHS), max_size=6).map(with_parents), min_size=1, max_size=4))
def test_the_folder_is_what_the_layers_make(layers: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        store = ContentStore(place / "cache")
        image = make_image(store, layers)
        (place / "root").mkdir()
        try:
            unpack_layers(image.layers, store, place / "root", quiet=True)
        except AfenvError as error:
            assert error.code in ("E304", "E510")
            return
        write_layout(image, store, place / "layout")
        with open_image(place / "layout") as opened:
            wanted = merged(opened, keep=lambda _: True)
        assert files_of(place / "root") == {
            path: (entry.kind, entry.mode, entry.target, entry.content or b"")
            for path, entry in wanted.items()
        }


@given(st.lists(st.lists(members(ANY), max_size=8), min_size=1, max_size=3))
def test_nothing_is_written_outside(layers: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        store = ContentStore(place / "cache")
        image = make_image(store, layers)
        root = place / "deep" / "root"
        root.mkdir(parents=True)
        try:
            unpack_layers(image.layers, store, root, quiet=True)
        except AfenvError as error:
            assert error.code in ("E304", "E510")
        assert {path.name for path in place.iterdir()} == {"cache", "deep"}
        assert [path.name for path in (place / "deep").iterdir()] == ["root"]
