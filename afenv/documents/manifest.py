"""The analysis manifest, ``afenv.yaml``, as frozen values.

Design goals of the format: one page describes an analysis; every section is optional except the
environments; a value has one spelling; what is not understood is an error. The norm is
``specs/manifest/v1``. This module holds values only; :mod:`afenv.documents.load` reads files.
"""

from __future__ import annotations

from collections.abc import Mapping

from afenv.documents.compare import CompareRule
from afenv.documents.cvmfs import CvmfsSource
from afenv.documents.data import DataReference
from afenv.documents.steps import Step
from afenv.record import field, record

FORMAT_VERSION = 1
FILE_NAME = "afenv.yaml"
DEFAULT_CODE_FOLDER = "/analysis"


@record
class Author:
    """A person, with the ORCID iD and affiliation where given."""

    name: str
    orcid: str | None = None
    affiliation: str | None = None


@record
class Funder:
    """An organisation that paid for the work, with the number of the grant and a URL where given."""

    name: str
    award: str | None = None
    url: str | None = None


@record
class Metadata:
    """What catalogues and archives say of the analysis."""

    title: str | None = None
    description: str | None = None
    license: str | None = None
    authors: tuple[Author, ...] = ()
    funders: tuple[Funder, ...] = ()
    keywords: tuple[str, ...] = ()
    url: str | None = None


@record
class CodeSource:
    """Code: a git URL with a revision, or a folder (``folder``; usually the checkout at hand).

    ``into`` is the absolute path in the image. Exactly one of ``git`` and ``folder`` is set.
    """

    git: str | None = None
    rev: str | None = None
    folder: str | None = None
    into: str = DEFAULT_CODE_FOLDER


@record
class DebianBase:
    """A base made of Debian packages: the suite's codename and the packages by name."""

    suite: str
    packages: tuple[str, ...] = ()


@record
class OciBase:
    """A base image by its reference, and Debian packages to add where it is Debian."""

    reference: str
    packages: tuple[str, ...] = ()


@record
class CondaBase:
    """No operating system: a C library of at least this version, and what conda brings."""

    glibc: str = "2.28"


@record
class CondaSection:
    """Conda packages: match specifications with channels, an environment.yml, or a lock file.

    At most one of ``file`` (an environment.yml) and ``lock`` (a conda-lock.yml, pixi.lock or @EXPLICIT
    list) is set, both relative to the manifest. ``channels`` are names, URLs or folders, the first one
    having the highest priority: with ``channel_priority`` ``strict`` a package comes from the first one that
    has it, with ``disabled`` from any. ``environment`` is that of a pixi.lock. ``virtual_packages`` overrides
    what is derived from the base and the GPU need. ``post_link`` names packages whose post-link scripts may
    run.
    """

    channels: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    file: str | None = None
    lock: str | None = None
    environment: str = "default"
    virtual_packages: Mapping[str, str] = field(default_factory=dict)
    post_link: tuple[str, ...] = ()
    channel_priority: str = "strict"


@record
class GpuSection:
    """What an environment needs of a GPU: the versions of CUDA that will do, such as ``>=12.2``."""

    cuda: str
    architectures: tuple[str, ...] = ()
    optional: bool = False


@record
class PypiSection:
    """PyPI packages: PEP 508 requirements, and at most one of a requirements file and a lock file.

    ``file`` is a requirements.txt or pyproject.toml, ``lock`` a pylock.toml, both relative to the
    manifest; ``groups`` and ``extras`` select dependency groups and extras of a pyproject.toml.
    ``owners`` says which package wins where several install different files at one path; its keys are
    paths relative to site-packages. ``sdists`` names packages that may be built from source.
    """

    dependencies: tuple[str, ...] = ()
    file: str | None = None
    lock: str | None = None
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    sdists: tuple[str, ...] = ()


@record
class BuilderSection:
    """Another tool that makes the whole image: its name, ``docker`` or ``repo2docker``, and what it reads.

    ``folder`` is relative to the manifest, and ``file``, the Dockerfile, to the folder.
    """

    name: str
    folder: str = "."
    file: str = "Dockerfile"


@record
class Environment:
    """One environment.

    Exactly one of ``debian``, ``oci``, ``conda_base`` and ``builder`` is set.
    """

    platform: str = "linux/amd64"
    debian: DebianBase | None = None
    oci: OciBase | None = None
    conda_base: CondaBase | None = None
    builder: BuilderSection | None = None
    conda: CondaSection | None = None
    gpu: GpuSection | None = None
    pypi: PypiSection | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    bytecode: bool = True
    entrypoint: tuple[str, ...] = ()
    workdir: str | None = None
    build: tuple[str, ...] = ()
    cvmfs: tuple[CvmfsSource, ...] = ()


@record
class AnalysisManifest:
    """A whole manifest."""

    name: str
    version: str = "0"
    metadata: Metadata = field(default_factory=Metadata)
    code: tuple[CodeSource, ...] = ()
    environments: Mapping[str, Environment]
    data: tuple[DataReference, ...] = ()
    steps: tuple[Step, ...] = ()
    compare: tuple[CompareRule, ...] = ()
