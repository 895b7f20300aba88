"""An image with one package of each kind, and what belongs to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from afenv.attest.keys import PrivateKey, generate_key, load_private
from afenv.digest import sha256_bytes
from afenv.documents.lock import (
    Lock,
    LockedCode,
    LockedConda,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedWheel,
)
from afenv.documents.lockfile import dump_lock
from afenv.oci.attached import Attachment
from afenv.oci.image import assemble
from afenv.oci.model import Image
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.testing import Member, make_layer
from afenv.workflow.attest import attachments_of
from afenv.workflow.project import Project

MANIFEST = b'afenv: 1\nname: sample\nversion: "1.0"\nenvironments: {default: {base: {debian: bookworm}}}\n'
STATUS = (
    "Package: base-files\nStatus: install ok installed\nVersion: 12.4+deb12u12\nArchitecture: amd64\n\n"
    "Package: python3-six\nStatus: install ok installed\nVersion: 1.16.0-4\nArchitecture: all\n"
)
CONDA = {
    "name": "numpy",
    "version": "2.2.1",
    "files": ["lib/python3.12/site-packages/numpy-2.2.1.dist-info/METADATA"],
}


def locked_file(name: str, digit: str) -> LockedFile:
    return LockedFile(urls=(f"https://example.org/{name}",), size=1, sha256=digit * 64)


def make_lock() -> Lock:
    """A lock with two Debian packages, one of conda, one wheel and one commit."""
    debs = (
        LockedDeb(
            name="base-files",
            version="12.4+deb12u12",
            architecture="amd64",
            source="base-files",
            file=locked_file("base-files.deb", "1"),
        ),
        LockedDeb(
            name="python3-six",
            version="1.16.0-4",
            architecture="all",
            source="six",
            file=locked_file("six.deb", "2"),
            control={"Depends": "base-files (>= 1), python3:any | nothing"},
        ),
    )
    conda = LockedConda(
        name="numpy",
        version="2.2.1",
        build="py312_0",
        build_number=0,
        channel="conda-forge",
        subdir="linux-64",
        file=locked_file("numpy-2.2.1-py312_0.conda", "3"),
        record={"license": "BSD-3-Clause AND LicenseRef-Own"},
    )
    wheel = LockedWheel(name="uproot", version="5.5.1", file=locked_file("uproot.whl", "4"), requested=True)
    code = LockedCode(
        into="/analysis",
        tree="5" * 40,
        swhid="swh:1:dir:" + "5" * 40,
        git="https://github.com/Group/Dimuon.git",
        commit="6" * 40,
    )
    environment = LockedEnvironment(
        request="sha256:" + "7" * 64,
        platform="linux/amd64",
        as_of="2026-01-31T12:00:00Z",
        suite="bookworm",
        debs=debs,
        conda=(conda,),
        conda_prefix="/opt/conda",
        wheels=(wheel,),
    )
    return Lock(
        name="sample",
        version="1.0",
        metadata={"license": "MIT"},
        code=(code,),
        environments={"default": environment},
    )


def members(**changed: bytes) -> list[Member]:
    """The files by which the image records its packages."""
    six = "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA"
    site = "opt/conda/lib/python3.12/site-packages"
    files = {
        "var/lib/dpkg/status": STATUS.encode(),
        "var/lib/dpkg/info/python3-six.list": f"/.\n/{six}\n".encode(),
        six: b"Name: six\nVersion: 1.16.0\n",
        "opt/conda/conda-meta/numpy-2.2.1-py312_0.json": json.dumps(CONDA).encode(),
        f"{site}/numpy-2.2.1.dist-info/METADATA": b"Name: numpy\nVersion: 2.2.1\n",
        f"{site}/uproot-5.5.1.dist-info/METADATA": b"Name: uproot\nVersion: 5.5.1\n",
    }
    files |= {name.replace("__", "/"): content for name, content in changed.items()}
    return [Member(path=path, content=content) for path, content in sorted(files.items())]


@dataclass
class Sample:
    """A project, its lock, the image and the documents that belong to it."""

    project: Project
    lock: Lock
    image: Image
    attachments: list[Attachment]

    def of(self, kind: str) -> Attachment:
        """The one attachment of an artifact type."""
        (found,) = [one for one in self.attachments if one.artifact_type == kind]
        return found


@pytest.fixture
def make_sample(
    store: ContentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Sample]:
    """Makes samples; ``changed`` are files of the image, with ``__`` for ``/``."""
    for name in ("AFENV_BUILDER_ID", "GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)

    def make(lock: Lock | None = None, **changed: bytes) -> Sample:
        lock = lock or make_lock()
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        (folder / "afenv.lock").write_bytes(dump_lock(lock))
        (folder / "afenv.yaml").write_bytes(MANIFEST)
        project = Project(folder=folder, settings=Settings(cache_folder=tmp_path / "cache"), store=store)
        layers = [make_layer(store, members(**changed), source="all")]
        image = assemble(lock, "default", layers, 1700000000, store)
        return Sample(project, lock, image, attachments_of(project, lock, "default", image))

    return make


@pytest.fixture
def sample(make_sample: Callable[..., Sample]) -> Sample:
    """The sample as it should be."""
    return make_sample()


@pytest.fixture(scope="session")
def keys() -> dict[str, PrivateKey]:
    """Two keys, one of each kind."""
    found: dict[str, Any] = {}
    for kind in ("ecdsa-p256", "ed25519"):
        private, _ = generate_key(kind)
        found[kind] = load_private(private, place=f"{kind}.key")
    return found


def digest_of(data: bytes) -> str:
    return sha256_bytes(data)
