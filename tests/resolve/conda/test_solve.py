"""Solving with the real py-rattler, in its own process, against channels made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.lock import Lock, LockedEnvironment
from afenv.documents.lockfile import dump_lock, parse_lock
from afenv.documents.manifest import CondaSection
from afenv.resolve.conda import process


def test_records_are_those_of_the_channel(physics: Any) -> None:
    found = physics.resolve("hist", "python=3.12", "fonts")
    by_name = {package.name: package for package in found.records}
    assert list(by_name) == ["fonts", "hist", "libz", "numpy", "python"]
    hist = by_name["hist"]
    path = physics.folder / "channel" / "noarch" / "hist-2.7-0.conda"
    assert (hist.version, hist.build, hist.build_number, hist.subdir) == ("2.7", "0", 0, "noarch")
    assert hist.file.urls == ("./channel/noarch/hist-2.7-0.conda",)
    assert hist.file.size == path.stat().st_size
    assert hist.channel == "./channel"
    assert hist.noarch == "python"
    assert by_name["fonts"].noarch == "generic"
    assert by_name["numpy"].noarch is None
    assert hist.depends == ("python >=3.8", "numpy")
    assert hist.requested
    assert not by_name["numpy"].requested
    assert hist.record == {"license": "BSD-3-Clause", "timestamp": 1_700_000_000_000}
    assert found.virtual_packages == {
        "__archspec": "x86_64",
        "__glibc": "2.36",
        "__linux": "4.18",
        "__unix": "0",
    }


def test_the_lock_keeps_all_of_it(physics: Any) -> None:
    found = physics.resolve("hist")
    environment = LockedEnvironment(
        request="sha256:" + "0" * 64,
        platform="linux/amd64",
        as_of="2025-01-01T00:00:00Z",
        conda=found.records,
        conda_prefix="/opt/conda",
        virtual_packages=found.virtual_packages,
    )
    lock = Lock(name="a", version="1", environments={"default": environment})
    assert parse_lock(dump_lock(lock), "x") == lock


def test_order_of_requirements_does_not_matter(physics: Any) -> None:
    assert (
        physics.resolve("hist", "numpy", "fonts").records == physics.resolve("fonts", "numpy", "hist").records
    )


def test_the_host_has_no_part(physics: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    physics.channel.add("gpulib", "1.0", ["__cuda >=12"], build="cuda_0", number=1)
    physics.channel.add("gpulib", "1.0", build="cpu_0")
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.4")
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "2.99")
    monkeypatch.setenv("CONDA_PREFIX", "/nowhere")
    assert physics.chosen("gpulib") == {"gpulib": "1.0 cpu_0"}
    assert physics.chosen("gpulib", cuda="12.2") == {"gpulib": "1.0 cuda_0"}
    assert physics.chosen("gpulib", cuda="11.8") == {"gpulib": "1.0 cpu_0"}


def test_virtual_packages_may_be_stated(physics: Any) -> None:
    physics.channel.add("fast", "1", ["__archspec * x86_64_v3"], build="v3", number=1)
    physics.channel.add("fast", "1", build="any")
    assert physics.chosen("fast") == {"fast": "1 any"}
    assert physics.chosen("fast", virtual={"__archspec": "x86_64_v3"}) == {"fast": "1 v3"}


def test_as_of(physics: Any) -> None:
    physics.channel.add("hist", "3.0", ["python"], noarch="python", timestamp=1_750_000_000_000)
    physics.channel.add("ancient", "1", timestamp=None)
    assert physics.chosen("hist", "ancient")["hist"] == "2.7 0"
    later = datetime(2026, 1, 1, tzinfo=UTC)
    assert physics.chosen("hist", as_of=later)["hist"] == "3.0 0"
    assert "'hist=3'; there are: 2.7" in physics.fails("E101", "hist=3")


def test_priority_of_channels(physics: Any, make_channel: Callable[[str], Any]) -> None:
    other = make_channel("other")
    other.add("libz", "9.9")
    other.add("extra", "1", ["libz"])
    both = ("./channel", "./other")
    assert physics.chosen("extra", channels=both) == {"extra": "1 0", "libz": "1.3 0"}
    assert physics.chosen("extra", channels=("./other", "./channel"))["libz"] == "9.9 0"
    assert physics.chosen("./other::libz", channels=both) == {"libz": "9.9 0"}
    assert "Add it to the channels" in physics.fails("E014", "conda-forge::libz", channels=both)
    found = {package.name: package.channel for package in physics.resolve("extra", channels=both).records}
    assert found == {"extra": "./other", "libz": "./channel"}


def test_priority_of_channels_disabled(physics: Any, make_channel: Callable[[str], Any]) -> None:
    other = make_channel("other")
    other.add("libz", "9.9")
    section = CondaSection(
        channels=("./channel", "./other"), dependencies=("libz",), channel_priority="disabled"
    )
    (found,) = physics.resolve(section=section).records
    assert (found.version, found.channel) == ("9.9", "./other")
    (found,) = physics.resolve(section=replace(section, channel_priority="strict")).records
    assert (found.version, found.channel) == ("1.3", "./channel")
    assert physics.resolve(section=replace(section, dependencies=("libz<9",))).records == (found,)


def test_constrains_and_track_features(project: Any) -> None:
    channel = project.channel
    channel.add("a", "1", constrains=["b <2"])
    channel.add("b", "1")
    channel.add("b", "2")
    assert project.chosen("a", "b") == {"a": "1 0", "b": "1 0"}
    channel.add("blas", "1", build="mkl", number=5, track_features="mkl")
    channel.add("blas", "1", build="open")
    assert project.chosen("blas") == {"blas": "1 open"}


def test_conda_is_preferred_to_the_old_format(project: Any) -> None:
    project.channel.add("a", "1", form=".tar.bz2")
    project.channel.add("a", "1", form=".conda")
    (package,) = project.resolve("a").records
    assert package.file.file_name == "a-1-0.conda"


def test_updates_are_minimal(physics: Any) -> None:
    before = physics.resolve("hist", "fonts").records
    physics.channel.add("libz", "1.4")
    physics.channel.add("fonts", "2", noarch="generic")
    assert physics.resolve("hist", "fonts", locked=before).records == before
    moved = physics.chosen("hist", "fonts", locked=before, update=frozenset({"fonts"}))
    assert moved == physics.chosen("hist", "fonts", locked=before) | {"fonts": "2 0"}
    assert physics.chosen("hist", "libz >=1.4", "fonts", locked=before)["fonts"] == "1 0"


def test_a_package_that_the_channel_withdrew_is_not_kept(physics: Any) -> None:
    physics.channel.add("libz", "1.4")
    before = physics.resolve("libz").records
    physics.channel.remove("libz-1.4-0.conda")
    assert physics.chosen("libz", locked=before) == {"libz": "1.3 0"}


def test_digests_that_the_index_lacks(project: Any) -> None:
    path = project.channel.add("old", "1", hidden=("sha256", "size"), form=".tar.bz2")
    (package,) = project.resolve("old").records
    assert package.file.size == path.stat().st_size
    assert project.store.trusted(package.file.digest, package.file.size)
    path.unlink()
    assert project.resolve("old").records == (package,)  # remembered by the MD5


def test_served_channel_through_a_mirror(physics: Any, served: str) -> None:
    rules = (("https://conda.anaconda.org/conda-forge/", served + "/"),)
    settings = replace(physics.settings, mirrors=rules)
    found = physics.resolve("hist", channels=("conda-forge",), settings=settings).records
    hist = next(package for package in found if package.name == "hist")
    assert hist.channel == "conda-forge"
    assert hist.file.urls == ("https://conda.anaconda.org/conda-forge/noarch/hist-2.7-0.conda",)
    same = replace(settings, offline=True)
    assert physics.resolve("hist", channels=("conda-forge",), settings=same).records == found


def test_credentials_stay_out_of_the_lock(physics: Any, served: str) -> None:
    named = f"{served}/noarch".replace("://", "://me:secret@")
    (fonts,) = physics.resolve("fonts", channels=(named,)).records
    assert (fonts.channel, fonts.file.urls[0]) == (served, f"{served}/noarch/fonts-1-0.conda")


def test_channels_out_of_reach(physics: Any, served: str) -> None:
    assert "no conda channel" in physics.fails("E101", "hist", channels=(served + "/none",))
    offline = replace(physics.settings, offline=True)
    physics.fails("E203", "hist", channels=("https://example.org/channel",), settings=offline)
    physics.fails("E001", "hist", channels=("./nowhere",))
    physics.fails("E013", "hist", channels=("not a channel",))
    physics.fails("E013", "hist", channels=("http://127.0.0.1:port/x",))


def test_a_process_that_crashes_before_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crash.py").write_text("import os, sys; open('count', 'a').write('x'); os.abort()\n")
    (tmp_path / "late.py").write_text(
        "import os, sys; print('{\"records\": []}'); sys.stdout.flush(); os.abort()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="ended without an answer"):
        process.ask({}, module="crash")
    assert (tmp_path / "count").read_text() == "x" * process.ATTEMPTS
    assert process.ask({}, module="late") == {"records": []}


@pytest.mark.services
def test_fifty_solves_in_a_row(physics: Any) -> None:
    first = physics.resolve("hist").records
    question = {
        "channels": [(physics.folder / "channel").as_uri()],
        "subdir": "linux-64",
        "specs": ["hist"],
        "virtual": [["__glibc", "2.36", "0"]],
        "newest": None,
        "keep": [],
        "cache": str(physics.folder / "rattler"),
        "offline": False,
    }
    answers = {json.dumps(process.ask(question), sort_keys=True) for _ in range(50)}
    assert len(answers) == 1
    assert len(json.loads(answers.pop())["records"]) == len(first)
