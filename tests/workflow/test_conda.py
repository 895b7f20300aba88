"""Conda in the whole way of a user: manifest, lock, export, a foreign lock, build."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

MANIFEST = """\
afenv: 1
name: small
environments:
  default:
    base: {debian: bookworm, packages: [libc6]}
    conda: {channels: [./channel], dependencies: [tool, gpulib]}
"""


def add_package(
    channel: Path, name: str, version: str, build: str, depends: list[str], number: int = 0
) -> None:
    """Add a package with one file to a channel."""
    folder = channel / "linux-64"
    folder.mkdir(parents=True, exist_ok=True)
    (channel / "noarch").mkdir(exist_ok=True)
    (channel / "noarch" / "repodata.json").write_text('{"packages": {}}')
    content = f"{name} {version}\n".encode()
    index = {"name": name, "version": version, "build": build, "build_number": number, "depends": depends}
    index |= {"subdir": "linux-64", "timestamp": 1_700_000_000_000}
    entry = {"_path": f"share/{name}.txt", "path_type": "hardlink", "size_in_bytes": len(content)}
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    files = {
        "info/index.json": json.dumps(index).encode(),
        "info/paths.json": json.dumps({"paths": [entry], "paths_version": 1}).encode(),
        f"share/{name}.txt": content,
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = bz2.compress(buffer.getvalue())
    file = f"{name}-{version}-{build}.tar.bz2"
    (folder / file).write_bytes(data)
    path = folder / "repodata.json"
    known = json.loads(path.read_bytes())["packages"] if path.exists() else {}
    known[file] = index | {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps({"packages": known}))


@pytest.fixture
def conda_world(world: Any) -> Any:
    """The small world with a channel in the project's folder, and a manifest that asks for conda packages."""
    channel = world.project / "channel"
    add_package(channel, "tool", "1.0", "0", ["base >=1"])
    add_package(channel, "base", "1.0", "0", ["__glibc >=2.17"])
    add_package(channel, "gpulib", "1.0", "cuda_0", ["__cuda >=12"], 1)
    add_package(channel, "gpulib", "1.0", "cpu_0", [])
    world.write("afenv.yaml", MANIFEST)
    return world


def _locked(world: Any, name: str = "default") -> dict[str, str]:
    return {
        entry["name"]: f"{entry['version']} {entry['build']}"
        for entry in world.lock()["environments"][name]["conda"]
    }


def test_lock_build_and_lock_again(conda_world: Any) -> None:
    shown = conda_world.afenv_json("lock")
    assert shown["environments"]["default"]["conda"] == 3
    assert _locked(conda_world) == {"base": "1.0 0", "gpulib": "1.0 cpu_0", "tool": "1.0 0"}
    environment = conda_world.lock()["environments"]["default"]
    assert environment["conda-prefix"] == "/opt/conda"
    assert environment["virtual-packages"]["__glibc"] == "2.36"
    assert str(conda_world.project) not in (conda_world.project / "afenv.lock").read_text()
    (built,) = conda_world.afenv_json("build")
    assert any("conda" in layer["source"] for layer in built["layers"])
    moved = conda_world.folder / "elsewhere"
    shutil.copytree(conda_world.project, moved, ignore=shutil.ignore_patterns(".afenv", "afenv.lock"))
    conda_world.folder.joinpath("project").rename(conda_world.folder / "old")
    moved.rename(conda_world.project)
    (again,) = conda_world.afenv_json("build")
    assert again["image_id"] == built["image_id"]


