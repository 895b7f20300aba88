"""``afenv facility`` and ``afenv check`` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afenv.cli import main
from afenv.documents.facility_file import parse_facility, read_facility
from afenv.specs import specs_folder

EXAMPLES = specs_folder() / "facility" / "v1" / "examples"
LOCK = specs_folder() / "lock" / "v1" / "examples" / "dimuon" / "afenv.lock"
NODE = {
    "metadata": {
        "labels": {
            "kubernetes.io/arch": "amd64",
            "nvidia.com/gpu.product": "NVIDIA-L4",
            "nvidia.com/gpu.count": "1",
            "nvidia.com/gpu.compute.major": "8",
            "nvidia.com/gpu.compute.minor": "9",
            "nvidia.com/cuda.driver-version.full": "550.54.15",
        }
    }
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    for name in ("DOCKER", "PODMAN", "APPTAINER"):  # whatever this machine has is not asked
        monkeypatch.setenv(f"AFENV_{name}", str(tmp_path / "no-such-program"))


def test_probe_writes_a_profile_that_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--offline", "facility", "probe", "--name", "here", "-o", "here.yaml"]) == 0
    profile = read_facility(Path("here.yaml"))
    assert profile.name == "here" and profile.probed and profile.architecture
    assert profile.registries is None and profile.network is None  # not asked, so not known
    assert main(["facility", "check", "here.yaml"]) == 0
    assert "not known: network" in capsys.readouterr().out.replace("user-namespaces, ", "")
    assert main(["--offline", "facility", "probe", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["afenv-facility"] == 1


def test_labels_of_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("nodes.json").write_text(json.dumps({"items": [NODE, NODE]}))
    assert main(["facility", "import-labels", "nodes.json"]) == 0
    profile = parse_facility(capsys.readouterr().out.encode(), "printed")
    assert profile.name == "nodes" and profile.gpus is not None
    assert [(gpu.model, gpu.compute_capability) for gpu in profile.gpus] == [("NVIDIA L4", "8.9")]


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("[1, 2]", 2, "E011"),
        ("{", 2, "E002"),
        ("[]", 2, "E011"),
        ('"text"', 2, "E011"),
        ("name: x\nhosts: [a]\n", 2, "E011"),
    ],
)
def test_labels_that_are_none(text: str, status: int, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("nodes").write_text(text)
    assert main(["facility", "import-labels", "nodes"]) == status
    assert code in capsys.readouterr().err


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["facility", "show"]) == 2
    assert main(["facility", "probe", "file"]) == 2
    assert main(["facility", "show", "nothing.yaml"]) == 2
    assert "afenv facility probe" in capsys.readouterr().err


def test_verdict_on_a_lock(capsys: pytest.CaptureFixture[str]) -> None:
    batch = EXAMPLES / "batch-apptainer-cvmfs" / "facility.yaml"
    assert main(["check", str(LOCK), "--facility", str(batch)]) == 0
    assert capsys.readouterr().out.startswith("dimuon runs at batch with apptainer")
    hub = EXAMPLES / "kubernetes-jupyterhub" / "facility.yaml"
    assert main(["check", str(LOCK), "--facility", str(hub), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "cannot" and found["reasons"][0]["rule"] == "jupyterhub"


def test_verdict_that_is_not_certain(capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.yaml").write_text("afenv-facility: 1\nname: f\n")
    arguments = ["check", str(LOCK.parent), "--facility", "f.yaml"]
    assert main(arguments) == 0
    assert "as far as is known" in capsys.readouterr().out
    assert main([*arguments, "--strict"]) == 1


def test_profile_that_contradicts_itself(capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.yaml").write_text(
        'afenv-facility: 1\nname: f\ngpus: [{compute-capability: "7.0", driver: "590.48.01"}]\n'
    )
    assert main(["check", str(LOCK), "--facility", "f.yaml"]) == 2
    said = capsys.readouterr().err
    assert "f.yaml:3:" in said and "E014" in said and "R580" in said


def test_nothing_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.yaml").write_text("afenv-facility: 1\nname: f\n")
    assert main(["check", "nothing", "--facility", "f.yaml"]) == 2
    assert main(["check", str(LOCK), "-e", "other", "--facility", "f.yaml"]) == 2
    assert "E031" in capsys.readouterr().err
