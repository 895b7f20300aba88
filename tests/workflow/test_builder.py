"""Environments that another tool makes whole, with a tool of the tests in the place of docker."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from afenv.errors import AfenvError
from afenv.oci import importing, recipes
from afenv.oci.read import open_image
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, tar_of

from .conftest import World

MANIFEST = """\
afenv: 1
name: whole
version: "1.0"
code: [{path: src}]
environments:
  default:
    builder: {name: docker, path: image, file: recipe}
    variables: {EXTRA: "1"}
"""


def docker_archive(path: Path, layers: list[bytes], config: Mapping[str, Any]) -> None:
    """What ``docker save`` writes."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    files = dict(zip(names, layers, strict=True)) | {"config.json": json.dumps(document).encode()}
    index = [{"Config": "config.json", "RepoTags": None, "Layers": names}]
    with tarfile.open(path, "w") as archive:
        for name, data in (files | {"manifest.json": json.dumps(index).encode()}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


class Tool:
    """Makes an image that holds what the folder has, and never the same one twice."""

    def __init__(self) -> None:
        self.seen: list[dict[str, bytes]] = []
        self.failure: AfenvError | None = None

    def build(
        self, folder_: Path, options: Mapping[str, Any], archive: Path, say: Callable[[str], None]
    ) -> str:
        files = {str(one.relative_to(folder_)): one.read_bytes() for one in sorted(folder_.rglob("*"))}
        self.seen.append(files)
        say(f"reading {options['file']} for {options['platform']}")
        if self.failure is not None:
            raise self.failure
        passwd = Member(path="etc/passwd", content=b"worker:x:77:77::/work:/bin/sh\n")
        made = Member(path="made", content=f"{len(self.seen)}".encode())
        layers = [tar_of([folder("etc"), passwd]), tar_of([made])]
        settings = {"User": "worker", "WorkingDir": "/work", "Cmd": ["/bin/true"], "Env": ["A=b"]}
        docker_archive(archive, layers, settings)
        return "9.9"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    found = Tool()
    monkeypatch.setattr(recipes, "find_recipe_builder", lambda name: found)
    return found


@pytest.fixture
def whole(world: World) -> World:
    world.write("afenv.yaml", MANIFEST)
    world.write("image/recipe", "FROM nothing\n")
    world.write("src/code.py", "1\n")
    return world


def _config(built: Mapping[str, Any]) -> Any:
    with open_image(Path(built["path"])) as opened:
        return opened.image.configuration()


def test_the_image_is_that_of_the_tool_with_the_code_on_top(whole: World, tool: Tool) -> None:
    (built,) = whole.afenv_json("build")
    assert tool.seen == [{"recipe": b"FROM nothing\n"}]
    config = _config(built)["config"]
    assert (config["User"], config["WorkingDir"], config["Cmd"]) == ("worker", "/work", ["/bin/true"])
    assert {"A=b", "EXTRA=1"} <= set(config["Env"])
    assert config["Labels"]["org.afenv.reproducible"] == "false"
    assert config["Labels"]["org.afenv.builder"] == "docker 9.9"
    assert [layer["source"].partition(":")[0] for layer in built["layers"]] == ["base", "base", "code"]
    assert whole.lock()["environments"]["default"]["builder"]["version"] == "9.9"


def test_it_is_built_again_only_for_other_files_or_when_asked(whole: World, tool: Tool) -> None:
    (first,) = whole.afenv_json("build")
    (second,) = whole.afenv_json("build", "--target", "oci-archive")
    assert second["image_id"] == first["image_id"]
    assert whole.afenv("build", "--locked")[0] == 0
    whole.write("src/code.py", "2\n")
    assert whole.afenv("build")[0] == 0
    assert len(tool.seen) == 1
    whole.write("image/recipe", "FROM something\n")
    status, _, err = whole.afenv("build", "--locked")
    assert (status, "the files that environment default is built from have changed" in err) == (1, True)
    assert whole.afenv("build")[0] == 0
    assert len(tool.seen) == 2
    assert whole.afenv("lock", "--upgrade")[0] == 0
    assert len(tool.seen) == 3


def test_the_tools_last_words_and_its_log_are_named(whole: World, tool: Tool) -> None:
    tool.failure = AfenvError("E416", "it ended with status 3")
    status, _, err = whole.afenv("build")
    assert status == 2
    assert "error E416: it ended with status 3 (reading recipe for linux/amd64); its output is in" in err
    log = whole.project / ".afenv" / "default.docker.log"
    assert log.read_text() == "reading recipe for linux/amd64\n"
    assert not (whole.project / "afenv.lock").exists()


def test_an_image_that_is_not_here_cannot_be_made_again_by_itself(
    whole: World, tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert whole.afenv("build")[0] == 0
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "another machine"))
    status, _, err = whole.afenv("build", "--target", "oci-archive")
    assert (status, "E417" in err) == (3, True)
    assert len(tool.seen) == 1


def test_a_recipe_that_is_not_there(whole: World) -> None:
    text = MANIFEST.replace("recipe}", "Dockerfile.other}")
    whole.write("afenv.yaml", text)
    status, _, err = whole.afenv("build")
    assert (status, "there is no Dockerfile.other in image" in err) == (2, True)


def test_a_tool_that_is_not_installed(whole: World) -> None:
    with pytest.raises(AfenvError) as caught:
        recipes.find_recipe_builder("tool")
    assert caught.value.code == "E415"


def test_layers_are_compressed_and_the_image_id_stays(store: ContentStore, tmp_path: Path) -> None:
    plain, packed = tar_of([Member(path="a", content=b"a" * 900_000)]), tar_of([Member(path="b")])
    docker_archive(tmp_path / "image.tar", [plain, packed], {})
    with open_image(tmp_path / "image.tar") as opened:
        image_id = opened.image.image_id
    image = importing.import_image(tmp_path / "image.tar", store)
    assert image.image_id == image_id
    assert image.layers[0].size < 10_000
    assert [layer.media_type.rpartition("+")[2] for layer in image.layers] == ["gzip", "gzip"]
    assert all(store.check(layer.digest) for layer in image.layers)


def test_a_layer_that_is_not_what_the_config_says(store: ContentStore, tmp_path: Path) -> None:
    docker_archive(tmp_path / "image.tar", [tar_of([Member(path="a", content=b"a")])], {})
    data = (tmp_path / "image.tar").read_bytes()
    (tmp_path / "image.tar").write_bytes(data.replace(b"a" + b"\0" * 511, b"z" + b"\0" * 511))
    with pytest.raises(AfenvError) as caught:
        importing.import_image(tmp_path / "image.tar", store)
    assert caught.value.code == "E301"