def test_updates_and_changes(conda_world: Any) -> None:
    conda_world.afenv_json("lock")
    first = (conda_world.project / "afenv.lock").read_bytes()
    for name in ("tool", "base"):
        add_package(conda_world.project / "channel", name, "2.0", "0", [] if name == "base" else ["base"])
    assert conda_world.afenv("lock")[0] == 0
    assert (conda_world.project / "afenv.lock").read_bytes() == first
    conda_world.afenv_json("lock", "--update", "base")
    assert _locked(conda_world) == {"base": "2.0 0", "gpulib": "1.0 cpu_0", "tool": "1.0 0"}
    conda_world.afenv_json("lock", "--upgrade")
    assert _locked(conda_world)["tool"] == "2.0 0"
    status, _, err = conda_world.afenv("lock", "--update", "nothing")
    assert (status, "E101" in err) == (2, True)
    conda_world.write("afenv.yaml", MANIFEST + '    gpu: {cuda: ">=12.2"}\n')
    assert conda_world.afenv("lock", "--check")[0] == 1
    conda_world.afenv_json("lock")
    assert _locked(conda_world)["gpulib"] == "1.0 cuda_0"


def test_files_are_part_of_the_request(conda_world: Any) -> None:
    conda_world.write(
        "afenv.yaml", MANIFEST.replace("channels: [./channel], dependencies: [tool, gpulib]", "file: env.yml")
    )
    text = "channels: [./channel]\ndependencies: [base, {pip: [-r more.txt]}]\n"
    conda_world.write("env.yml", text)
    conda_world.write("more.txt", "# nothing\n")
    status, _, err = conda_world.afenv("lock")
    assert (status, "E106" in err) == (2, True)  # pip packages, and no Python
    conda_world.write("env.yml", text.replace(", {pip: [-r more.txt]}", ""))
    conda_world.afenv_json("lock")
    assert _locked(conda_world) == {"base": "1.0 0"}
    assert conda_world.afenv("lock", "--check")[0] == 0
    conda_world.write("env.yml", text.replace(", {pip: [-r more.txt]}", ", tool"))
    assert conda_world.afenv("lock", "--check")[0] == 1


@pytest.mark.parametrize("form", ["conda-lock", "pixi", "explicit"])
def test_export_import_export(conda_world: Any, form: str) -> None:
    conda_world.afenv_json("lock")
    (built,) = conda_world.afenv_json("build")
    assert conda_world.afenv("export", form, "-o", str(conda_world.project / "their.lock"))[0] == 0
    conda_world.write(
        "afenv.yaml",
        MANIFEST.replace("channels: [./channel], dependencies: [tool, gpulib]", "lock: their.lock"),
    )
    conda_world.afenv_json("lock")
    assert _locked(conda_world) == {"base": "1.0 0", "gpulib": "1.0 cpu_0", "tool": "1.0 0"}
    again = conda_world.project / "again.lock"
    assert conda_world.afenv("export", form, "-e", "default", "-o", str(again))[0] == 0
    assert again.read_bytes() == (conda_world.project / "their.lock").read_bytes()
    (imported,) = conda_world.afenv_json("build")
    layers = [{layer["diff_id"] for layer in entry["layers"]} for entry in (built, imported)]
    assert len(layers[0] - layers[1]) <= 1  # conda-meta names the channel by another URL


def test_what_cannot_be_exported_or_solved(conda_world: Any) -> None:
    assert "E020" in conda_world.afenv("export", "pixi")[2]
    conda_world.afenv_json("lock")
    assert "E031" in conda_world.afenv("export", "pixi", "-e", "other")[2]
    assert "E403" in conda_world.afenv("export", "pixi", "-o", "/nowhere/x")[2]
    assert "E121" in conda_world.afenv("lock", "--upgrade", "--solver", "conda-lock")[2]
    status, _, err = conda_world.afenv("lock", "--solver", "conda-lock", "--as-of", conda_world.AS_OF)
    assert (status, "cannot lock as of another time" in err) == (2, True)
    both = MANIFEST + MANIFEST.partition("environments:\n")[2].replace("default", "second")
    conda_world.write("afenv.yaml", both)
    conda_world.afenv_json("lock")
    assert "choose one environment with -e" in conda_world.afenv("export", "explicit")[2]
    assert "choose one environment with -e" in conda_world.afenv("export", "conda-lock")[2]
    assert conda_world.afenv("export", "pixi", "-o", str(conda_world.project / "both"))[0] == 0
    text = (conda_world.project / "both").read_text()
    assert "  default:\n" in text and "  second:\n" in text
