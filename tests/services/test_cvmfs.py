"""CVMFS in images, for real: Debian's packages, the sandbox, and repositories that the server's tools made.

There is no client here: ``/cvmfs`` inside is written from a folder that is served as a stratum is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afenv.cvmfs.closure import closure
from afenv.cvmfs.configuration import Configuration
from afenv.cvmfs.hashes import parse_hash
from afenv.cvmfs.materialise import materialise
from afenv.cvmfs.repository import Repository

pytestmark = [pytest.mark.network, pytest.mark.services]

AFENV = Path(sys.executable).with_name("afenv")
NAME = "sft.afenv.test"
MOUNT = f"/cvmfs/{NAME}"
ROOT_HASH = "d69e4785f9886e58e6a6eab3233e6a24bfa44336"
VIEW = f"{MOUNT}/lcg/views/LCG_999/x86_64-el9-gcc13-opt"
ZMASS = f"{MOUNT}/lcg/releases/zmass/1.0-9f3e1/x86_64-el9-gcc13-opt"
MANIFEST = """\
afenv: 1
name: traced
version: "1.0"
environments:
  default:
    base: {debian: bookworm, packages: [dash, coreutils, python3]}
    bytecode: false
    cvmfs:
"""


class Project:
    """A folder with a manifest, and the command line on it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.before: tuple[str, ...] = ()  # words before the command
        self.tree = Path()

    def write(self, *entries: str) -> None:
        (self.folder / "afenv.yaml").write_text(MANIFEST + "".join(f"      - {entry}\n" for entry in entries))

    def afenv(self, *arguments: str, status: int = 0, loud: bool = False, **changes: str) -> Any:
        quiet = () if loud else ("-q",)
        done = subprocess.run(
            [*self.before, AFENV, *quiet, "-C", self.folder, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, **self.environment, **changes},
        )
        assert done.returncode == status, done.stderr
        return done

    def run(self, *command: str) -> str:
        text: str = self.afenv("run", "--runtime", "userns", "--", *command).stdout
        return text

    def entry(self, number: int = 0) -> Any:
        lock = json.loads((self.folder / "afenv.lock").read_bytes())
        return lock["environments"]["default"]["cvmfs"][number]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cvmfs-cache")


@pytest.fixture
def project(tmp_path: Path, cache: Path, real_cvmfs: Path, cvmfs: Any) -> Project:
    environment = {
        "AFENV_CACHE_DIR": str(cache),
        "AFENV_CVMFS_STRATA": str(real_cvmfs),
        "AFENV_CVMFS_KEYS": str(cvmfs.DATA),
    }
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, environment)


def test_a_view_that_is_embedded_runs_where_there_is_no_cvmfs(project: Project) -> None:
    assert not Path(MOUNT).exists()
    project.write(f"{{view: {VIEW}, delivery: embed}}")
    assert project.run("zmass").strip() == "91.1876"  # by PATH, which the setup script set
    assert project.run("hello").strip() == "hello from the view"
    setup = project.entry()["setup"]["variables"]
    assert setup["LCG_VERSION"] == "999"
    assert setup["ZMASS_HOME"] == ZMASS  # by readlink
    assert setup["CC"].endswith("/x86_64-el9/bin/gcc")  # of the script that is sourced
    assert setup["PATH"].startswith(f"{VIEW}/bin:/usr/")
    assert "AFENV_SETUP" not in setup
    assert "HOME" not in setup
    lock = (project.folder / "afenv.lock").read_bytes()
    again = json.loads(project.afenv("build", "--locked", "--json").stdout)
    assert (project.folder / "afenv.lock").read_bytes() == lock
    inspected = project.afenv("inspect", again[0]["path"], "--json").stdout
    assert f"ZMASS_HOME={ZMASS}" in inspected


@pytest.mark.parametrize("tracer", ["atime", "strace"])
def test_what_a_command_reads_is_all_that_it_needs(project: Project, tracer: str) -> None:
    project.write(f"{{path: {VIEW}, delivery: trace, run: {VIEW}/bin/zmass}}")
    project.afenv("build", AFENV_CVMFS_TRACER=tracer)
    paths = project.entry()["traced"]["paths"]
    assert f"{VIEW}/bin/zmass" in paths  # the link
    assert {f"{ZMASS}/bin/zmass", f"{ZMASS}/lib/zmass.py", f"{ZMASS}/share/pdg.json"} <= set(paths)
    assert not any("/hello" in path or "setup.sh" in path for path in paths)
    assert project.run(f"{VIEW}/bin/zmass").strip() == "91.1876"
    assert project.run("/bin/sh", "-c", f"ls {MOUNT}/lcg/releases").split() == ["zmass"]


def test_a_view_that_is_traced_is_set_up_first(project: Project) -> None:
    project.write(f"{{view: {VIEW}, delivery: trace, run: zmass}}")
    assert project.run("zmass").strip() == "91.1876"
    assert project.entry()["setup"]["variables"]["ZMASS_HOME"] == ZMASS
    assert not any("setup.sh" in path or "/hello" in path for path in project.entry()["traced"]["paths"])


