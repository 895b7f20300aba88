"""``ro-crate-metadata.json``: a bag as an RO-Crate 1.2, for research catalogues.

Written by us and not with the ``rocrate`` package, because the same bag is to be the same bytes. It conforms
to Process Run Crate 0.5 of the Workflow Run profiles: that the image was built is an action whose objects are
the lock and the inputs, and whose result is the image. For an analysis with steps it is a Workflow RO-Crate
too, and with a recorded run among the results a Workflow Run Crate and a Provenance Run Crate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from afenv import canonical
from afenv.archive.crate_workflow import PROFILE_TYPE, Additions, merged
from afenv.archive.index import ArchiveIndex
from afenv.archive.items import Item
from afenv.archive.names import CRATE, IMAGE, LOCK, MANIFEST
from afenv.documents.lock import Lock

VERSION = "https://w3id.org/ro/crate/1.2"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = [
    f"{VERSION}/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
FORMATS = {
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".lock": "application/json",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".toml": "application/toml",
    ".deb": "application/vnd.debian.binary-package",
    ".whl": "application/zip",
    ".conda": "application/zip",
    ".tar": "application/x-tar",
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".squashfs": "application/vnd.squashfs",
    ".sh": "application/x-sh",
    ".sif": "application/vnd.sylabs.sif.layer.v1.sif",
    ".root": "application/octet-stream",
}
FOLDERS = {
    IMAGE: "The image, as an OCI image layout",
    "sif": "The image for Apptainer",
    "vm": "The image as virtual machines; QEMU alone starts one: sh vm/ENVIRONMENT/run.sh COMMAND",
    "inputs/debian": "Debian packages with their signed index",
    "inputs/conda": "conda packages, as channels",
    "inputs/pypi": "Python packages",
    "inputs/base": "The base image",
    "inputs/code": "The code",
    "inputs/other": "Other inputs",
    "attached": "Bill of materials, provenance and signatures",
    "keys": "Public keys of signers",
    "specs": "Specifications of the formats",
    "software": "afenv and the Python packages that it needs",
    "project": "Files that the manifest refers to",
    "workflow": "The steps as a workflow for Snakemake",
    "data": "Data",
    "results": "Reference results",
}


def crate_metadata(
    index: ArchiveIndex,
    metadata: Mapping[str, Any],
    lock: Lock,
    items: Sequence[Item],
    additions: Additions | None = None,
) -> bytes:
    """The metadata document; ``items`` are the other files of the payload, ``additions`` the workflow."""
    date = datetime.fromtimestamp(index.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    people = _people(metadata)
    license_entity = _license(metadata)
    files, folders = _files(items, lock, index)
    funders = _funders(metadata)
    action, agent = _action(index, date)
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": [{"@id": PROFILE}],
        "name": str(metadata.get("title") or index.name),
        "description": str(
            metadata.get("description")
            or f"Archive of the analysis {index.name}, version {index.version}: its image and all inputs."
        ),
        "datePublished": date[:10],
        "version": index.version,
        "identifier": sorted({one.image_id for one in index.environments.values()}),
        "license": {"@id": license_entity["@id"]},
        "author": [{"@id": one["@id"]} for one in people if one["@type"] == "Person"],
        "funder": [{"@id": one["@id"]} for one in funders],
        "keywords": [str(word) for word in metadata.get("keywords", ())],
        "url": metadata.get("url"),
        "hasPart": [{"@id": one["@id"]} for one in (*folders, *files) if _is_top(one["@id"], folders)],
        "mentions": [{"@id": one["@id"]} for one in action],
    }
    references = _data_references(lock)
    root["hasPart"] += [{"@id": one["@id"]} for one in references]
    graph = [
        {
            "@id": CRATE,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": VERSION},
        },
        {key: value for key, value in root.items() if value not in (None, [], "")},
        {"@id": PROFILE, "@type": PROFILE_TYPE, "name": "Process Run Crate", "version": "0.5"},
        license_entity,
        *people,
        *funders,
        *action,
        *agent,
        *folders,
        *files,
        *references,
    ]
    graph = _unique(graph)
    if additions is not None:
        graph = merged(graph, additions)
    return canonical.indented({"@context": CONTEXT, "@graph": graph})


def license_id(metadata: Mapping[str, Any]) -> str:
    """The identifier of the licence in the crate."""
    found: str = _license(metadata)["@id"]
    return found


def _unique(entities: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in entities:
        found.setdefault(one["@id"], one)
    return list(found.values())


def _is_top(identity: str, folders: Sequence[Mapping[str, Any]]) -> bool:
    return not any(identity != one["@id"] and identity.startswith(one["@id"]) for one in folders)


def _people(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, one in enumerate(metadata.get("authors", ())):
        value = one if isinstance(one, Mapping) else {"name": str(one)}
        orcid = value.get("orcid")
        person: dict[str, Any] = {
            "@id": f"https://orcid.org/{orcid}" if orcid else f"#author-{number + 1}",
            "@type": "Person",
            "name": str(value.get("name", "")),
        }
        affiliation = value.get("affiliation")
        if affiliation:
            identity = f"#organization-{quote(str(affiliation), safe='')}"
            person["affiliation"] = {"@id": identity}
            found.append({"@id": identity, "@type": "Organization", "name": str(affiliation)})
        found.append(person)
    return found


def _funders(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for one in metadata.get("funders", ()):
        value = one if isinstance(one, Mapping) else {"name": str(one)}
        name = str(value.get("name", ""))
        entity: dict[str, Any] = {
            "@id": str(value.get("url") or f"#funder-{quote(name, safe='')}"),
            "@type": "Organization",
            "name": name,
        }
        if value.get("award"):
            entity["identifier"] = str(value["award"])
        found.append(entity)
    return found


def _license(metadata: Mapping[str, Any]) -> dict[str, Any]:
    text = str(metadata.get("license") or "")
    if not text:
        return {
            "@id": "#license",
            "@type": "CreativeWork",
            "name": "No licence stated",
            "description": "The manifest states no licence; ask the authors before you pass the code on.",
        }
    single = re.fullmatch(r"[A-Za-z0-9.+-]+", text) is not None and not text.startswith("LicenseRef-")
    return {
        "@id": f"https://spdx.org/licenses/{text}" if single else "#license",
        "@type": "CreativeWork",
        "name": text,
        "description": f"Licence of the analysis code: {text} (SPDX). Packages have licences of their own; "
        "the bill of materials names them.",
    }


def _files(
    items: Sequence[Item], lock: Lock, index: ArchiveIndex
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The entities of the files, and those of the folders that they lie in."""
    swhids: dict[str, list[str]] = {}
    for kept, code in zip(index.code, lock.code, strict=False):
        names = [kept.files] if kept.files else [one.bundle for one in kept.repositories[:1]]
        for name in names:
            swhids[name] = [one for one in (code.swhid, code.revision) if one]
    files = []
    inside: dict[str, list[dict[str, str]]] = {}
    for item in sorted(items, key=lambda item: item.path):
        identity = quote(item.path)
        entity: dict[str, Any] = {
            "@id": identity,
            "@type": "File",
            "name": item.about or PurePosixPath(item.path).name,
            "contentSize": str(item.size),
            "sha256": item.sha256,
            "encodingFormat": FORMATS.get(PurePosixPath(item.path).suffix, "application/octet-stream"),
        }
        if item.path in swhids:
            entity |= {"@type": ["File", "SoftwareSourceCode"], "identifier": swhids[item.path]}
        files.append(entity)
        folder = _folder(item.path)
        if folder is not None:
            inside.setdefault(folder, []).append({"@id": identity})
    folders = [
        {"@id": f"{name}/", "@type": "Dataset", "name": FOLDERS[name], "hasPart": inside[name]}
        for name in FOLDERS
        if name in inside
    ]
    return files, folders


