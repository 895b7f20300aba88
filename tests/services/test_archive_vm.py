"""A virtual machine out of an archive, where there is QEMU and neither afenv nor a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import tool

pytestmark = [pytest.mark.services, pytest.mark.network]

AFENV = Path(sys.executable).with_name("afenv")
TIMEOUT = 400
MANIFEST = """\
afenv: 1
name: kept
version: "1"
code: [{path: src}]
environments:
  default:
    base: {debian: bookworm, packages: [coreutils, dash]}
    variables: {GREETING: "it's kept"}
"""
FIT = """\
echo "$GREETING on $(uname -r)"
read -r events <events.txt
echo "$((events * 2))" >result.txt
cat
exit 3
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short path, which every program may enter."""
    path = Path(tempfile.mkdtemp(prefix="afenv-kept-"))
    path.chmod(0o755)
    yield path
    subprocess.run(["chmod", "-R", "u+rwX", path], check=False)
    shutil.rmtree(path, ignore_errors=True)


def afenv(place: Path, *words: str | Path, cache: str = "cache") -> str:
    done = subprocess.run(
        [AFENV, "-q", *words],
        cwd=place,
        env={**os.environ, "AFENV_CACHE_DIR": str(place / cache)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_runs_with_qemu_and_the_restored_folder_alone(place: Path) -> None:
    """In namespaces without a network, where of this machine there is /usr alone."""
    tool("qemu-system-x86_64")
    bwrap = tool("bwrap")
    project = place / "project"
    (project / "src").mkdir(parents=True)
    (project / "src/fit.sh").write_text(FIT)
    (project / "afenv.yaml").write_text(MANIFEST)
    afenv(place, "-C", project, "lock")
    words = ("-C", project, "archive", "--vm", "--no-sif", "--without-afenv", "-o")
    for folder in ("one", "two"):
        (place / folder).mkdir()
        afenv(place, *words, place / folder / "kept.zip")
    bag = place / "one/kept.zip"
    assert bag.read_bytes() == (place / "two/kept.zip").read_bytes()
    assert "vm: default: the virtual machine names this image" in afenv(place, "verify", bag)

    # of the facility that made it nothing is left but the bag
    for gone in (project, place / "cache"):
        subprocess.run(["chmod", "-R", "u+rwX", gone], check=True)
        shutil.rmtree(gone)
    afenv(place, "--offline", "restore", bag, "--to", "vm", "-o", "kept.vm", cache="other")
    with zipfile.ZipFile(bag) as opened:
        readme = opened.read("kept/README.md").decode()
    assert "sh data/vm/default/run.sh COMMAND" in readme

    work = place / "work"
    work.mkdir()
    (work / "events.txt").write_text("21\n")
    alone = [bwrap, "--unshare-all", "--die-with-parent", "--clearenv", "--setenv", "PATH", "/usr/bin"]
    alone += ["--uid", "1234", "--gid", "1234"]
    alone += ["--ro-bind", "/usr", "/usr", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path(f"/{name}").is_symlink():
            alone += ["--symlink", f"usr/{name}", f"/{name}"]
    alone += ["--ro-bind", str(place / "kept.vm"), "/kept", "--bind", str(work), "/work", "--chdir", "/work"]
    alone += ["--setenv", "AFENV_VM_MEMORY", "768"]
    found = subprocess.run(
        [*alone, "sh", "-c", "command -v afenv || ls /"], capture_output=True, text=True, check=True
    )
    assert set(found.stdout.split()) <= {
        *("bin", "sbin", "lib", "lib64", "usr", "dev", "proc", "tmp", "kept", "work")
    }
    done = subprocess.run(
        [*alone, "sh", "/kept/run.sh", "sh", "/analysis/fit.sh"],
        input="the input",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    said, given = done.stdout.split("\n")
    assert said.startswith("it's kept on 6.") and said.endswith("-amd64")
    assert given == "the input"
    assert (work / "result.txt").read_text() == "42\n"
    assert (work / "result.txt").stat().st_uid == os.getuid()
