"""From the manifest to the image, by the command line, against servers on this machine."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def blobs(world: Any) -> set[str]:
    return {path.name for path in (world.cache / "blobs" / "sha256").rglob("*") if path.is_file()}


def packages(lock: Any, kind: str) -> dict[str, str]:
    return {one["name"]: one["version"] for one in lock["environments"]["default"][kind]}


def test_locking_and_building_by_the_way_of_a_user(world: Any) -> None:
    (built,) = world.afenv_json("build")
    lock = world.lock()
    assert packages(lock, "wheels") == {"alpha": "1.0", "beta": "1.0"}
    assert {"python3", "libstdc++6", "base-files"} <= packages(lock, "debs").keys()
    assert set(built) >= {"image_id", "manifest_digest", "lock_digest", "assembly_version", "layers", "path"}
    assert all(set(layer) == {"diff_id", "digest", "size", "source"} for layer in built["layers"])
    shown = world.afenv_json("inspect", str(built["path"]))
    assert shown["image_id"] == built["image_id"]
    status, out, _ = world.afenv("build")
    assert (status, out.strip()) == (0, built["image_id"])


def test_a_second_build_asks_no_server_and_writes_no_layer(world: Any) -> None:
    world.afenv_json("build")
    before = blobs(world)
    world.asked.clear()
    status, _, err = world.afenv("build", "--offline")
    assert status == 0, err
    assert world.asked == []
    assert blobs(world) == before
    assert "Writing" not in err


def test_a_lock_is_the_same_bytes_when_resolved_again(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.afenv_json("lock", "--as-of", world.AS_OF)
    first = (world.project / "afenv.lock").read_bytes()
    (world.project / "afenv.lock").unlink()
    monkeypatch.setenv("AFENV_CACHE_DIR", str(world.folder / "another cache"))
    world.afenv_json("lock", "--as-of", world.AS_OF)
    assert (world.project / "afenv.lock").read_bytes() == first
    assert b"127.0.0.1" not in first.replace(world.url.encode(), b"") or b"deb.debian.org" in first


def test_another_folder_and_another_cache_give_the_same_image(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = world.afenv_json("build")
    elsewhere = world.folder / "ein anderer Ort é"
    shutil.copytree(world.project, elsewhere, ignore=shutil.ignore_patterns(".afenv"))
    monkeypatch.setenv("AFENV_CACHE_DIR", str(world.folder / "another cache"))
    monkeypatch.setenv("AFENV_JOBS", "1")
    from afenv.cli import main

    assert main(["-C", str(elsewhere), "build", "--locked", "--json"]) == 0
    (second,) = json.loads(world.capsys.readouterr().out)
    assert second["image_id"] == first["image_id"]
    assert second["manifest_digest"] == first["manifest_digest"]


def test_check_tells_what_does_not_fit(world: Any) -> None:
    assert world.afenv("lock", "--check")[0] == 2  # there is none
    world.afenv_json("lock")
    assert world.afenv("lock", "--check")[0] == 0
    manifest = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", manifest.replace("[alpha, beta]", "[beta]"))
    status, _, err = world.afenv("lock", "--check")
    assert status == 1
    assert "environment default has changed" in err
    world.write("afenv.yaml", manifest)
    world.write("src/fit.py", "import alpha\n")
    status, _, err = world.afenv("lock", "--check")
    assert status == 1
    assert "the code has changed" in err
    world.write("src/fit.py", "import beta\n")
    assert world.afenv("lock", "--check")[0] == 0


def test_locked_refuses_what_does_not_fit_and_changes_nothing(world: Any) -> None:
    status, _, err = world.afenv("build", "--locked")
    assert (status, "E020" in err) == (2, True)
    world.afenv_json("lock")
    before = (world.project / "afenv.lock").read_bytes()
    world.write("src/fit.py", "import alpha\n")
    status, _, err = world.afenv("build", "--locked")
    assert (status, "E021" in err) == (1, True)
    assert (world.project / "afenv.lock").read_bytes() == before
    assert not (world.project / ".afenv").exists()


def test_new_versions_do_not_move_a_lock_by_themselves(world: Any) -> None:
    world.afenv_json("lock")
    before = (world.project / "afenv.lock").read_bytes()
    world.publish_wheel("alpha", "2.0")
    world.publish_wheel("beta", "2.0")
    world.afenv_json("lock")
    assert (world.project / "afenv.lock").read_bytes() == before


def test_an_update_moves_one_package(world: Any) -> None:
    world.afenv_json("lock")
    before = world.lock()
    world.publish_wheel("alpha", "2.0")
    world.publish_wheel("beta", "2.0")
    world.afenv_json("lock", "--update", "alpha")
    after = world.lock()
    assert packages(after, "wheels") == {"alpha": "2.0", "beta": "1.0"}
    assert after["environments"]["default"]["debs"] == before["environments"]["default"]["debs"]
    world.afenv_json("lock", "--upgrade")
    assert packages(world.lock(), "wheels") == {"alpha": "2.0", "beta": "2.0"}


def test_another_suite_takes_its_own_versions(world: Any) -> None:
    world.afenv_json("lock")
    world.publish_debs("1.1", suite="trixie")
    manifest = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", manifest.replace("bookworm", "trixie"))
    world.afenv_json("lock")
    assert packages(world.lock(), "debs")["base-files"] == "1.1"


def test_updating_what_is_not_there(world: Any) -> None:
    world.afenv_json("lock")
    before = (world.project / "afenv.lock").read_bytes()
    status, _, err = world.afenv("lock", "--update", "gamma")
    assert (status, "E101" in err, "gamma" in err) == (2, True, True)
    assert (world.project / "afenv.lock").read_bytes() == before


def test_a_code_change_changes_one_layer(world: Any) -> None:
    (first,) = world.afenv_json("build")
    world.write("src/fit.py", "import alpha, beta\n")
    (second,) = world.afenv_json("build")
    changed = [
        new["source"]
        for old, new in zip(first["layers"], second["layers"], strict=True)
        if old["diff_id"] != new["diff_id"]
    ]
    assert changed == ["code:/analysis"]
    status, out, _ = world.afenv("diff", first["path"], second["path"])
    assert status == 0, out  # the second build replaced the first


def test_diff_of_two_builds(world: Any) -> None:
    world.afenv_json("build", "-o", str(world.folder / "one"))
    world.write("src/new.py", "import alpha\n")
    world.afenv_json("build", "-o", str(world.folder / "two"))
    status, out, _ = world.afenv("diff", str(world.folder / "one"), str(world.folder / "two"))
    assert status == 1
    assert "analysis/new.py" in out


def test_source_date_epoch_is_the_time_of_the_image(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (built,) = world.afenv_json("build")
    assert world.afenv_json("inspect", built["path"])["created"] == "2023-11-14T22:13:20Z"


def test_two_environments(world: Any) -> None:
    manifest = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", manifest + "  bare:\n    base: {debian: bookworm, packages: []}\n")
    built = world.afenv_json("build", "--check")
    assert [one["environment"] for one in built] == ["bare", "default"]
    assert len({one["path"] for one in built}) == 2
    status, _, err = world.afenv("build", "-o", str(world.folder / "out"))
    assert (status, "E030" in err) == (2, True)
    status, _, err = world.afenv("build", "-e", "other")
    assert (status, "E031" in err, "bare, default" in err) == (2, True, True)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("[alpha, beta]", "[alpha, no-such-package]", "E101", "no-such-package"),
        ("[alpha, beta]", "['alpha>1', 'alpha<1']", "E102", "alpha"),
        ("[python3]", "[python3, pyhton3-numpy]", "E101", "pyhton3-numpy"),
        ("[python3]", "[python3, rival-one, rival-two]", "E102", "rival-two"),
        ("packages: [python3]", "packages: [libc6]", "E106", "python3"),
    ],
)
def test_what_cannot_be_resolved_is_explained(world: Any, old: str, new: str, code: str, words: str) -> None:
    world.write("afenv.yaml", (world.project / "afenv.yaml").read_text().replace(old, new))
    status, _, err = world.afenv("lock")
    assert status == 2, err
    assert code in err
    assert words in err
    assert not (world.project / "afenv.lock").exists()


def test_a_file_that_vanished(world: Any) -> None:
    world.afenv_json("lock")
    del world.contents["/files/beta-1.0-py3-none-any.whl"]
    status, _, err = world.afenv("build")
    assert (status, "E103" in err, "beta-1.0-py3-none-any.whl" in err) == (4, True, True)
    assert not (world.project / ".afenv" / "default.oci").exists()


def test_wrong_bytes_are_not_kept(world: Any) -> None:
    world.afenv_json("lock")
    kind, data = world.contents["/files/beta-1.0-py3-none-any.whl"]
    world.contents["/files/beta-1.0-py3-none-any.whl"] = (kind, data[:-1] + bytes([data[-1] ^ 1]))
    status, _, err = world.afenv("build")
    assert (status, "E301" in err) == (5, True)
    lock = {one["name"]: one["sha256"] for one in world.lock()["environments"]["default"]["wheels"]}
    assert lock["beta"] not in blobs(world)
    assert not (world.project / ".afenv" / "default.oci").exists()
    world.contents["/files/beta-1.0-py3-none-any.whl"] = (kind, data)
    assert world.afenv("build")[0] == 0


def test_without_network(world: Any) -> None:
    status, _, err = world.afenv("lock", "--offline")
    assert status == 4, err
    world.afenv_json("lock")
    status, _, err = world.afenv("build", "--offline")
    assert (status, "E203" in err) == (4, True)
    world.afenv_json("build")
    shutil.rmtree(world.project / ".afenv")
    world.contents.clear()
    assert world.afenv("build", "--offline")[0] == 0


def test_servers_that_are_gone(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFENV_MIRRORS", "https://deb.debian.org/=http://127.0.0.1:9/")
    status, _, err = world.afenv("lock")
    assert status == 4, err
    assert "E201" in err
    assert "Traceback" not in err


def test_a_damaged_blob_is_written_again(world: Any) -> None:
    (first,) = world.afenv_json("build")
    layer = max(first["layers"], key=lambda one: one["size"])
    name = layer["digest"].removeprefix("sha256:")
    path = world.cache / "blobs" / "sha256" / name[:2] / name
    path.chmod(0o644)
    path.write_bytes(b"\0" * layer["size"])
    (second,) = world.afenv_json("build", "--check")
    assert second["image_id"] == first["image_id"]


@pytest.mark.parametrize("kind", ["image", "layer"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda _: 5,
        lambda _: [],
        lambda _: {},
        lambda value: value | {"digest": "text"},
        lambda value: value | {"diff_id": 5},
        lambda value: value | {"size": "5"},
        lambda value: value | {"variables": None},
        lambda value: value | {"entrypoint": [1]},
    ],
)
def test_a_damaged_key_counts_as_none(world: Any, kind: str, damage: Callable[[Any], Any]) -> None:
    (first,) = world.afenv_json("build")
    for path in (world.cache / "keys" / "image").rglob("*.json"):
        layers = json.loads(path.read_bytes())
        path.unlink()
        if kind == "image":
            path.write_text(json.dumps([damage(layers[0]), *layers[1:]]))
    for path in (world.cache / "keys" / "layer").rglob("*.json") if kind == "layer" else ():
        value = json.loads(path.read_bytes())
        path.unlink()
        path.write_text(json.dumps(damage(value)))
    (second,) = world.afenv_json("build")
    assert second["image_id"] == first["image_id"]


@pytest.mark.parametrize("text", ["[]", "{}", "5", '"text"'])
def test_a_key_without_layers_counts_as_none(world: Any, text: str) -> None:
    (first,) = world.afenv_json("build")
    (path,) = (world.cache / "keys" / "image").rglob("*.json")
    path.unlink()
    path.write_text(text)
    (second,) = world.afenv_json("build")
    assert second["image_id"] == first["image_id"]


def test_an_interrupted_build_can_go_on(world: Any) -> None:
    world.afenv_json("lock")
    world.asked.clear()
    world.stalled.add("/files/beta-1.0-py3-none-any.whl")
    process = world.start("build", "--locked")
    deadline = time.monotonic() + 30
    while "/files/beta-1.0-py3-none-any.whl" not in world.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "E901" in err
    assert "Traceback" not in err
    assert not (world.project / ".afenv" / "default.oci").exists()
    world.stalled.clear()
    world.closing.set()
    assert world.afenv("build", "--locked", "--check")[0] == 0


def test_a_killed_build_leaves_nothing_half_written(world: Any) -> None:
    world.afenv_json("lock")
    world.asked.clear()
    process = world.start("build", "--locked")
    deadline = time.monotonic() + 30
    while not any(path.startswith("/files/") for path in world.asked) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=30)
    (built,) = world.afenv_json("build", "--locked", "--check")
    assert Path(built["path"], "index.json").is_file()
    assert world.afenv("cache", "verify")[0] == 0


@pytest.mark.parametrize("text", ["{", "afenv-lock: 1", '{"afenv-lock": 99}', '{"afenv-lock": 1}'])
def test_a_damaged_lock(world: Any, text: str) -> None:
    world.write("afenv.lock", text)
    status, _, err = world.afenv("build")
    assert status == 2
    assert "afenv.lock" in err
    assert "Traceback" not in err
    assert (world.project / "afenv.lock").read_text() == text


def test_paths_are_relative_to_the_folder_of_dash_c(world: Any) -> None:
    (built,) = world.afenv_json("build", "-o", "image")
    assert Path(built["path"]) == world.project / "image"
    assert world.afenv_json("inspect", "image")["image_id"] == built["image_id"]
    assert world.afenv("diff", "image", "image")[0] == 0
    status, _, err = world.afenv("push", "image", "registry.example.org/a:1", "--offline")
    assert (status, "E030" in err) == (2, True)
