"""``afenv pull`` and ``afenv push`` against the registry in memory."""

from __future__ import annotations

import json
import uuid

import pytest

from afenv.cli import main
from afenv.oci import media
from afenv.oci.layout import write_layout
from afenv.oci.read import open_image
from afenv.oci.sif import sif_head
from afenv.testing import Member, make_image

SIF = sif_head(
    objects=(), partition_size=1000, architecture="amd64", identity=uuid.UUID(int=1), created=0
) + bytes(1000)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "pull-cache"))
    monkeypatch.delenv("AFENV_OFFLINE", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def image(store, tmp_path, registry):
    """An image, pushed as ``group/sample:1`` and in the folder ``layout``."""
    made = make_image(store)
    write_layout(made, store, tmp_path / "layout")
    assert main(["-q", "push", str(tmp_path / "layout"), f"{registry.host}/group/sample:1"]) == 0
    return made


def test_a_layout(registry, image, tmp_path, capsys):
    capsys.readouterr()
    assert main(["pull", f"{registry.host}/group/sample:1"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == image.image_id
    assert "pulling from" in err
    with open_image(tmp_path / "sample.oci") as opened:
        assert opened.image.manifest == image.manifest
    assert main(["-q", "pull", f"{registry.host}/group/sample:1"]) == 0  # again, over what it wrote


def test_an_archive_and_json(registry, image, tmp_path, capsys):
    capsys.readouterr()
    words = ["pull", f"{registry.host}/group/sample:1", "-o", str(tmp_path / "a.tar"), "--json"]
    assert main(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["image_id"] == image.image_id
    assert shown["manifest_digest"] == image.manifest_digest
    assert shown["kind"] == "image"
    assert shown["reference"].endswith(f"group/sample:1@{image.manifest_digest}")
    with open_image(tmp_path / "a.tar") as opened:
        assert opened.image.image_id == image.image_id


def test_a_sif(registry, tmp_path):
    (tmp_path / "one.sif").write_bytes(SIF)
    reference = f"oras://{registry.host}/sifs/one:1"
    assert main(["-q", "push", "one.sif", reference]) == 0
    manifest = json.loads(registry.manifests["sifs/one", "1"])
    assert manifest["config"]["mediaType"] == media.SIF_CONFIG
    assert [layer["mediaType"] for layer in manifest["layers"]] == [media.SIF_LAYER]
    assert main(["-q", "pull", reference, "-o", "two.sif"]) == 0
    assert (tmp_path / "two.sif").read_bytes() == SIF


def test_a_sif_that_is_cut_or_to_be_signed_is_not_sent(registry, tmp_path, capsys):
    (tmp_path / "cut.sif").write_bytes(SIF[:-1])
    (tmp_path / "one.sif").write_bytes(SIF)
    assert main(["-q", "push", "cut.sif", f"{registry.host}/sifs/one:1"]) == 2
    assert "E510" in capsys.readouterr().err
    assert main(["-q", "push", "one.sif", f"{registry.host}/sifs/one:1", "--sign", "any.key"]) == 2
    assert "E030" in capsys.readouterr().err
    assert registry.requests == []


@pytest.mark.parametrize("target", ["dimuon.zip", "out/dimuon.zip", "./dimuon.oci", "../a/b", "/no/a.oci"])
def test_a_path_with_a_slip_is_not_looked_for_in_a_registry(target, tmp_path, capsys):
    assert main(["-q", "key", "generate", "a.pem", "--no-password"]) == 0
    for words in (["verify", target], ["sign", target, "--key", "a.pem"]):
        assert main(["-q", *words]) == 2
        assert f"{target}: error E001: there is no such file or folder" in capsys.readouterr().err


def test_a_sif_has_its_own_verifier(registry, tmp_path, capsys):
    (tmp_path / "one.sif").write_bytes(SIF)
    reference = f"{registry.host}/sifs/one:1"
    assert main(["-q", "push", "one.sif", reference]) == 0
    for target in ("one.sif", reference):
        assert main(["-q", "verify", target]) == 2
        assert "this is a SIF" in capsys.readouterr().err


def test_what_is_attached_comes_along(registry, image, tmp_path, capsys):
    """A pulled layout can be verified, and pushed elsewhere with all that belongs to it."""
    reference, host = f"{registry.host}/group/sample:1", registry.host
    assert main(["key", "generate", "--no-password", "a.key"]) == 0
    assert main(["-q", "sign", reference, "--key", "a.key"]) == 0
    for _ in range(2):
        assert main(["-q", "pull", reference]) == 0
    assert main(["-q", "push", "sample.oci", f"{host}/mirror/sample:1"]) == 0
    capsys.readouterr()
    for target in ("sample.oci", f"{host}/mirror/sample:1"):
        main(["-q", "verify", target, "--key", "a.pub", "--no-content"])
        assert "the manifest is signed by a " in capsys.readouterr().out


def test_a_sif_is_not_written_over_another_file(registry, tmp_path, capsys):
    (tmp_path / "one.sif").write_bytes(SIF)
    reference = f"{registry.host}/sifs/one:1"
    assert main(["-q", "push", "one.sif", reference]) == 0
    assert main(["-q", "pull", reference]) == 0  # the same content is there
    (tmp_path / "one.sif").write_bytes(b"mine")
    assert main(["-q", "pull", reference]) == 2
    assert "E032" in capsys.readouterr().err
    assert (tmp_path / "one.sif").read_bytes() == b"mine"
    assert main(["-q", "pull", reference, "-o", "two.sif"]) == 0
    assert (tmp_path / "two.sif").read_bytes() == SIF


def test_documents(registry, tmp_path):
    (tmp_path / "afenv.lock").write_text("{}")
    (tmp_path / "to").mkdir()
    reference = f"{registry.host}/documents:lock"
    assert main(["-q", "push", "afenv.lock", reference]) == 0
    assert json.loads(registry.manifests["documents", "lock"])["artifactType"] == media.LOCK
    assert main(["-q", "pull", reference, "-o", "to"]) == 0
    assert (tmp_path / "to" / "afenv.lock").read_text() == "{}"


def test_what_cannot_be_done(registry, image, tmp_path, capsys):
    reference = f"{registry.host}/group/sample:1"
    for words, status, code in (
        (["--offline", "pull", reference], 2, "E030"),
        (["pull", "Bad Reference"], 2, "E603"),
        (["pull", f"{registry.host}/group/sample:2"], 4, "E604"),
        (["pull", reference, "-o", str(tmp_path)], 2, "E032"),
        (["push", "nothing", reference], 2, "E001"),
        (["push", "layout", "short"], 2, "E603"),
    ):
        assert main(["-q", *words]) == status, words
        assert code in capsys.readouterr().err


def test_nothing_is_written_when_a_layer_is_wrong(registry, image, tmp_path, capsys):
    blobs = registry.blobs["group/sample"]
    blobs[image.layers[0].digest] = blobs[image.layers[0].digest][::-1]
    assert main(["-q", "pull", f"{registry.host}/group/sample:1"]) == 5
    assert "E301" in capsys.readouterr().err
    assert not (tmp_path / "sample.oci").exists()


def test_mounting_by_the_command_line(registry, image, tmp_path):
    registry.requests.clear()
    words = ["-q", "push", "layout", f"{registry.host}/other:1", "--mount-from", "group/sample"]
    assert main(words) == 0
    assert registry.methods().count("PUT") == 1


def test_the_platform_is_asked_for(registry, image, store, tmp_path, capsys):
    assert main(["-q", "pull", f"{registry.host}/group/sample:1", "--platform", "linux/arm64"]) == 4
    assert "linux/amd64" in capsys.readouterr().err


def test_all_platforms(registry, store, tmp_path):
    entries = []
    for name in ("amd64", "arm64"):
        made = make_image(store, [[Member(path=name)]])
        write_layout(made, store, tmp_path / name)
        assert main(["-q", "push", name, f"{registry.host}/multi:{name}"]) == 0
        entry = made.manifest_descriptor().as_json()
        entries.append(entry | {"platform": {"os": "linux", "architecture": name}})
    index = {"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": entries}
    registry.manifests["multi", "1"] = json.dumps(index).encode()
    assert main(["-q", "pull", f"{registry.host}/multi:1", "--all-platforms"]) == 0
    assert main(["-q", "push", "multi.oci", f"{registry.host}/again:1"]) == 0
    assert registry.manifests["again", "1"] == registry.manifests["multi", "1"]
    assert main(["-q", "pull", f"{registry.host}/again:1", "--platform", "linux/arm64", "-o", "arm"]) == 0
    with open_image(tmp_path / "arm") as opened:
        assert opened.image.manifest_digest == entries[1]["digest"]
    assert main(["-q", "push", "multi.oci", f"{registry.host}/again:1"]) == 0
