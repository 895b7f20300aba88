"""The forms for Apptainer: the contract, what is in the files, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from afenv.errors import AfenvError
from afenv.oci.diff import diff
from afenv.oci.inspect import inspect_image
from afenv.oci.layout import write_layout
from afenv.oci.sif import OUR_RECORD, read_sif
from afenv.testing import BuilderContract, Member, folder, hardlink, make_image, symlink
from afenv_builders.apptainer import ApptainerBuilder
from afenv_builders.apptainer.packing import find_tool

PACKER = pytest.mark.skipif(not shutil.which("mksquashfs"), reason="squashfs-tools are not here")
LAYERS = (
    (
        folder("bin"),
        Member(path="bin/tool", content=b"tool" * 9000, mode=0o755),
        folder("old"),
        Member(path="old/a"),
    ),
    (
        hardlink("bin/same", "bin/tool"),
        Member(path=".wh.old"),
        symlink("lib", "usr/lib"),
        folder("tmp", 0o1777),
    ),
    (Member(path="bin/tool", content=b"new", uid=3, gid=4), Member(path="ü" + "x" * 150, content=b"y")),
)


class TestSif(BuilderContract):
    builder = ApptainerBuilder()
    target = "sif"


@PACKER
class TestSifOfTools(BuilderContract):
    builder = ApptainerBuilder()
    target = "sif"
    options: ClassVar = {"packer": "tools"}


@PACKER
class TestGzipSif(BuilderContract):
    builder = ApptainerBuilder()
    target = "sif"
    options: ClassVar = {"compressor": "gzip"}


class TestSquashfs(BuilderContract):
    builder = ApptainerBuilder()
    target = "squashfs"


class TestSandbox(BuilderContract):
    builder = ApptainerBuilder()
    target = "sandbox"


def build(image, store, path: Path, target: str = "sif", **options):
    return ApptainerBuilder().build(image, store, {"target": target, "path": path, "quiet": True, **options})


def code(image, store, path: Path, target: str = "sif", **options) -> str:
    with pytest.raises(AfenvError) as caught:
        build(image, store, path, target, **options)
    return caught.value.code


@pytest.mark.parametrize("target", ["sif", "squashfs"])
def test_the_files_are_those_of_the_image(store, tmp_path, target):
    image = make_image(store, LAYERS)
    write_layout(image, store, tmp_path / "oci")
    build(image, store, tmp_path / "out", target)
    found = diff(tmp_path / "oci", tmp_path / "out")
    assert not found.differs
    assert found.trees is not None
    assert found.trees[0] == found.trees[1]
    assert not found.times
    shown = inspect_image(tmp_path / "out").as_json()
    assert shown["image_id"] == image.image_id
    assert shown["packed"]["compressor"] == "zstd-3"


def test_the_files_of_a_sandbox_are_those_of_the_image(store, tmp_path):
    image = make_image(store, LAYERS)
    write_layout(image, store, tmp_path / "oci")
    build(image, store, tmp_path / "out", "sandbox")
    assert not diff(tmp_path / "oci", tmp_path / "out").files
    assert inspect_image(tmp_path / "out").as_json()["image_id"] == image.image_id
    assert (tmp_path / "out" / "singularity").resolve() == tmp_path / "out" / ".singularity.d" / "runscript"


def test_a_change_is_found(store, tmp_path):
    write_layout(make_image(store, LAYERS), store, tmp_path / "oci")
    build(make_image(store, LAYERS[:2]), store, tmp_path / "a.sif")
    found = diff(tmp_path / "oci", tmp_path / "a.sif")
    assert {change.what for change in found.files} == {"bin/tool", "ü" + "x" * 150}


SCRIPT = """
import os, sys
from pathlib import Path
from typing import ClassVar
from afenv.store.content import ContentStore
from afenv.testing import make_image
from afenv_builders.apptainer import ApptainerBuilder
sys.path.insert(0, sys.argv[1])
os.umask(int(sys.argv[3], 8))
store = ContentStore(Path(sys.argv[2]) / "store")
options = {"target": "sif", "path": Path(sys.argv[2]) / "a.sif", "threads": sys.argv[4], "quiet": True}
print(ApptainerBuilder().build(make_image(store), store, options).digest)
"""


def test_the_bytes_do_not_depend_on_the_host(tmp_path):
    digests = set()
    for number, (umask, threads, environment) in enumerate(
        [
            ("022", "1", {}),
            ("077", "5", {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}),
            ("000", "2", {"TZ": "America/New_York", "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "1"}),
        ]
    ):
        place = tmp_path / str(number)
        place.mkdir()
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(place), umask, threads]
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_the_identity_depends_on_image_and_compressor(store, tmp_path):
    def identity(image, **options):
        build(image, store, tmp_path / "a.sif", **options)
        return read_sif(tmp_path / "a.sif").identity

    one, other = make_image(store), make_image(store, LAYERS)
    assert identity(one) == identity(one) != identity(other)
    assert len({identity(one), identity(one, level=4), identity(one, compressor="gzip")}) == 3


def test_a_sif_that_is_current_is_kept(store, tmp_path):
    path = tmp_path / "a.sif"
    image = make_image(store)
    first = build(image, store, path)
    before = path.stat().st_ino
    assert build(image, store, path) == first
    assert path.stat().st_ino == before
    build(make_image(store, LAYERS), store, path)
    assert path.stat().st_ino != before


def test_a_digest_that_nobody_looks_at(store, tmp_path):
    assert build(make_image(store), store, tmp_path / "a.sif", digest=False).digest == ""


def test_files_of_the_runtime_win_and_the_image_may_add_some(store, tmp_path):
    ours = ".singularity.d/env/91-more.sh"
    image = make_image(
        store,
        [
            (
                folder(".singularity.d"),
                Member(path=ours),
                Member(path=".singularity.d/runscript", content=b"x"),
            )
        ],
    )
    build(image, store, tmp_path / "a.squashfs", "squashfs")
    from afenv.oci.forms import open_tree

    with open_tree(tmp_path / "a.squashfs") as tree:
        files = tree.files(keep=lambda path: path == ".singularity.d/runscript")
    assert ours in files
    assert (files[".singularity.d/runscript"].content or b"").startswith(b"#!/bin/sh")
    assert files["tmp"].mode == 0o1777  # a mount point that the image lacks


def test_options_that_do_not_fit(store, tmp_path):
    image = make_image(store)
    path = tmp_path / "a.sif"
    assert code(image, store, path, compressor="lzo") == "E030"
    assert code(image, store, path, level="high") == "E030"
    assert code(image, store, path, level=23) == "E030"
    assert code(image, store, path, compressor="gzip", level=10) == "E030"
    assert code(image, store, path, threads=0) == "E030"
    assert code(image, store, path, colour="red") == "E030"
    assert code(image, store, path, level=99, attachments=()) == "E030"
    assert code(image, store, path, "squashfs", sign="0123456789ABCDEF") == "E030"
    with pytest.raises(AfenvError, match="needs a path"):
        ApptainerBuilder().build(image, store, {"target": "sif"})


def test_places_that_cannot_be_written(store, tmp_path):
    image = make_image(store)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "theirs").touch()
    (tmp_path / "file").touch()
    assert code(image, store, tmp_path / "folder") == "E032"
    assert code(image, store, tmp_path / "folder", "sandbox") == "E032"
    assert code(image, store, tmp_path / "file", "sandbox") == "E032"
    assert code(image, store, tmp_path / "file" / "a.sif") == "E403"


def test_a_missing_layer(store, tmp_path):
    image = make_image(store)
    store.path(image.layers[0].digest).unlink()
    assert code(image, store, tmp_path / "a.sif") == "E305"
    assert not list(tmp_path.glob("*a.sif*"))


def test_an_image_from_the_future(store, tmp_path):
    """Its time cannot be the latest of all files, so all files have it."""
    image = make_image(store, created=4_000_000_000)
    digests = {build(image, store, tmp_path / f"{count}.sif").digest for count in range(2)}
    assert len(digests) == 1
    assert read_sif(tmp_path / "0.sif").created == 4_000_000_000


def program(place: Path, name: str, script: str) -> None:
    place.mkdir(exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{script}")
    (place / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder that is all of PATH, apart from what a shell needs."""
    place = tmp_path / "programs"
    place.mkdir()
    for name in ("sh", "cat", "cp"):
        (place / name).symlink_to(shutil.which(name) or "/bin/sh")
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.delenv("AFENV_APPTAINER", raising=False)
    from afenv_builders.apptainer import packing

    monkeypatch.setattr(packing, "ELSEWHERE", ())
    packing._works.cache_clear()
    yield place
    packing._works.cache_clear()


