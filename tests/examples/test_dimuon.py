"""The example analysis, run natively with the packages that its manifest names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from afenv.specs import specs_folder

EXAMPLE = specs_folder() / "manifest" / "v1" / "examples" / "dimuon"
UV = (sys.executable, "-m", "uv")

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dimuon") / "venv"
    dependencies = YAML(typ="safe").load(EXAMPLE / "afenv.yaml")["environments"]["default"]["pypi"][
        "dependencies"
    ]
    subprocess.run([*UV, "venv", "-q", "-p", sys.executable, folder], check=True)
    interpreter = folder / "bin" / "python"
    subprocess.run(
        [*UV, "pip", "install", "-q", "-p", interpreter, "--only-binary", ":all:", *dependencies], check=True
    )
    return interpreter


def analyse(python: Path, output: Path, *options: str) -> dict[str, Any]:
    subprocess.run([python, "-W", "error", EXAMPLE / "dimuon.py", "--output", output, *options], check=True)
    result: dict[str, Any] = json.loads((output / "fit.json").read_text())
    return result


def test_fitted_mass_and_width_are_the_generated_ones(python: Path, tmp_path: Path) -> None:
    result = analyse(python, tmp_path)
    for name, generated in (("mass", 91.1876), ("width", 2.4952)):
        fitted = result["parameters"][name]
        assert abs(fitted["value"] - generated) < 2 * fitted["error"]
    assert result["parameters"]["mass"]["error"] < 0.05
    assert 0.5 < result["chi2"] / result["degrees_of_freedom"] < 1.5
    assert (tmp_path / "mass.png").read_bytes().startswith(b"\x89PNG")


def test_results_depend_on_the_seed_alone(python: Path, tmp_path: Path) -> None:
    first = analyse(python, tmp_path / "first", "--events", "5000")
    again = analyse(python, tmp_path / "again", "--events", "5000")
    other = analyse(python, tmp_path / "other", "--events", "5000", "--seed", "7")
    assert first == again != other
    assert (tmp_path / "first/mass.png").read_bytes() == (tmp_path / "again/mass.png").read_bytes()
