"""The record as a research object: Provenance Run Crate 0.5, a profile of Workflow Run RO-Crate.

Where no step was started that profile has nothing to tell of, and Workflow Run Crate is claimed.

Sources: https://w3id.org/ro/crate/1.1, https://w3id.org/ro/wfrun/provenance/0.5 (with process/0.5 and
workflow/0.5, on which it stands), and the terms of https://w3id.org/ro/terms/workflow-run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from afenv import canonical
from afenv.rerun.crate_steps import (
    FAILED,
    STATUS,
    Entity,
    data_id,
    formal_id,
    ref,
    run_of,
    time_of,
    tool_of,
)
from afenv.rerun.places import CRATE, RECORD, RunFolder

_BASE = "https://w3id.org/ro"
PROCESS = f"{_BASE}/wfrun/process/0.5"
WORKFLOW = f"{_BASE}/wfrun/workflow/0.5"
PROVENANCE = f"{_BASE}/wfrun/provenance/0.5"
PROFILES = {
    PROCESS: ("Process Run Crate", "0.5"),
    WORKFLOW: ("Workflow Run Crate", "0.5"),
    PROVENANCE: ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
_LICENSES = "https://spdx.org/licenses/"


def crate(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> Entity:
    """The crate that a record stands for; ``metadata`` has what the manifest says of the analysis."""
    graph: dict[str, Entity] = {}
    for entity in entities(record, metadata):
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


def _format(path: str) -> str:
    """The media type of a file, as far as its name tells it."""
    import mimetypes

    return mimetypes.guess_type(path)[0] or "application/octet-stream"


def entities(record: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[Entity]:
    steps = [step for step in record["steps"] if step["status"] != "not-run"]
    profiles = {key: value for key, value in PROFILES.items() if steps or key != PROVENANCE}
    yield {
        "@id": CRATE,
        "@type": "CreativeWork",
        "about": ref("./"),
        "conformsTo": [
            ref(f"{_BASE}/crate/1.1"),
            ref("https://w3id.org/workflowhub/workflow-ro-crate/1.0"),
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
        "datePublished": time_of(record["ended"]),
        "license": _license(metadata),
        "conformsTo": [ref(profile) for profile in profiles],
        "mainEntity": ref("Snakefile"),
        "hasPart": [ref(part) for part in [*parts, *(output["@id"] for output in outputs)]],
        "mentions": [ref("#run"), *(ref(f"#run/{step['name']}") for step in steps)],
    }
    inputs = list(_data(record))
    root["mentions"] += [ref(entity["@id"]) for entity in inputs]
    yield root
    for profile, (name, version) in profiles.items():
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
    yield from _workflow(record, metadata, steps, outputs)
    yield from _whole_run(record, steps, inputs, outputs)
    for number, step in enumerate(record["steps"]):
        yield from tool_of(step, number)
    for step in steps:
        yield from run_of(step, record)


def _license(metadata: Mapping[str, Any]) -> Any:
    name = metadata.get("license")
    if not name:
        return "No licence is stated."
    return ref(f"{_LICENSES}{name}") if " " not in name else name


def _data(record: Mapping[str, Any]) -> Iterator[Entity]:
    for data in record["data"]:
        for file in data["files"]:
            entity: Entity = {
                "@id": data_id(data["name"], file["path"]),
                "@type": "File",
                "name": f"{data['name']}: {file['path']}",
                "contentSize": str(file["size"]),
                "sha256": file["sha256"],
                "identifier": data["uri"],
                "encodingFormat": _format(file["path"]),
                "exampleOfWork": ref(f"#parameter/{data['name']}"),
            }
            yield entity


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
    record: Mapping[str, Any], metadata: Mapping[str, Any], steps: list[Any], outputs: list[Entity]
) -> Iterator[Entity]:
    from urllib.parse import quote

    values = {
        formal_id(step["name"], key): (f"{step['name']}.{key}", value)
        for step in record["steps"]
        for key, value in step["parameters"].items()
    }
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
        "dateCreated": time_of(record["started"]),
        "programmingLanguage": ref("https://w3id.org/workflowhub/workflow-ro-crate#snakemake"),
        "step": [ref(f"#step/{name}") for name in names],
        "hasPart": [ref(f"#tool/{step['name']}") for step in steps],  # a part is one that was run
        "input": [*(ref(f"#parameter/{name}") for name in known), *map(ref, values)],
        "output": [ref(name) for name in formal_outputs],
    }
    yield {
        "@id": "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": ref("https://doi.org/10.1093/bioinformatics/bts480"),
        "url": ref("https://snakemake.readthedocs.io"),
        "version": record["scheduler"]["version"],
    }
    for name in known:
        yield {
            "@id": f"#parameter/{name}",
            "@type": "FormalParameter",
            "additionalType": "File",
            "name": name,
            "conformsTo": ref(PARAMETER),
        }
    for identity, (name, value) in values.items():
        yield {
            "@id": identity,
            "@type": "FormalParameter",
            "additionalType": type_name(value),
            "name": name,
            "conformsTo": ref(PARAMETER),
        }
    for name, output in zip(formal_outputs, outputs, strict=True):
        yield {
            "@id": name,
            "@type": "FormalParameter",
            "additionalType": output["@type"],
            "name": output["name"],
            "conformsTo": ref(PARAMETER),
        }
        output["exampleOfWork"] = ref(name)


def type_name(value: Any) -> str:
    """What schema.org calls the type of a parameter's value."""
    kinds = ((bool, "Boolean"), (int, "Integer"), (float, "Float"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "Text")


def _whole_run(
    record: Mapping[str, Any], steps: list[Any], inputs: list[Entity], outputs: list[Entity]
) -> Iterator[Entity]:
    complete = record["status"] == "complete"
    values = [f"#value/{step['name']}/{key}" for step in steps for key in step["parameters"]]
    yield {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"Run of {record['name']}",
        "description": f"All steps that were asked for, by Snakemake on {record['host']['name']}.",
        "instrument": ref("Snakefile"),
        "startTime": time_of(record["started"]),
        "endTime": time_of(record["ended"]),
        "actionStatus": STATUS["done"] if complete else FAILED,
        "object": [*(ref(entity["@id"]) for entity in inputs), *map(ref, values)],
        "result": [ref(entity["@id"]) for entity in outputs],
    }
    if not steps:
        return
    yield {
        "@id": "#engine",
        "@type": "SoftwareApplication",
        "name": "Snakemake",
        "version": record["scheduler"]["version"],
        "softwareVersion": record["scheduler"]["version"],
        "url": "https://snakemake.readthedocs.io",
    }
    yield {
        "@id": "#orchestration",
        "@type": "OrganizeAction",
        "name": "Snakemake, started by afenv",
        "instrument": ref("#engine"),
        "startTime": time_of(record["started"]),
        "endTime": time_of(record["ended"]),
        "actionStatus": STATUS["done"] if complete else FAILED,
        "object": [ref(f"#control/{step['name']}") for step in steps],
        "result": ref("#run"),
    }


def write_crate(folder: RunFolder, record: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write the crate's description beside the record."""
    place = folder.path / CRATE
    new = place.with_name(f"{CRATE}.new")
    new.write_bytes(canonical.indented(crate(record, metadata)))
    new.replace(place)