def test_neither_packer_nor_apptainer(programs, store, tmp_path):
    assert find_tool("zstd") is None
    assert code(make_image(store), store, tmp_path / "a.sif", packer="tools") == "E414"


def test_packers_that_are_too_old(programs):
    program(programs, "mksquashfs", 'cat >/dev/null; echo "mksquashfs: invalid option"; exit 1\n')
    program(programs, "tar2sqfs", "cat >/dev/null; exit 0\n")
    assert find_tool("zstd") is None


@PACKER
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("cat >/dev/null; echo 'FATAL ERROR: something' >&2; exit 1", "E413"),
        ("exit 3", "E413"),
        ("cat >/dev/null; echo 'file a already exists, ignoring'; exit 0", "E413"),
        ("cat >/dev/null; echo 'Write failed because No space left on device' >&2; exit 1", "E402"),
    ],
)
def test_a_packer_that_fails(store, tmp_path, monkeypatch, script, expected):
    from dataclasses import replace

    from afenv_builders.apptainer import builder

    tool = find_tool("zstd")
    assert tool is not None
    program(tmp_path / "programs", "mksquashfs", script + "\n")
    monkeypatch.setattr(
        builder, "find_tool", lambda _: replace(tool, path=str(tmp_path / "programs" / "mksquashfs"))
    )
    large = [(Member(path="large", content=os.urandom(1 << 22)),)]
    assert code(make_image(store, large), store, tmp_path / "a.sif", packer="tools") == expected
    assert not list(tmp_path.glob("*a.sif*"))


