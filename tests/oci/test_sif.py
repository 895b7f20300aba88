"""The container format: what is written can be read, and what is damaged is refused."""

from __future__ import annotations

import json
import struct
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afenv.errors import AfenvError
from afenv.oci import sif
from afenv.oci.diff import diff
from afenv.oci.forms import open_tree
from afenv.oci.inspect import inspect_image
from afenv.oci.sif_record import SifRecord, holds, sif_record
from afenv.testing import make_image

SQUASHFS = Path(__file__).with_name("squashfs") / "zstd.squashfs"
IDENTITY = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
CREATED = 1_700_000_000


def write(path: Path, *objects: tuple[int, str, bytes], architecture: str = "amd64") -> Path:
    """A SIF with these objects and the squashfs image of the tests."""
    content = SQUASHFS.read_bytes()
    head = sif.sif_head(
        objects=objects,
        partition_size=len(content),
        architecture=architecture,
        identity=IDENTITY,
        created=CREATED,
    )
    path.write_bytes(head + content)
    return path


@pytest.fixture
def plain(tmp_path) -> Path:
    return write(tmp_path / "a.sif", (sif.DEFINITION, "", b"bootstrap: oci\n"))


@pytest.fixture
def made(tmp_path, store) -> Path:
    """A SIF with the record of an image."""
    record = SifRecord(image=make_image(store), tool="tool 1", compressor="zstd-3")
    return write(tmp_path / "a.sif", (sif.JSON, sif.OUR_RECORD, record.as_bytes()))


def test_what_is_written_is_read(plain):
    found = sif.read_sif(plain)
    assert (found.architecture, found.identity, found.created) == ("amd64", IDENTITY, CREATED)
    definition, system = found.objects
    assert (definition.kind, definition.number, definition.offset) == (sif.DEFINITION, 1, 32176)
    assert found.content(definition) == b"bootstrap: oci\n"
    assert system == found.system()
    assert (system.offset % 4096, system.size, system.architecture) == (0, SQUASHFS.stat().st_size, "amd64")
    assert found.signatures() == ()
    assert found.read("none") is None


def test_the_bytes_of_the_head(plain):
    """The facts of Apptainer's own files, by number."""
    data = plain.read_bytes()
    assert data[:31] == b"#!/usr/bin/env run-singularity\n"
    assert data[32:48] == b"SIF_MAGIC\x0001\x0002\0"
    numbers = struct.unpack("<8q", data[64:128])
    assert numbers == (CREATED, CREATED, 46, 48, 4096, 28080, 32176, len(data) - 32176)
    kind, used, number, group = struct.unpack("<i?II", data[4096:4109])
    assert (kind, used, number, group) == (0x4001, True, 1, 0xF0000001)
    system = 4096 + 585
    assert struct.unpack("<i", data[system : system + 4]) == (0x4004,)
    assert struct.unpack("<ii3s", data[system + 201 : system + 212]) == (1, 2, b"02\0")


@pytest.mark.parametrize(("name", "code"), [("arm64", b"04"), ("ppc64le", b"06"), ("riscv64", b"12")])
def test_architectures(tmp_path, name, code):
    path = write(tmp_path / "a.sif", architecture=name)
    assert path.read_bytes()[45:47] == code
    assert sif.read_sif(path).system().architecture == name


def test_an_architecture_without_a_number():
    with pytest.raises(AfenvError, match="no number for the architecture 'mos6502'"):
        sif.sif_head(objects=(), partition_size=1, architecture="mos6502", identity=IDENTITY, created=0)


def test_a_record_is_read(made, store):
    image = make_image(store)
    record = sif_record(sif.read_sif(made))
    assert record is not None
    assert (record.image.image_id, record.tool, record.compressor) == (image.image_id, "tool 1", "zstd-3")
    assert holds(made, image) is not None
    assert holds(made, make_image(store, created=1)) is None
    assert holds(made.with_name("none"), image) is None


def test_a_sif_of_another_tool(tmp_path):
    path = write(tmp_path / "a.sif", (sif.JSON, sif.OCI_CONFIG, b'{"Cmd":["/bin/sh"]}'))
    found = inspect_image(path)
    assert found.image is None
    shown = found.as_json()
    assert (shown["form"], shown["image_id"], shown["command"]) == ("sif", None, ["/bin/sh"])
    assert shown["packed"] == {"compressor": "zstd", "tool": None, "fallback": None}
    assert shown["sif"] == {"id": str(IDENTITY), "architecture": "amd64", "signed_by": []}
    assert "signed by   nobody" in found.as_text()


def test_inspecting_ours(made, store):
    shown = json.loads(json.dumps(inspect_image(made).as_json()))
    assert shown["image_id"] == make_image(store).image_id
    assert shown["packed"] == {"compressor": "zstd-3", "tool": "tool 1", "fallback": None}
    assert len(shown["layers"]) == 2


