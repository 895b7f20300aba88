"""Whatever bytes a conda package has, reading it ends, and ends well or with an error of ours."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers.conda import write_conda
from afenv.layers.conda_prefix import replace_binary, replace_text
from afenv.layers.conda_shell import NotStatic, exported
from afenv.layers.writer import LayerWriter

OLD = "/placeholder/" + "p" * 30
FILES = {
    "bin/tool": b"#!" + OLD.encode() + b"/bin/python\n",
    "lib/data": b"\0" + OLD.encode() + b"/lib\0" + b"content" * 100,
    "lib/link": ("symlink", "data"),
    "lib/same": ("hardlink", "bin/tool"),
    "share/" + "n" * 120: b"long",
}
PREFIXES = {"bin/tool": (OLD, "text"), "lib/data": (OLD, "binary")}
EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(min_size=0, max_size=12)), min_size=1, max_size=6
)
FIXTURES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


class Nothing:
    """A blob that keeps nothing."""

    size = 0

    def write(self, data):
        return len(data)

    def digest(self):
        return "sha256:" + "0" * 64


def edited(data, edits):
    changed = bytearray(data)
    for position, piece in edits:
        at = position % len(changed)
        changed[at : at + max(1, len(piece))] = piece
        changed = changed or bytearray(b"x")
    return bytes(changed)


def write(made, data):
    """Write the package with other bytes, and a lock that names them."""
    locked, path = made
    path.write_bytes(data)
    file = replace(locked.file, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    locked = replace(locked, file=file)
    environment = LockedEnvironment(
        request="", platform="linux/amd64", as_of="", conda=(locked,), conda_prefix="/opt/conda"
    )
    writer = LayerWriter(Nothing(), mtime=0)
    try:
        write_conda([locked], {file.sha256: path}, environment, writer, compiler=None, lost={})
    except AfenvError as error:
        assert error.code in ("E303", "E304", "E106", "E401", "E409")
    else:
        for entry in writer.finish().entries:
            assert (entry.path + "/").startswith("opt/")
            assert ".." not in entry.path.split("/")


@FIXTURES
@given(edits=EDITS, form=st.sampled_from([".conda", ".tar.bz2"]))
def test_a_damaged_archive(make_conda, edits, form):
    made = make_conda("x", FILES, prefixes=PREFIXES, form=form)
    write(made, edited(made[1].read_bytes(), edits))


@FIXTURES
@given(
    edits=EDITS,
    part=st.sampled_from(["index.json", "paths.json", "link.json", "files", "has_prefix", "no_link"]),
    form=st.sampled_from([".conda", ".tar.bz2"]),
)
def test_damaged_metadata(make_conda, edits, part, form):
    paths = [{"_path": path, "path_type": "hardlink"} for path in FILES]
    parts = {
        "index.json": json.dumps({"name": "x", "version": "1.0", "build": "0", "noarch": "python"}),
        "paths.json": json.dumps({"paths_version": 1, "paths": paths}),
        "link.json": '{"noarch": {"type": "python", "entry_points": ["a = b:c"]}}',
        "files": "".join(f"{path}\n" for path in FILES),
        "has_prefix": f'bin/tool\n"{OLD}" binary "lib/data"\n',
        "no_link": "bin/tool\n",
    }
    info = {part: edited(parts[part].encode(), edits)}
    made = make_conda("x", FILES, form=form, info=info, old=part in ("files", "has_prefix", "no_link"))
    write(made, made[1].read_bytes())


@FIXTURES
@given(
    path=st.text(max_size=12),
    target=st.text(alphabet="./ab\0é", max_size=12),
    kind=st.sampled_from(["file", "symlink", "hardlink", "directory"]),
)
def test_any_path(make_conda, path, target, kind):
    try:
        path.encode()
    except UnicodeEncodeError:
        path = "x"
    content = b"x" if kind == "file" else (kind, target)
    try:
        made = make_conda("x", {"a": b"", "b/c": b"", path: content})
    except (ValueError, KeyError, OSError):
        return  # the maker cannot make that
    write(made, made[1].read_bytes())


@given(data=st.binary(max_size=300), pieces=st.integers(0, 6), size=st.integers(1, 40))
def test_binary_replacement(data, pieces, size):
    """The size stays, and how the content is cut does not matter."""
    old, new = b"/old/prefix", b"/new"
    step = len(data) // (pieces + 1) + 1
    data = old.join(data[at : at + step] for at in range(0, len(data), step)) if data else data
    whole = b"".join(replace_binary([data], old, new))
    assert len(whole) == len(data)
    assert old not in whole or b"\0" not in whole
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(replace_binary(chunks, old, new)) == whole


@given(data=st.binary(max_size=300))
def test_text_replacement_of_nothing(data):
    if not data.startswith(b"#!"):
        assert replace_text(data, b"/old/prefix", b"/new") == data.replace(b"/old/prefix", b"/new")


@given(
    script=st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                ["export", "A=1", '"$A"', "${A:-b}", "if", "then", "fi", "[", "]", ";", "\n", "&&", "'", "-n"]
            ),
            max_size=20,
        ).map(" ".join),
    )
)
def test_any_script(script):
    try:
        found = exported(script, {"PATH": "/bin"}, lambda path: "")
    except NotStatic:
        return
    assert all("\0" not in value and "\n" not in value for value in found.values())
