"""GPU needs and verdicts in the whole way of a user: manifest, lock, image, facility."""

from __future__ import annotations

import json
from typing import Any

import pytest

HEAD = """\
afenv: 1
name: small
environments:
  default:
    base: {debian: bookworm, packages: [python3]}
    bytecode: false
    pypi: {dependencies: [alpha]}
"""
GPU = '    gpu: {cuda: ">=12.2", architectures: ["7.0", "8.0"]}\n'
FACILITY = """\
afenv-facility: 1
name: batch
architecture: amd64
cpu: {level: x86-64-v3}
kernel: {release: "5.14.0", vsyscall: none}
glibc: "2.34"
user-namespaces: true
runtimes: [{name: apptainer, version: "1.3.4", rootless: true, gpu: true}]
cvmfs: {repositories: []}
gpus: [{compute-capability: "8.0", driver: DRIVER}]
network: full
storage: [{path: /images, free: 100000000000}]
"""


def variables(world: Any, built: Any) -> dict[str, str]:
    shown = world.afenv_json("inspect", str(built["path"]))
    return dict(text.split("=", 1) for text in shown["environment"])


def test_an_image_of_an_environment_with_a_gpu(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.write("afenv.yaml", HEAD)
    (plain,) = world.afenv_json("build")
    assert not [name for name in variables(world, plain) if name.startswith("NVIDIA")]
    world.write("afenv.yaml", HEAD + GPU)
    (built,) = world.afenv_json("build")
    gpu = world.lock()["environments"]["default"]["gpu"]
    assert gpu == {
        "cuda": ">=12.2",
        "architectures": ["7.0", "8.0"],
        "least-cuda": "12.0",
        "least-driver": "525",
        "full-driver": "535.54.03",
        "last-driver": "580",
    }
    found = variables(world, built)
    assert found["NVIDIA_REQUIRE_CUDA"] == "cuda>=12.0"
    assert found["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert found["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert [layer["digest"] for layer in plain["layers"]] == [layer["digest"] for layer in built["layers"]]
    assert plain["image_id"] != built["image_id"]


def test_a_gpu_that_becomes_optional_is_locked_again(world: Any) -> None:
    world.write("afenv.yaml", HEAD + GPU)
    world.afenv_json("lock")
    wheels = world.lock()["environments"]["default"]["wheels"]
    world.write("afenv.yaml", HEAD + GPU.replace("]}", "], optional: true}"))
    status, _, err = world.afenv("lock", "--check")
    assert status == 1 and "E021" in err
    world.afenv_json("lock")
    environment = world.lock()["environments"]["default"]
    assert environment["gpu"]["optional"] is True and environment["wheels"] == wheels
    world.write("afenv.yaml", HEAD)
    world.afenv_json("lock")
    assert "gpu" not in world.lock()["environments"]["default"]


def test_verdicts_on_project_and_image(world: Any) -> None:
    world.write("afenv.yaml", HEAD + GPU)
    (built,) = world.afenv_json("build")
    world.write("good.yaml", FACILITY.replace("DRIVER", '"550.54.15"'))
    world.write("old.yaml", FACILITY.replace("DRIVER", '"470.82.01"'))
    layout = str(built["path"])
    (whole,) = world.afenv_json("check", "--facility", "good.yaml")
    (image,) = world.afenv_json("check", layout, "--facility", "good.yaml")
    assert whole["outcome"] == image["outcome"] == "runs"
    assert (whole["image"], image["image"], image["runtime"]) == ("small", "small", "apptainer")
    for target in (".", "afenv.lock", layout):
        status, out, _ = world.afenv("check", target, "--facility", "old.yaml", "--json")
        (found,) = json.loads(out)
        assert status == 1 and found["outcome"] == "cannot"
        assert found["reasons"][0]["rule"] == "gpu.driver"


def test_an_unknown_gpu_is_said_to_be_and_not_guessed(world: Any) -> None:
    world.write("afenv.yaml", HEAD + GPU)
    world.afenv_json("lock")
    world.write("f.yaml", FACILITY.replace('"8.0", driver: DRIVER', '"99.0", driver: "700.1"'))
    (found,) = world.afenv_json("check", "--facility", "f.yaml")
    assert found["outcome"] == "runs" and not found["certain"]
    said = [reason["message"] for reason in found["reasons"] if reason["outcome"] == "unknown"]
    assert any("do not have this compute capability" in message for message in said)
