"""The lock, ``afenv.lock``, as frozen values.

Design goals of the format: every byte that goes into an image is named by a digest; one input, one
sequence of bytes (canonical JSON, records sorted); a person can read a difference of two locks; the
layers of an image can be planned from the lock alone; a reader keeps what it does not know. The norm
is ``specs/lock/v1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afenv.documents.cvmfs import LockedCvmfs
from afenv.documents.data import LockedData
from afenv.record import field, record

FORMAT_VERSION = 1
ASSEMBLY_VERSION = 1
FILE_NAME = "afenv.lock"


@record
class LockedFile:
    """A file to download: where it may be had, its size in bytes and its digest."""

    urls: tuple[str, ...]
    size: int
    sha256: str  # 64 hexadecimal digits

    @property
    def digest(self) -> str:
        """The digest in the form of OCI."""
        return "sha256:" + self.sha256

    @property
    def file_name(self) -> str:
        """The last part of the first URL's path."""
        return self.urls[0].split("?")[0].split("#")[0].rsplit("/", 1)[-1]


@record
class LockedDeb:
    """A Debian binary package.

    ``control`` holds the relationship fields of its stanza as the index has them (``Depends``,
    ``Pre-Depends``, ``Provides``, ``Conflicts``, ``Breaks``, ``Essential``, …), so that a lock can be
    updated, and explained, without the old index. ``requested`` tells a package that the manifest
    names from one that came as a dependency.
    """

    name: str
    version: str
    architecture: str
    source: str
    file: LockedFile
    requested: bool = False
    control: Mapping[str, str] = field(default_factory=dict)


@record
class LockedSource:
    """What a wheel was built from: its source archive, and the wheels that the build was done with.

    Of those, only name, version and file are known.
    """

    file: LockedFile
    requires: tuple[LockedWheel, ...] = ()


@record
class LockedWheel:
    """A wheel from a Python package index. ``dependencies`` are normalised names, sorted.

    ``built_from`` is set for one that was built here, of which ``file`` has no URL.
    """

    name: str  # normalised (PEP 503)
    version: str
    file: LockedFile
    requested: bool = False
    dependencies: tuple[str, ...] = ()
    built_from: LockedSource | None = None


@record
class LockedConda:
    """A conda package: what its repodata record says, as far as it decides about the environment.

    ``channel`` is the name or URL that the manifest gives, without credentials; ``noarch`` is
    ``python``, ``generic`` or None; ``depends`` and ``constrains`` are match specifications as the
    record has them. The record's other fields that conda writes into ``conda-meta`` are in ``record``.
    """

    name: str
    version: str
    build: str
    build_number: int
    channel: str
    subdir: str
    file: LockedFile
    md5: str | None = None
    noarch: str | None = None
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    requested: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)


@record
class LockedBaseLayer:
    """A layer of a base image: ``diff_id`` is that of the tar, ``digest`` and ``size`` those of the blob.

    ``media_type`` is that of OCI, also where the base's own manifest is Docker's.
    """

    diff_id: str
    digest: str
    size: int
    media_type: str


@record
class LockedBase:
    """A base image: where it is from, its blobs, and what it was found to be.

    ``reference`` is the manifest's; ``digest`` and ``size`` are those of the image manifest, ``index`` is
    the digest of the index it was chosen from. ``system`` and ``glibc`` are for people and solvers.
    ``user`` is the ordinary user of its config; ``home`` the home folder of user 1000, None if it has no
    such user.
    """

    reference: str
    digest: str
    size: int
    media_type: str
    config: str
    config_size: int
    layers: tuple[LockedBaseLayer, ...]
    index: str | None = None
    system: str | None = None  # such as almalinux 9.4
    glibc: str | None = None  # such as 2.34
    shell: str | None = None  # absolute path in the image
    user: str | None = None
    home: str | None = None
    merged_usr: bool = True


@record
class LockedBuilder:
    """The tool that made the base, which is the whole image: its name, its version, and what it read.

    ``tree`` is the git tree hash of the folder's files; the same files may give another image next time.
    """

    name: str
    version: str
    tree: str