APPTAINER = """
case "$*" in
--version) echo apptainer version 1.4.5 ;;
*" build "*) for word in "$@"; do last=$word; done
    [ -f "${last#oci:}/index.json" ] || exit 7
    cp "$SIF" "$3" ;;
"sif add"*) cat "$8" >"$NOTE" ;;
*) exit 9 ;;
esac
"""


def test_apptainer_build_in_the_place_of_a_packer(store, tmp_path, monkeypatch, request):
    image = make_image(store)
    build(image, store, tmp_path / "real.sif")
    monkeypatch.setenv("SIF", str(tmp_path / "real.sif"))
    monkeypatch.setenv("NOTE", str(tmp_path / "note"))
    place = request.getfixturevalue("programs")
    program(place, "apptainer", APPTAINER)
    built = build(image, store, tmp_path / "a.sif", packer="tools")
    assert built.annotations["org.afenv.packed-by"] == "apptainer 1.4.5"
    assert "apptainer build was used" in built.annotations["org.afenv.fallback"]
    from afenv.oci.sif_record import parse_record

    note = parse_record((tmp_path / "note").read_bytes(), tmp_path)
    assert note.image.image_id == image.image_id
    assert "apptainer build was used" in note.fallback
    assert (
        build(image, store, tmp_path / "a.squashfs", "squashfs").size
        == read_sif(tmp_path / "real.sif").system().size
    )


def test_an_apptainer_that_fails(programs, store, tmp_path):
    program(
        programs, "apptainer", 'case "$1" in --version) echo 1.0 ;; *) echo FATAL: no >&2; exit 255 ;; esac\n'
    )
    with pytest.raises(AfenvError, match="apptainer build failed: FATAL: no") as caught:
        build(make_image(store), store, tmp_path / "a.sif", packer="tools")
    assert caught.value.code == "E502"


def test_objects_are_those_of_apptainer(store, tmp_path):
    build(make_image(store), store, tmp_path / "a.sif")
    found = read_sif(tmp_path / "a.sif")
    names = [(hex(one.kind), one.name) for one in found.objects]
    assert names == [
        ("0x4001", ""),
        ("0x4006", "inspect-metadata.json"),
        ("0x4006", "oci-config.json"),
        ("0x4006", OUR_RECORD),
        ("0x4004", ""),
    ]
