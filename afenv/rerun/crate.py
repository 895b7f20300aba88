"""The record as a research object: Provenance Run Crate 0.5, a profile of Workflow Run RO-Crate.

Sources: https://w3id.org/ro/crate/1.1, https://w3id.org/ro/wfrun/provenance/0.5 (with process/0.5 and
workflow/0.5, on which it stands), and the terms of https://w3id.org/ro/terms/workflow-run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from afenv import canonical
from afenv.rerun.places import CRATE, RECORD, RunFolder

_BASE = "https://w3id.org/ro"
PROFILES = {
    f"{_BASE}/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    f"{_BASE}/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    f"{_BASE}/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_STATUS = {"done": "http://schema.org/CompletedActionStatus"}
_FAILED = "http://schema.org/FailedActionStatus"
_LICENSES = "https://spdx.org/licenses/"

Entity = dict[str, Any]


def _ref(name: str) -> Entity:
    return {"@id": name}


def crate(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> Entity:
    """The crate that a record stands for; ``metadata`` has what the manifest says of the analysis."""
    graph: dict[str, Entity] = {}
    for entity in _entities(record, metadata):
        graph[entity["@id"]] = entity
    return {
        "@context": [f"{_BASE}/crate/1.1/context", f"{_BASE}/terms/workflow-run/context"],
        "@graph": [_tidy(entity) for entity in graph.values()],
    }


def _tidy(entity: Entity) -> Entity:
    """Lists of one entry as that entry, and empty ones left out, as RO-Crate recommends."""
    found = {}
    for key, value in entity.items():
        if isinstance(value, list) and len(value) < 2:
            if value:
                found[key] = value[0]
        else:
            found[key] = value
    return found


def _time(text: str) -> str:
    """A time of the record, to the second."""
    return f"{text[:19]}+00:00"


def _format(path: str) -> str:
    """The media type of a file, as far as its name tells it."""
    import mimetypes

    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def _entities(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Entity]:
    steps = [step for step in record["steps"] if step["status"] != "not-run"]
    yield {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": _ref("./"),
        "conformsTo": [
            _ref(f"{_BASE}/crate/1.1"),
            _ref("https://w3id.org/workflowhub/workflow-ro-crate/1.0"),
        ],
    }
    title = metadata.get("title") or record["name"]
    parts = ["Snakefile", RECORD, *(step["log"] for step in steps)]
    outputs = [_output(output) for step in steps for output in step["outputs"]]
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"A run of {title}",
        "description": metadata.get("description")
        or f"Outputs and record of a run of the analysis {record['name']}, version {record['version']}.",
        "datePublished": _time(record["ended"]),
        "license": _license(metadata),
        "conformsTo": [_ref(profile) for profile in PROFILES],
        "mainEntity": _ref("Snakefile"),
        "hasPart": [_ref(part) for part in [*parts, *(output["@id"] for output in outputs)]],
        "mentions": [_ref("#run"), *(_ref(f"#run/{step['name']}") for step in steps)],
    }
    inputs = list(_data(record))
    root["mentions"] += [_ref(entity["@id"]) for entity in inputs]
    yield root
    for profile, (name, version) in PROFILES.items():
        yield {"@id": profile, "@type": "CreativeWork", "name": name, "version": version}
    if isinstance(root["license"], dict):
        yield {"@id": root["license"]["@id"], "@type": "CreativeWork", "name": str(metadata["license"])}
    yield {
        "@id": RECORD,
        "@type": "File",
        "name": "Record of the run",
        "encodingFormat": "application/json",
        "description": "What ran where, on which images and bytes (afenv run record, version 1).",
    }
    yield from inputs
    yield from outputs
    yield from _workflow(record, metadata, inputs, outputs)
    yield from _whole_run(record, steps, inputs, outputs)
    for number, step in enumerate(record["steps"]):
        yield from _tool(step, number)
    for step in steps:
        yield from _run(step, record)


def _license(metadata: Mapping[str, Any]) -> Any:
    name = metadata.get("license")
    if not name:
        return "No licence is stated."
    return _ref(f"{_LICENSES}{name}") if " " not in name else name


def _data(record: Mapping[str, Any]) -> Iterator[Entity]:
    for data in record["data"]:
        for file in data["files"]:
            entity: Entity = {
                "@id": _data_id(data["name"], file["path"]),
                "@type": "File",
                "name": f"{data['name']}: {file['path']}",
                "contentSize": str(file["size"]),
                "sha256": file["sha256"],
                "identifier": data["uri"],
                "encodingFormat": _format(file["path"]),
                "exampleOfWork": _ref(f"#parameter/{data['name']}"),
            }
            yield entity


def _data_id(name: str, path: str) -> str:
    from urllib.parse import quote

    return f"#data/{name}/{quote(path)}"


def _output(output: Mapping[str, Any]) -> Entity:
    from urllib.parse import quote

    is_folder = output["path"].endswith("/")
    about = {} if is_folder else {"encodingFormat": _format(output["path"])}
    return {
        **about,
        "@id": quote(f"outputs/{output['path']}"),
        "@type": "Dataset" if is_folder else "File",
        "name": output["path"],
        "contentSize": str(output["size"]),
        "sha256": output["sha256"],
    }


def _workflow(
    record: Mapping[str, Any], metadata: Mapping[str, Any], inputs: list[Entity], outputs: list[Entity]
) -> Iterator[Entity]:
    from urllib.parse import quote

    names = [step["name"] for step in record["steps"]]
    known = [data["name"] for data in record["data"]]
    formal_outputs = [f"#parameter/{quote(output['@id'])}" for output in outputs]
    yield {
        "@id": "Snakefile",
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "name": metadata.get("title") or record["name"],
        "version": record["version"],
        "license": _license(metadata),
        "encodingFormat": "text/plain",
        "url": "https://snakemake.readthedocs.io",
        "dateCreated": _time(record["started"]),
        "programmingLanguage": _ref("https://w3id.org/workflowhub/workflow-ro-crate#snakemake"),
        "step": [_ref(f"#step/{name}") for name in names],
        "hasPart": [_ref(f"#tool/{name}") for name in names],
        "input": [_ref(f"#parameter/{name}") for name in known],
        "output": [_ref(name) for name in formal_outputs],
    }
    yield {
        "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": _ref("https://doi.org/10.1093/bioinformatics/bts480"),
        "url": _ref("https://snakemake.readthedocs.io"),
        "version": record["scheduler"]["version"],
    }
    for name in known:
        yield {
            "@id": f"#parameter/{name}",
            "@type": "FormalParameter",
            "additionalType": "File",
            "name": name,
            "conformsTo": _ref("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
        }
    for name, output in zip(formal_outputs, outputs, strict=True):
        yield {
            "@id": name,
            "@type": "FormalParameter",
            "additionalType": output["@type"],
            "name": output["name"],
            "conformsTo": _ref("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
        }
        output["exampleOfWork"] = _ref(name)


def _whole_run(
    record: Mapping[str, Any], steps: list[Any], inputs: list[Entity], outputs: list[Entity]
) -> Iterator[Entity]:
    complete = record["status"] == "complete"
    yield {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run of {record['name']}",
        "description": f"All steps that were asked for, by Snakemake on {record['host']['name']}.",
        "instrument": _ref("Snakefile"),
        "startTime": _time(record["started"]),
        "endTime": _time(record["ended"]),
        "actionStatus": _STATUS["done"] if complete else _FAILED,
        "object": [_ref(entity["@id"]) for entity in inputs],
        "result": [_ref(entity["@id"]) for entity in outputs],
    }
    yield {
        "@id": "#engine",
        "@type": "SoftwareApplication",
        "name": "Snakemake",
        "softwareVersion": record["scheduler"]["version"],
        "url": "https://snakemake.readthedocs.io",
    }
    yield {
        "@id": "#orchestration",
        "@type": "OrganizeAction",
        "name": "Snakemake, started by afenv",
        "instrument": _ref("#engine"),
        "startTime": _time(record["started"]),
        "endTime": _time(record["ended"]),
        "actionStatus": _STATUS["done"] if complete else _FAILED,
        "object": [_ref(f"#control/{step['name']}") for step in steps],
        "result": _ref("#run"),
    }


def _tool(step: Mapping[str, Any], number: int) -> Iterator[Entity]:
    name = step["name"]
    yield {
        "@id": f"#step/{name}",
        "@type": "HowToStep",
        "name": name,
        "position": str(number),
        "workExample": _ref(f"#tool/{name}"),
    }
    yield {
        "@id": f"#tool/{name}",
        "@type": "SoftwareApplication",
        "name": name,
        "description": step["command"],
        "softwareVersion": step["image"]["image_id"],
        "softwareRequirements": _ref(_image_id(step)),
    }
    yield {
        "@id": _image_id(step),
        "@type": "ContainerImage",
        "additionalType": _ref("https://w3id.org/ro/terms/workflow-run#DockerImage"),
        "name": f"{step['environment']} ({step['image']['platform']})",
        "sha256": step["image"]["manifest_digest"].removeprefix("sha256:"),
        "identifier": step["image"]["image_id"],
    }


def _image_id(step: Mapping[str, Any]) -> str:
    return f"#image/{step['image']['image_id'].removeprefix('sha256:')}"


def _run(step: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Entity]:
    name = step["name"]
    from urllib.parse import quote

    data = {one["name"] for one in record["data"]}
    read = [
        _ref(_data_id(one["name"], file["path"]) if one["name"] in data else quote(f"outputs/{file['path']}"))
        for one in step["inputs"]
        for file in one["files"]
    ]
    values = list(step["parameters"].items())
    usage = list(_usage(step))
    action: Entity = {
        "@id": f"#run/{name}",
        "@type": "CreateAction",
        "name": f"Step {name}",
        "description": step["command"],
        "instrument": _ref(f"#tool/{name}"),
        "startTime": _time(step["started"]),
        "endTime": _time(step["ended"]),
        "actionStatus": _STATUS.get(step["status"], _FAILED),
        "containerImage": _ref(_image_id(step)),
        "object": [*read, *(_ref(f"#value/{name}/{key}") for key, _ in values)],
        "result": [_ref(quote(f"outputs/{output['path']}")) for output in step["outputs"]],
        "resourceUsage": [_ref(entity["@id"]) for entity in usage],
        "subjectOf": _ref(step["log"]),
    }
    if step["status"] != "done":
        action["error"] = f"{step['status']}: exit status {step['exit_status']}"
    yield action
    yield {
        "@id": f"#control/{name}",
        "@type": "ControlAction",
        "name": f"Start of {name}",
        "instrument": _ref(f"#step/{name}"),
        "object": _ref(f"#run/{name}"),
    }
    yield {
        "@id": step["log"],
        "@type": "File",
        "name": f"What {name} printed",
        "encodingFormat": "text/plain",
        "about": _ref(f"#run/{name}"),
    }
    for key, value in values:
        yield {
            "@id": f"#value/{name}/{key}",
            "@type": "PropertyValue",
            "name": f"{name}.{key}",
            "value": str(value),
        }
    yield from usage


def _usage(step: Mapping[str, Any]) -> Iterator[Entity]:
    """CPU time and memory; the units are those of QUDT and UCUM."""
    prefix = f"#usage/{step['name']}"
    figures = [("wall", "wall time", step["wall"], "http://qudt.org/vocab/unit/SEC", "s")]
    figures += [
        (kind, f"CPU time ({kind})", seconds, "http://qudt.org/vocab/unit/SEC", "s")
        for kind, seconds in step.get("cpu", {}).items()
    ]
    if "memory" in step:
        what = f"greatest memory ({step['memory']['source']})"
        figures.append(("memory", what, step["memory"]["peak"], "http://qudt.org/vocab/unit/BYTE", "By"))
    for key, title, value, code, text in figures:
        yield {
            "@id": f"{prefix}/{key}",
            "@type": "PropertyValue",
            "name": title,
            "propertyID": f"https://w3id.org/ro/terms/afenv#{key}",
            "value": str(value),
            "unitCode": _ref(code),
            "unitText": text,
        }


def write_crate(folder: RunFolder, record: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write the crate's description beside the record."""
    place = folder.path / CRATE
    new = place.with_name(f"{CRATE}.new")
    new.write_bytes(canonical.indented(crate(record, metadata)))
    new.replace(place)