def test_a_second_command_is_added(project: Project) -> None:
    project.write(f"{{path: {VIEW}, delivery: trace, run: {VIEW}/bin/zmass}}")
    project.afenv("build")
    (found,) = json.loads(
        project.afenv("cvmfs", "trace", "--json", "--", "cat", f"{VIEW}/share/hello.txt").stdout
    )
    hello = f"{MOUNT}/lcg/releases/hello/2.12-ab12c/x86_64-el9-gcc13-opt/share/hello.txt"
    assert found["added"] == [hello, f"{VIEW}/share/hello.txt"]
    assert f"{ZMASS}/share/pdg.json" in found["paths"]
    assert project.run("cat", f"{VIEW}/share/hello.txt").strip() == "hello"
    assert project.run(f"{VIEW}/bin/zmass").strip() == "91.1876"


def test_what_was_looked_at_and_not_read_is_found_by_the_second_run(project: Project) -> None:
    """Access times do not tell of ``test -e``; without the file the command takes another way."""
    command = f"test -e {VIEW}/share/pdg.json && test -e {VIEW}/share/hello.txt"
    project.write(f"{{path: {VIEW}, delivery: trace, run: '{command}'}}")
    done = project.afenv("build")
    assert done.returncode == 0
    paths = project.entry()["traced"]["paths"]
    assert {f"{VIEW}/share/pdg.json", f"{VIEW}/share/hello.txt"} <= set(paths)
    assert (
        f"{VIEW}/share/pdg.json" in Path(project.folder / ".afenv/default-cvmfs-trace.log").read_text()
        or paths
    )


def test_a_command_that_fails(project: Project) -> None:
    project.write(f"{{path: {VIEW}, delivery: trace, run: cat {VIEW}/nothing}}")
    done = project.afenv("build", status=1)
    assert "error E147: " in done.stderr
    assert "failed with all of the path, with exit status 1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2


def test_a_mounted_view_is_set_up_without_its_files(project: Project) -> None:
    project.write(f"{{view: {VIEW}}}")
    (built,) = json.loads(project.afenv("build", "--json").stdout)
    assert not any("cvmfs" in layer["source"] for layer in built["layers"])
    assert project.entry()["setup"]["variables"]["ZMASS_HOME"] == ZMASS
    done = project.afenv("run", "--", "zmass", status=3)
    assert "E506" in done.stderr


@pytest.fixture
def mounted(
    project: Project, real_cvmfs: Path, cvmfs: Any, tmp_path: Path, store: Any, settings: Any
) -> Iterator[Project]:
    """The project on a host that has a ``/cvmfs``: a folder, bound there for its commands alone.

    It has the extended attributes of a client's mount.
    """
    if os.geteuid() != 0:
        pytest.skip("a mount namespace with /cvmfs needs root")
    configuration = Configuration(strata=((real_cvmfs / NAME).as_uri(),))
    snapshot = Repository(NAME, configuration, store, settings).at(parse_hash(ROOT_HASH))
    tree = materialise(snapshot, closure(snapshot, "/lcg").entries, tmp_path / "cvmfs")
    os.setxattr(tree, "user.root_hash", ROOT_HASH.encode())
    os.setxattr(tree, "user.revision", b"3")
    there = Path("/cvmfs").exists()
    if not there:
        Path("/cvmfs").mkdir()
    bind = f'mount --bind {tree.parent} /cvmfs && exec "$@"'
    project.before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", bind, "sh")
    project.tree = tree
    yield project
    if not there:
        Path("/cvmfs").rmdir()


def test_a_mount_at_the_locked_revision(mounted: Project) -> None:
    mounted.write(f"{{view: {VIEW}}}")
    done = mounted.afenv("run", "--strict", "--runtime", "userns", "--", "zmass")
    assert done.stdout.strip() == "91.1876"
    assert mounted.entry()["root-hash"] == ROOT_HASH
    os.setxattr(mounted.tree, "user.revision", b"4")
    os.setxattr(mounted.tree, "user.root_hash", b"1" * 40)
    done = mounted.afenv("run", "--runtime", "userns", "--", "zmass", loud=True)
    assert done.stdout.strip() == "91.1876"
    assert f"warning: {MOUNT} is mounted at revision 4, and revision 3 is locked" in done.stderr
    done = mounted.afenv("run", "--strict", "--runtime", "userns", "--", "zmass", status=1)
    assert "error E148: " in done.stderr


def test_a_trace_on_a_mount(mounted: Project) -> None:
    """Access times tell nothing of a mount; strace does."""
    mounted.write(f"{{path: {VIEW}, delivery: trace, run: {VIEW}/bin/zmass}}")
    mounted.afenv("build")
    paths = mounted.entry()["traced"]["paths"]
    assert {f"{VIEW}/bin/zmass", f"{ZMASS}/lib/zmass.py", f"{ZMASS}/share/pdg.json"} <= set(paths)
    assert not any("/hello" in path for path in paths)