def test_a_signature_is_shown(plain):
    data = bytearray(plain.read_bytes())
    extra = struct.pack("<i20s", 5, bytes(range(20)))
    place = 4096 + 2 * 585
    entry = struct.pack(
        "<i?IIIqqqqqqq128s384s", 0x4005, True, 3, 0, 0xF0000001, 32176, 4, 4, 0, 0, 0, 0, b"", extra
    )
    data[place : place + 585] = entry
    plain.write_bytes(data)
    fingerprint = bytes(range(20)).hex().upper()
    assert [one.fingerprint for one in sif.read_sif(plain).signatures()] == [fingerprint]
    found = inspect_image(plain)
    assert found.as_json()["sif"]["signed_by"] == [fingerprint]
    assert f"signed by   {fingerprint}; not checked here" in found.as_text()


def test_a_sif_equals_its_squashfs(plain, tmp_path):
    found = diff(plain, SQUASHFS)
    assert not found.differs
    assert found.trees is not None
    assert found.trees[0] == found.trees[1]
    assert found.as_text() == f"no difference; tree {found.trees[0]}"


def refused(path: Path) -> str:
    with pytest.raises(AfenvError) as caught, open_tree(path) as tree:
        tree.files()
    assert caught.value.code in ("E510", "E301")
    return str(caught.value)


def patched(path: Path, at: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (42, b"99", "version '99'"),
        (88, (1 << 40).to_bytes(8, "little"), "its table of descriptors cannot be"),
        (88, (48).to_bytes(8, "big"), "big-endian"),
        (96, (1 << 40).to_bytes(8, "little"), "ends before its table"),
        (104, (5).to_bytes(8, "little"), "its table of descriptors cannot be"),
        (4096 + 17, (1 << 50).to_bytes(8, "little"), "its object 1 lies at"),
        (4096 + 25, (-5).to_bytes(8, "little", signed=True), "its object 1 lies at"),
        (4096 + 585 + 25, (1 << 33).to_bytes(8, "little"), "its object 2 lies at"),
        (4096 + 585 + 201, b"\x03", "not squashfs, or is encrypted"),
        (4096 + 585 + 205, b"\x03", "no system partition"),
        (4096 + 585 + 209, b"04", "it says that it is for amd64, and its file system for arm64"),
        (45, b"04", "it says that it is for arm64, and its file system for amd64"),
        (4096 + 4, b"\0" + bytes(584) + b"\0", "has no data|no system partition"),
    ],
)
def test_heads_that_cannot_be(plain, at, value, message):
    import re

    assert re.search(message, refused(patched(plain, at, value)))


def test_another_architecture_than_the_image(tmp_path, store):
    record = SifRecord(image=make_image(store), tool="", compressor="")
    path = write(tmp_path / "a.sif", (sif.JSON, sif.OUR_RECORD, record.as_bytes()), architecture="arm64")
    assert "it is for arm64, and the image in it for amd64" in refused(path)


@pytest.mark.parametrize("keep", [40, 60, 127, 4096, 10_000, 32_176, -4097, -1])
def test_sifs_that_are_cut_off(plain, keep):
    plain.write_bytes(plain.read_bytes()[:keep])
    refused(plain)


@pytest.mark.parametrize(
    "content", [b"", b"not an image at all" * 10, b"#!/usr/bin/env run-singularity\n" + bytes(200)]
)
def test_foreign_files(tmp_path, content):
    path = tmp_path / "a.sif"
    path.write_bytes(content)
    refused(path)


def test_a_record_that_was_changed(made):
    data = made.read_bytes()
    made.write_bytes(data.replace(b'"tool":"tool 1"', b'"tool":"tool 1,'))
    assert "damaged" in refused(made)
    made.write_bytes(data.replace(b"linux", b"Linux"))
    assert "E301" in refused(made)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(AfenvError) as caught, open_tree(tmp_path / "none.sif"):
        pass
    assert caught.value.code == "E001"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4096 + 3 * 585), st.integers(0, 255)), min_size=1, max_size=6),
    st.data(),
)
def test_any_damage(tmp_path, store, changes, data):
    """Whatever bytes are changed or cut off, the file is read or refused in one sentence."""
    record = SifRecord(image=make_image(store), tool="", compressor="")
    path = write(tmp_path / "a.sif", (sif.JSON, sif.OUR_RECORD, record.as_bytes()))
    content = bytearray(path.read_bytes())
    for at, value in changes:
        content[at if at < 130 else at % 3 + at] = value
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        with open_tree(path) as tree:
            tree.files()
    except AfenvError as error:
        assert error.code in ("E510", "E301")