@record
class LockedIndex:
    """A package index that was read: its URL, the digest of the bytes, the time it was published."""

    url: str
    suite: str
    date: str  # RFC 3339, UTC
    sha256: str
    signed_by: str  # fingerprint of the key


@record
class LockedPython:
    """The Python that packages are resolved for and bytecode is compiled with."""

    version: str  # full version, such as 3.11.2
    executable: str  # path in the image, such as /usr/bin/python3.11
    site_packages: str  # absolute path in the image where wheels go
    scripts: str  # absolute path in the image where their commands go


@record
class LockedSubmodule:
    """A submodule of code: its path in the code, its commit, and its URL unless the code is a checkout's."""

    path: str
    commit: str
    git: str | None = None


@record
class LockedLfs:
    """A file of code whose content is in git LFS."""

    path: str
    sha256: str
    size: int


@record
class LockedCode:
    """Code by its content.

    ``tree`` is the git tree hash of the files as they go into the image, ``swhid`` the SWHID of that
    directory (``swh:1:dir:…``). ``commit`` and ``date`` (RFC 3339, UTC) are those of the commit where
    there is one, and ``revision`` is its SWHID (``swh:1:rev:…``). ``exported`` tells that the repository's
    export rules left files out.
    """

    into: str
    tree: str
    swhid: str
    git: str | None = None
    rev: str | None = None
    folder: str | None = None
    commit: str | None = None
    revision: str | None = None
    date: str | None = None
    submodules: tuple[LockedSubmodule, ...] = ()
    lfs: tuple[LockedLfs, ...] = ()
    exported: bool = False
    dirty: bool = False


@record
class LockedResult:
    """What commands in the sandbox gave: the digest of all that went in, and the diff_id of their layer."""

    inputs: str
    diff_id: str


@record
class LockedGpu:
    """What an environment needs of a GPU: the manifest's words, and what follows from the packages.

    ``toolkit`` is the CUDA toolkit that the packages ``found_in`` bring. Of the driver, ``least_cuda`` and
    ``least_driver`` will do with a limited feature set, ``full_driver`` has the toolkit's own, and
    ``last_driver`` is the last branch for the oldest of the architectures.
    """

    cuda: str
    architectures: tuple[str, ...] = ()
    optional: bool = False
    toolkit: str | None = None
    found_in: tuple[str, ...] = ()
    least_cuda: str | None = None
    least_driver: str | None = None
    full_driver: str | None = None
    last_driver: str | None = None


@record
class LockedEnvironment:
    """Everything that one environment is built from.

    ``request`` is the digest of the part of the manifest that this resolves, files that it refers to
    included. ``minimal`` says that there is no operating system, but a C library and what conda brings.
    """

    request: str
    platform: str
    as_of: str  # RFC 3339, UTC
    base: LockedBase | None = None
    builder: LockedBuilder | None = None  # what made the base
    minimal: bool = False
    suite: str | None = None
    indexes: tuple[LockedIndex, ...] = ()
    debs: tuple[LockedDeb, ...] = ()
    conda: tuple[LockedConda, ...] = ()
    conda_prefix: str | None = None  # absolute path in the image, such as /opt/conda
    virtual_packages: Mapping[str, str] = field(default_factory=dict)  # such as __glibc: 2.36
    python: LockedPython | None = None
    wheels: tuple[LockedWheel, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    bytecode: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    gpu: LockedGpu | None = None
    cvmfs: tuple[LockedCvmfs, ...] = ()
    entrypoint: tuple[str, ...] = ()
    workdir: str | None = None
    post_link: tuple[str, ...] = ()  # conda packages whose scripts run
    linked: LockedResult | None = None  # what they gave
    build: tuple[str, ...] = ()  # commands
    built: LockedResult | None = None  # what they gave
    extra: Mapping[str, Any] = field(default_factory=dict)  # keys of a newer minor version


@record
class Lock:
    """A whole lock."""

    name: str
    version: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    assembly_version: int = ASSEMBLY_VERSION
    code: tuple[LockedCode, ...] = ()
    environments: Mapping[str, LockedEnvironment]
    data: tuple[LockedData, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # keys of a newer minor version
