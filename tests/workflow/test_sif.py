"""SIFs from the command line: what is said of them, and options for their builder."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from afenv.digest import sha256_file
from afenv.oci.sif import read_sif


def test_building_inspecting_and_comparing(world: Any) -> None:
    (oci,) = world.afenv_json("build")
    (built,) = world.afenv_json("build", "--target", "sif")
    path = world.project / ".afenv" / "default.sif"
    assert (built["path"], built["image_id"]) == (str(path), oci["image_id"])
    file = built["file"]
    assert file["mediaType"] == "application/vnd.sylabs.sif.layer.v1.sif"
    assert (file["digest"], file["size"]) == (sha256_file(path), path.stat().st_size)
    assert file["annotations"]["org.afenv.image-id"] == oci["image_id"]
    assert file["annotations"]["org.afenv.compressor"] == "zstd-3"
    assert "org.afenv.fallback" not in file["annotations"]
    assert world.afenv_json("inspect", str(path))["image_id"] == oci["image_id"]
    found = world.afenv_json("diff", ".afenv/default.oci", ".afenv/default.sif")
    assert not found["differs"]
    assert found["trees"]["old"] == found["trees"]["new"]


@pytest.mark.skipif(not shutil.which("mksquashfs"), reason="squashfs-tools are not here")
def test_options_for_the_builder(world: Any) -> None:
    options = ("--option", "compressor=gzip", "--option", "level=1")
    (built,) = world.afenv_json("build", "--target", "squashfs", *options)
    assert built["file"]["annotations"]["org.afenv.compressor"] == "gzip-1"
    for wrong in ("compressor=lzo", "nothing", "=1", "colour=red"):
        status, _, err = world.afenv("build", "--target", "sif", "--option", wrong)
        assert (status, "E030" in err) == (2, True), err


def test_checking(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFENV_APPTAINER", "")
    status, _, err = world.afenv("build", "--target", "sif", "--check")
    assert status == 0, err
    path = world.project / ".afenv" / "default.sif"
    system = read_sif(path).system()
    with path.open("r+b") as file:
        file.seek(system.offset + 200)
        file.write(b"\xff" * 64)
    status, _, err = world.afenv("build", "--target", "sif", "--check")
    assert status == 1 if "E406" in err else (status, "E510" in err) == (2, True), err
    for target in ("squashfs", "sandbox"):
        assert world.afenv("build", "--target", target, "--check")[0] == 0
    (path.with_suffix(".sandbox") / "analysis").rename(path.with_suffix(".sandbox") / "other")
    status, _, err = world.afenv("build", "--target", "sandbox", "--check")
    assert (status, "E406" in err, "analysis" in err) == (1, True, True), err


@pytest.mark.parametrize(
    "content", [b"", b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\0", b"hsqs", b"sqsh" + bytes(99)]
)
def test_damaged_images_are_one_sentence(world: Any, content: bytes) -> None:
    (world.project / "bad.sif").write_bytes(content)
    for words in (("inspect", "bad.sif"), ("diff", "bad.sif", "bad.sif")):
        status, _, err = world.afenv(*words)
        assert (status, "E510" in err, "Traceback" in err) == (2, True, False), err
