"""A catalogue in the real docker-registry: writers in processes of their own, readers, and what went away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.attest.keys import generate_key
from afenv.specs import specs_folder
from afenv.store.content import ContentStore
from afenv.testing import make_foreign_image
from afenv_registry.client import RegistryClient

pytestmark = pytest.mark.services

FACILITY = specs_folder() / "facility" / "v1" / "examples" / "cloud-gpu" / "facility.yaml"
WRITERS = 4


def afenv(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    environment = os.environ | {"AFENV_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "afenv", "-C", str(folder), *words]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process: subprocess.Popen[str], status: int = 0) -> Any:
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    return json.loads(out) if out else err


@pytest.fixture
def hall(start: Callable[..., str], tmp_path: Path) -> tuple[str, Path]:
    """A registry with some images, and a folder with keys."""
    host = start()
    private, public = generate_key()
    (tmp_path / "k.pem").write_bytes(private)
    (tmp_path / "k.pub").write_bytes(public)
    store = ContentStore(tmp_path / "made")
    for number in range(2 * WRITERS):
        image = make_foreign_image(store, [[]], settings={"Env": [f"NUMBER={number}"]})
        RegistryClient().push(image, store, f"{host}/team/image{number}:1", quiet=True)
    return host, tmp_path


def test_writers_at_once_lose_nothing_and_readers_see_all(hall: tuple[str, Path]) -> None:
    host, folder = hall
    where = ("--catalogue", f"{host}/team/catalogue")
    running = [
        afenv(
            folder,
            *("catalogue", "add", f"{host}/team/image{2 * one}:1", f"{host}/team/image{2 * one + 1}:1"),
            *(*where, "--key", "k.pem", "--json"),
        )
        for one in range(WRITERS)
    ]
    for process in running:
        result(process)
    listed = result(afenv(folder, "catalogue", "list", *where, "--trust", "k.pub", "--json"))
    assert {one["name"] for one in listed["records"]} == {f"image{number}" for number in range(2 * WRITERS)}
    selected = result(
        afenv(folder, "select", "--facility", str(FACILITY), *where, "--trust", "k.pub", "--json")
    )
    assert len(selected["candidates"]) == 2 * WRITERS
    # the signed file is an artifact that other tools understand
    with RegistryClient().repository(f"{host}/team/catalogue") as repository:
        manifest = repository.get_manifest("latest").document()
        assert manifest["artifactType"] == "application/vnd.afenv.catalogue.v1+zstd"
        gone = json.loads(json.dumps(listed["records"][3]))
    with RegistryClient().repository(f"{host}/team/{gone['name']}", actions="pull,push,delete") as images:
        assert images.delete_manifest(gone["digest"])
    found = result(
        afenv(folder, "catalogue", "refresh", "--prune", *where, "--key", "k.pem", "--json"), status=1
    )
    states = {one["reference"].split("/")[2].split(":")[0]: one["state"] for one in found["images"]}
    assert states.pop(gone["name"]) == "vanished" and set(states.values()) == {"same"}
    selected = result(
        afenv(folder, "select", "--facility", str(FACILITY), *where, "--trust", "k.pub", "--json")
    )
    assert len(selected["candidates"]) == 2 * WRITERS - 1 and selected["cannot"] == 1
    offline = result(
        afenv(
            folder, "--offline", "select", "--facility", str(FACILITY), *where, "--trust", "k.pub", "--json"
        )
    )
    assert offline == selected


def test_the_file_is_what_zstd_and_oras_make_of_it(hall: tuple[str, Path], tmp_path: Path) -> None:
    import shutil

    host, folder = hall
    result(
        afenv(
            folder,
            "catalogue",
            "add",
            f"{host}/team/image0:1",
            "--catalogue",
            "c.zst",
            "--key",
            "k.pem",
            "--json",
        )
    )
    zstd = shutil.which("zstd")
    if zstd:
        done = subprocess.run([zstd, "-dc", str(folder / "c.zst")], capture_output=True, check=True)
        lines = done.stdout.splitlines()
        assert json.loads(lines[0])["count"] == 1 and json.loads(lines[1])["name"] == "image0"
    oras = shutil.which("oras")
    if oras:
        where = f"{host}/team/catalogue"
        result(
            afenv(
                folder,
                "catalogue",
                "add",
                f"{host}/team/image0:1",
                "--catalogue",
                where,
                "--key",
                "k.pem",
                "--json",
            )
        )
        (tmp_path / "pulled").mkdir()
        subprocess.run(
            [oras, "pull", "--plain-http", f"{where}:latest"],
            cwd=tmp_path / "pulled",
            capture_output=True,
            check=True,
        )
        listed = result(
            afenv(
                folder,
                "catalogue",
                "list",
                "--catalogue",
                str(tmp_path / "pulled" / "catalogue.zst"),
                "--trust",
                "k.pub",
                "--json",
            )
        )
        assert listed["count"] == 1