def _folder(path: str) -> str | None:
    if "/" not in path:
        return None
    for name in FOLDERS:
        if path.startswith(name + "/"):
            return name
    return "inputs/other" if path.startswith("inputs/other") else None


def _action(index: ArchiveIndex, date: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """That the image was built: the action, and the software that did it."""
    tool = {
        "@id": f"#{quote(index.written_by.replace(' ', '-'))}",
        "@type": "SoftwareApplication",
        "name": "afenv",
        "version": index.written_by.rpartition(" ")[2],
        "url": "https://pypi.org/project/afenv/",
    }
    actions = [
        {
            "@id": f"#build-{quote(name)}",
            "@type": "CreateAction",
            "name": f"afenv build -e {name}",
            "description": f"The image {one.image_id} for {one.platform} was built from the lock.",
            "instrument": {"@id": tool["@id"]},
            "object": [{"@id": LOCK}, {"@id": MANIFEST}],
            "result": [{"@id": f"{IMAGE}/"}],
            "endTime": date,
            "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        }
        for name, one in sorted(index.environments.items())
    ]
    status = {
        "@id": "http://schema.org/CompletedActionStatus",
        "@type": "ActionStatusType",
        "name": "CompletedActionStatus",
    }
    return actions, [tool, status]


def reference_ids(lock: Lock) -> dict[str, str]:
    """The identifiers of data that is elsewhere, by the sha256 of its files."""
    return {one["sha256"]: one["@id"] for one in _data_references(lock) if "sha256" in one}


def _data_references(lock: Lock) -> list[dict[str, Any]]:
    found = []
    for data in lock.data:
        for file in data.files:
            uri = file.uris[0]
            if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri) or uri.startswith("file:"):
                continue
            entity: dict[str, Any] = {"@id": quote(uri, safe="/:?#[]@!$&'()*+,;=%~"), "@type": "File"}
            entity["name"] = f"{data.name}: {file.path}"
            entity["encodingFormat"] = "application/octet-stream"
            if file.size is not None:
                entity["contentSize"] = str(file.size)
            if "sha256" in file.checksums:
                entity["sha256"] = file.checksums["sha256"]
            found.append(entity)
    return found
