"""The test channel's Python, where py-rattler puts it: it runs anywhere, and so do the packages."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.network, pytest.mark.services]

IMPORTS = """
import bz2, ctypes, curses, decimal, hashlib, json, lzma, readline, sqlite3, ssl
import sys, sysconfig, uuid, zoneinfo
import awkward, boost_histogram, hist, iminuit, numpy, pandas, scipy.optimize, toygpu, uproot, vector
print(json.dumps({
    "prefix": sys.prefix,
    "purelib": sysconfig.get_path("purelib"),
    "include": sysconfig.get_config_var("INCLUDEPY"),
    "path": sys.path,
    "libraries": sorted({l.split(None, 5)[-1].strip() for l in open("/proc/self/maps") if ".so" in l}),
    "variant": toygpu.VARIANT,
    "sum": int(awkward.sum(awkward.Array([[1, 2], [3]]))),
    "time": str(zoneinfo.ZoneInfo("Europe/Zurich")),
}))
"""
PACKAGES = ("python=3.11", "uproot", "hist", "vector", "scipy", "pandas", "iminuit", "toygpu", "toynoarch")
# the C library of the system; all else is to come from the prefix
OF_THE_SYSTEM = ("ld-linux", "libc.", "libm.", "libdl.", "libpthread.", "librt.", "libutil.")


@pytest.fixture(scope="module")
def prefix(core_channel: Path, rattler: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("somewhere") / "else, with a comma"
    rattler(core_channel, folder, *PACKAGES, "--cuda", "12.4")
    return folder


def output(*command: str | Path) -> str:
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_finds_its_own_parts(prefix: Path) -> None:
    found = json.loads(output(prefix / "bin/python", "-W", "error", "-c", IMPORTS))
    assert found["prefix"] == str(prefix)
    assert found["purelib"] == f"{prefix}/lib/python3.11/site-packages"
    assert found["include"] == f"{prefix}/include/python3.11"
    assert all(not path or path.startswith(str(prefix)) for path in found["path"])
    foreign = [path for path in found["libraries"] if not path.startswith(str(prefix))]
    assert not [path for path in foreign if not path.rpartition("/")[2].startswith(OF_THE_SYSTEM)]
    assert (found["variant"], found["sum"], found["time"]) == ("cuda12", 6, "Europe/Zurich")


def test_commands_of_both_kinds_run(prefix: Path) -> None:
    assert output(prefix / "bin/toyhello", "word") == "hello from toynoarch 2.0 word\n"  # noarch
    assert output(prefix / "bin/toyscript") == "toyscript\n"
    assert output(prefix / "bin/numpy-config", "--version").count(".") >= 2  # compiled


def test_as_of_and_variants(core_channel: Path, tmp_path: Path, rattler: Any) -> None:
    def solved(*specs: str) -> dict[str, str]:
        found = rattler(core_channel, tmp_path / "env", *specs, "--solve-only")
        return {package["name"]: f"{package['version']} {package['build']}" for package in found}

    assert solved("toynoarch")["toynoarch"].startswith("2.0")
    assert solved("toynoarch", "--as-of", "2025-03-01T00:00:00+00:00")["toynoarch"].startswith("1.1")
    assert solved("toygpu")["toygpu"].endswith("cpu_py311_0")
    assert solved("toygpu", "--cuda", "12.0")["toygpu"].endswith("cuda12_py311_200")
    assert solved("toygpu", "--cuda", "11.8")["toygpu"].endswith("cpu_py311_0")
    assert "cuda-version" in solved("cuda-cudart", "--cuda", "12.4")
