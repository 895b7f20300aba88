"""``afenv run --image``: images that are there, without a manifest."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from afenv.cli import main
from afenv.oci.layout import write_layout
from afenv.oci.model import Image
from afenv.oci.unpack import unpacked_root
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_image

DOCKER = '#!/bin/sh\ncase "$1" in info) echo "20.10 [name=seccomp]" ;; run) exit 7 ;; esac\n'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a Docker of our own and an empty cache."""
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("AFENV_DOCKER", str(docker))
    monkeypatch.setenv("AFENV_RUNTIME", "docker")
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image as another machine made it, and its layout in ``image.oci``."""
    elsewhere = ContentStore(tmp_path / "elsewhere")
    made = make_image(
        elsewhere,
        [(folder("bin"), Member(path="bin/hello", content=b"#!", mode=0o755))],
        entrypoint=("/bin/hello",),
    )
    write_layout(made, elsewhere, tmp_path / "image.oci")
    shutil.rmtree(tmp_path / "elsewhere")
    return made


def test_a_layout_runs_from_the_store(place, image, capsys):
    assert main(["run", "--image", "image.oci", "--", "/bin/hello", "you"]) == 7
    assert main(["run", "--image", "image.oci", "--dry-run", "--", "you"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[-2:] == [image.image_id.removeprefix("sha256:"), "you"]
    assert words[words.index("--workdir") + 1] == str(place)
    store = ContentStore(place / "cache")
    assert all(store.has(layer.digest, layer.size) for layer in image.layers)


def test_a_layer_with_another_content_is_refused(place, image, capsys):
    blob = place / "image.oci/blobs/sha256" / image.layers[0].digest.removeprefix("sha256:")
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    assert main(["run", "--image", "image.oci", "--", "/bin/hello"]) == 5
    assert "E301" in capsys.readouterr().err


def test_a_folder_runs_where_folders_do(place, image, capsys, monkeypatch):
    store = ContentStore(place / "cache")
    assert main(["run", "--image", "image.oci", "--dry-run"]) == 0  # brings the layers
    root = place / "root"
    shutil.copytree(unpacked_root(image.layers, store, quiet=True), root, symlinks=True)
    capsys.readouterr()
    assert main(["run", "--image", "root", "--", "/bin/hello"]) == 3
    error = capsys.readouterr().err
    assert "E501" in error and "apptainer or userns" in error
    apptainer = place / "apptainer"
    apptainer.write_text("#!/bin/sh\nexit 0\n")
    apptainer.chmod(0o755)
    monkeypatch.setenv("AFENV_APPTAINER", str(apptainer))
    if os.geteuid() != 0:
        monkeypatch.setattr("afenv.run.apptainer.check_user_namespaces", lambda *_: None)
    assert main(["run", "--runtime", "docker,apptainer", "--image", "root", "--dry-run", "--", "a"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[-2:] == [str(root), "a"]


@pytest.mark.parametrize("option", [("-e", "x"), ("--locked",), ("--batch", "slurm"), ("--live",)])
def test_options_of_a_manifest_are_refused(place, image, capsys, option):
    assert main(["run", "--image", "image.oci", *option, "--", "x"]) == 2
    assert "E030" in capsys.readouterr().err


def test_what_is_no_image(place, capsys):
    assert main(["run", "--image", "nothing", "--", "x"]) == 2
    assert "E001" in capsys.readouterr().err
    (place / "text").write_text("hello")
    assert main(["run", "--image", "text", "--", "x"]) == 2
    assert "E510" in capsys.readouterr().err
