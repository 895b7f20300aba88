"""Whatever bytes a package has, reading it ends, and ends well or with an error of ours."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.layers.deb_archive import open_deb
from afenv.layers.deb_tar import read_tar
from afenv.layers.system_shell import ShellLimitError, invocations

MEMBERS = [
    ("./usr/", "directory", None),
    ("./usr/tool", "file", b"content" * 100),
    ("./usr/link", "symlink", "tool"),
    ("./usr/same", "hardlink", "./usr/tool"),
    ("./" + "n" * 120, "file", b"long"),
]
EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(min_size=0, max_size=12)), min_size=1, max_size=6
)


def edited(data, edits):
    changed = bytearray(data)
    for position, piece in edits:
        at = position % len(changed)
        changed[at : at + max(1, len(piece))] = piece
        changed = changed or bytearray(b"x")
    return bytes(changed)


def read(chunks):
    return [(member.path, b"".join(member.chunks)) for member in read_tar(chunks, "here")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, compression=st.sampled_from(["", ".xz", ".gz", ".zst", ".bz2"]))
def test_a_damaged_package(make_deb, edits, compression):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.deb"
        path.write_bytes(edited(make_deb.archive(MEMBERS, compression=compression), edits))
        try:
            with open_deb(path) as archive:
                for member in archive.members():
                    assert not member.path.startswith("/")
                    assert ".." not in member.path.split("/")
                    assert sum(map(len, member.chunks)) == member.size
        except AfenvError as error:
            assert error.code in ("E303", "E304")


@given(data=st.binary(max_size=3000))
def test_any_bytes_as_a_tar(data):
    try:
        read([data])
    except AfenvError as error:
        assert error.code in ("E303", "E304")


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60)


@given(
    st.lists(st.tuples(st.lists(names, min_size=1, max_size=4), st.binary(max_size=1500)), max_size=5),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 2000),
)
def test_what_tarfile_writes_is_read_the_same(files, form, piece):
    files = [(parts, data) for parts, data in files if not {".", ".."} & set(parts)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for parts, data in files:
            info = tarfile.TarInfo("/".join(parts))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    whole = buffer.getvalue()
    found = read([whole[start : start + piece] for start in range(0, len(whole), piece)])
    assert found == [("/".join(parts), data) for parts, data in files]


WORDS = st.sampled_from(
    [
        "if", "then", "fi", "else", "elif", "case", "in", "esac", ";;", "for", "x", "do", "done", "while",
        "{", "}", "(", ")", "$x", '"$1"', "'q'", "$(", "`", "&&", "||", "|", ";", "\n", "[", "]", "=", "!",
        "f()", "update-alternatives", "--install", "/a", "<<EOF", "EOF", "\\\n", "# c", ">", "${x:-", "exit",
        "configure)", "return", "${x%", "*",
    ]
)  # fmt: skip


@given(st.one_of(st.lists(WORDS, max_size=40).map(" ".join), st.text(max_size=200)))
def test_any_text_as_a_script(script):
    try:
        found = invocations(script, ["update-alternatives"], exists=lambda path: True, variables={})
    except ShellLimitError:
        return
    assert all(item.words[0] == "update-alternatives" for item in found)
