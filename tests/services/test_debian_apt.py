"""The resolver's answers against apt's own, on the same index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest

from afenv.documents.manifest import DebianBase
from afenv.resolve.debian.archives import ArchiveState, archives_of, read_archive
from afenv.resolve.debian.candidates import Candidates
from afenv.resolve.debian.release import trusted_keys
from afenv.resolve.debian.resolver import resolve_debian, roots_of
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.store.fetch import Fetcher

pytestmark = pytest.mark.services

BOOKWORM = """
python3
python3 ca-certificates
python3-dev python3-venv
python3-numpy python3-scipy python3-matplotlib
python3-pip git
jupyter-notebook
cmake g++
cmake ninja-build gcc gfortran
build-essential
git git-lfs ca-certificates
gfortran libopenblas-dev liblapack-dev
xrootd-client
xrootd-client python3-xrootd
openmpi-bin libopenmpi-dev
mpich libmpich-dev
libhdf5-dev hdf5-tools
libhdf5-openmpi-dev
libx11-dev libxpm-dev libxft-dev libxext-dev libssl-dev libgl1-mesa-dev libglew-dev
libxml2-dev libpcre3-dev libfftw3-dev libcfitsio-dev libgsl-dev graphviz-dev libavahi-compat-libdnssd-dev
libkrb5-dev libldap2-dev libmariadb-dev libpq-dev libsqlite3-dev
krb5-user openssh-client curl wget
texlive-latex-base texlive-latex-extra dvipng cm-super
ghostscript imagemagick graphviz
qtbase5-dev libqt5svg5-dev
libboost-all-dev libeigen3-dev
librdkafka-dev libprotobuf-dev protobuf-compiler
libhepmc3-dev libclhep-dev
r-base-core octave
default-jre-headless maven
clang llvm lld
vim emacs-nox less man-db
gdb valgrind strace
slurm-client munge
nodejs npm
ruby perl php-cli
postfix
systemd dbus
podman
task-ssh-server
""".strip().splitlines()

TRIXIE = """
python3 ca-certificates
python3-numpy python3-scipy python3-matplotlib
cmake g++ gfortran git
xrootd-client
openmpi-bin libopenmpi-dev libhdf5-dev
libx11-dev libxpm-dev libxft-dev libxext-dev libssl-dev libgl1-mesa-dev
build-essential python3-dev
graphviz-dev libcfitsio-dev libgsl-dev
texlive-latex-base
default-jre-headless
""".strip().splitlines()


@dataclass(frozen=True)
class Apt:
    """A private root for apt: no package installed, one suite, the index that afenv read."""

    options: tuple[str, ...]

    def install(self, packages: Sequence[str]) -> dict[str, str] | None:
        """The versions by name that apt would install; None if it refuses."""
        words = ["-qq", "--print-uris", "install", "--no-install-recommends", *packages]
        command = ["apt-get", *self.options, *words]
        result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
        if result.returncode:
            return None
        # 'URI' NAME_VERSION_ARCHITECTURE.deb SIZE DIGEST, with %3a for the colon of an epoch
        files = (unquote(line.split()[1]) for line in result.stdout.splitlines())
        return {name: version for name, version, _ in (file.split("_") for file in files)}


@dataclass(frozen=True)
class Suite:
    name: str
    as_of: datetime
    fetcher: Fetcher
    store: ContentStore
    archives: tuple[ArchiveState, ...]
    apt: Apt

    def roots(self, packages: Sequence[str]) -> list[str]:
        return roots_of(Candidates(self.archives, "amd64", {}, ()), packages)

    def resolve(self, packages: Sequence[str]) -> dict[str, str]:
        result = resolve_debian(
            DebianBase(suite=self.name, packages=tuple(packages)),
            "linux/amd64",
            self.as_of,
            self.fetcher,
            self.store,
        )
        return {deb.name: deb.version for deb in result.debs}


def _private_apt(folder: Path, archives: Sequence[ArchiveState], store: ContentStore) -> Apt:
    """An apt root whose mirror is a folder made of the bytes in the store."""
    sources = []
    for state in archives:
        mirror = folder / "mirror" / state.archive.archive
        suite = mirror / "dists" / state.archive.suite
        packages = suite / "main" / "binary-amd64" / "Packages.xz"
        packages.parent.mkdir(parents=True)
        release = store.read(f"sha256:{state.locked.sha256}")
        (suite / "InRelease").write_bytes(release)
        # the digest under SHA256, not that under MD5Sum
        digest = re.search(rb"^ ([0-9a-f]{64}) +\d+ main/binary-amd64/Packages\.xz$", release, re.MULTILINE)
        assert digest is not None
        packages.write_bytes(store.read(f"sha256:{digest[1].decode()}"))
        sources.append(f"deb [trusted=yes] file:{mirror} {state.archive.suite} main\n")
    for name in ("state/lists/partial", "cache/archives/partial", "etc"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "etc" / "sources.list").write_text("".join(sources))
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::pkgcache": folder / "cache" / "pkgcache.bin",  # some images for containers switch it off
        "Dir::Etc": folder / "etc",
        "Dir::Etc::sourcelist": folder / "etc" / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferencesparts": "-",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",
        "Debug::NoLocking": "true",
    }
    options = tuple(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True, capture_output=True)
    return Apt(options)


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    if shutil.which("apt-get") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("apt-get is not there")
        pytest.skip("apt-get is not there")
    name = request.param
    folder = tmp_path_factory.mktemp(f"apt-{name}")
    store = ContentStore(load_settings().cache_folder)
    fetcher = Fetcher(store, load_settings(), quiet=True)
    as_of = datetime.now(UTC).replace(microsecond=0)
    archives = tuple(
        read_archive(archive, "amd64", as_of, fetcher, store, trusted_keys()) for archive in archives_of(name)
    )
    return Suite(name, as_of, fetcher, store, archives, _private_apt(folder, archives, store))


def test_the_same_packages_as_apt(suite: Suite) -> None:
    sets = {"bookworm": BOOKWORM, "trixie": TRIXIE}[suite.name]
    different = {}
    for line in sets:
        packages = line.split()
        expected = suite.apt.install(suite.roots(packages))
        assert expected, f"apt refuses {line}"
        found = suite.resolve(packages)
        if found != expected:
            different[line] = sorted(found.items() ^ expected.items())
    assert not different
