"""From the plain tree of a valid manifest to frozen values.

Nothing is checked here: the tree was validated, now or when it was put into the cache. The module
imports nothing heavy, because every command passes through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afenv.documents.compare import compare_rule
from afenv.documents.cvmfs import source_from_tree
from afenv.documents.data import DataReference
from afenv.documents.manifest import (
    DEFAULT_CODE_FOLDER,
    AnalysisManifest,
    Author,
    BuilderSection,
    CodeSource,
    CondaBase,
    CondaSection,
    DebianBase,
    Environment,
    Funder,
    GpuSection,
    Metadata,
    OciBase,
    PypiSection,
)
from afenv.documents.steps import step_from_tree


def _author(tree: Mapping[str, Any]) -> Author:
    return Author(name=tree["name"], orcid=tree.get("orcid"), affiliation=tree.get("affiliation"))


def _funder(tree: Mapping[str, Any]) -> Funder:
    return Funder(name=tree["name"], award=tree.get("award"), url=tree.get("url"))


def _metadata(tree: Mapping[str, Any]) -> Metadata:
    return Metadata(
        title=tree.get("title"),
        description=tree.get("description"),
        license=tree.get("license"),
        authors=tuple(_author(author) for author in tree.get("authors", ())),
        funders=tuple(_funder(funder) for funder in tree.get("funders", ())),
        keywords=tuple(tree.get("keywords", ())),
        url=tree.get("url"),
    )


def _code(tree: Mapping[str, Any]) -> CodeSource:
    return CodeSource(
        git=tree.get("git"),
        rev=tree.get("rev"),
        folder=tree.get("path"),
        into=tree.get("into", DEFAULT_CODE_FOLDER),
    )


def _pypi(tree: Mapping[str, Any]) -> PypiSection:
    return PypiSection(
        dependencies=tuple(tree.get("dependencies", ())),
        file=tree.get("file"),
        lock=tree.get("lock"),
        extras=tuple(tree.get("extras", ())),
        groups=tuple(tree.get("groups", ())),
        owners=dict(tree.get("owners", {})),
        sdists=tuple(tree.get("sdists", ())),
    )


def _conda(tree: Mapping[str, Any]) -> CondaSection:
    return CondaSection(
        channels=tuple(tree.get("channels", ())),
        dependencies=tuple(tree.get("dependencies", ())),
        file=tree.get("file"),
        lock=tree.get("lock"),
        environment=tree.get("environment", "default"),
        virtual_packages=dict(tree.get("virtual-packages", {})),
        post_link=tuple(tree.get("post-link", ())),
        channel_priority=tree.get("channel-priority", "strict"),
    )


def _builder(tree: Mapping[str, Any]) -> BuilderSection:
    return BuilderSection(
        name=tree["name"], folder=tree.get("path", "."), file=tree.get("file", "Dockerfile")
    )


def _gpu(tree: Mapping[str, Any]) -> GpuSection:
    return GpuSection(
        cuda=tree["cuda"],
        architectures=tuple(tree.get("architectures", ())),
        optional=tree.get("optional", False),
    )


def _environment(tree: Mapping[str, Any]) -> Environment:
    base = tree.get("base", {})
    debian, packages = base.get("debian"), tuple(base.get("packages", ()))
    return Environment(
        platform=tree.get("platform", "linux/amd64"),
        debian=DebianBase(suite=debian, packages=packages) if debian else None,
        oci=OciBase(reference=base["oci"], packages=packages) if "oci" in base else None,
        conda_base=CondaBase(**base["conda"]) if "conda" in base else None,
        builder=_builder(tree["builder"]) if "builder" in tree else None,
        conda=_conda(tree["conda"]) if "conda" in tree else None,
        gpu=_gpu(tree["gpu"]) if "gpu" in tree else None,
        pypi=_pypi(tree["pypi"]) if "pypi" in tree else None,
        variables=dict(tree.get("variables", {})),
        bytecode=tree.get("bytecode", True),
        entrypoint=tuple(tree.get("entrypoint", ())),
        workdir=tree.get("workdir"),
        build=tuple(tree.get("build", ())),
        cvmfs=tuple(source_from_tree(entry) for entry in tree.get("cvmfs", ())),
    )


def _data(tree: Mapping[str, Any]) -> DataReference:
    return DataReference(
        name=tree["name"],
        uri=tree["uri"],
        size=tree.get("size"),
        checksums=dict(text.split(":", 1) for text in tree.get("checksums", ())),
        replicas=tuple(tree.get("replicas", ())),
        select=tuple(tree.get("select", ())),
        metalink=tree.get("metalink"),
    )


def manifest_from_tree(tree: Mapping[str, Any]) -> AnalysisManifest:
    """The manifest that a valid tree stands for."""
    return AnalysisManifest(
        name=tree["name"],
        version=tree.get("version", "0"),
        metadata=_metadata(tree.get("metadata", {})),
        code=tuple(_code(source) for source in tree.get("code", ())),
        environments={name: _environment(entry) for name, entry in tree["environments"].items()},
        data=tuple(_data(entry) for entry in tree.get("data", ())),
        steps=tuple(step_from_tree(step) for step in tree.get("steps", ())),
        compare=tuple(compare_rule(rule) for rule in tree.get("compare", ())),
    )
