"""What a bag's crate says of the steps: the workflow that it holds, with what goes in and comes out.

Sources: https://w3id.org/workflowhub/workflow-ro-crate/1.0 and, for parameters,
https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE. Workflow Run Crate asks for an action that ran
the workflow besides; a bag has one where a recorded run is among its results.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from afenv.documents.steps import Step
from afenv.record import record

PROFILE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PARAMETER = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
PROFILE_TYPE = ["CreativeWork", "Profile"]  # RO-Crate 1.2 asks for the second one
_TYPES = {"string": "Text", "integer": "Integer", "number": "Float", "boolean": "Boolean"}

Entity = dict[str, Any]


@record
class Additions:
    """What a crate gets besides the files: the workflow that it is about, and entities.

    ``main`` is the identifier of the workflow's file, ``profiles`` what the crate conforms to then,
    ``mentions`` are actions and the like. What ``entities`` say of a file is added to what is known of it.
    """

    main: str
    profiles: tuple[str, ...]
    entities: tuple[Entity, ...]
    mentions: tuple[str, ...] = ()


def workflow_additions(
    path: str, name: str, version: str, steps: Sequence[Step], data: Iterable[str], license_id: str
) -> Additions:
    """The Snakefile at ``path`` as the workflow that a crate is about; nothing is said of a run."""
    inputs = [_parameter(f"#parameter/{one}", one, "File") for one in data]
    outputs = []
    for step in steps:
        for key, one in step.parameters.items():
            entity = _parameter(f"#parameter-of/{step.name}/{key}", f"{step.name}.{key}", _TYPES[one.type])
            if one.default is not None:
                entity["defaultValue"] = str(one.default)
            if one.description:
                entity["description"] = one.description
            inputs.append(entity)
        for output in step.outputs.values():
            kind = "Dataset" if output.endswith("/") else "File"
            outputs.append(_parameter(f"#parameter/outputs/{quote(output)}", output, kind))
    workflow: Entity = {
        "@id": quote(path),
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        "name": name,
        "version": version,
        "license": {"@id": license_id},
        "encodingFormat": "text/plain",
        "programmingLanguage": {"@id": LANGUAGE},
        "input": [{"@id": one["@id"]} for one in inputs],
        "output": [{"@id": one["@id"]} for one in outputs],
    }
    language = {
        "@id": LANGUAGE,
        "@type": "ComputerLanguage",
        "name": "Snakemake",
        "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
        "url": {"@id": "https://snakemake.readthedocs.io"},
        "version": ">=7.32",
    }
    profile = {
        "@id": PROFILE,
        "@type": PROFILE_TYPE,
        "name": "Workflow RO-Crate",
        "version": "1.0",
    }
    tidy = {key: value for key, value in workflow.items() if value != []}
    return Additions(
        main=workflow["@id"], profiles=(PROFILE,), entities=(tidy, language, profile, *inputs, *outputs)
    )


def _parameter(identity: str, name: str, kind: str) -> Entity:
    return {
        "@id": identity,
        "@type": "FormalParameter",
        "additionalType": kind,
        "name": name,
        "conformsTo": {"@id": PARAMETER},
    }


def merged(graph: Sequence[Entity], additions: Additions) -> list[Entity]:
    """The graph with the additions: those about files are joined with what is known of them."""
    found = {one["@id"]: one for one in graph}
    root = found["./"]
    root["mainEntity"] = {"@id": additions.main}
    root["conformsTo"] = [*root["conformsTo"], *({"@id": one} for one in additions.profiles)]
    root["mentions"] = [*root.get("mentions", ()), *({"@id": one} for one in additions.mentions)]
    for entity in additions.entities:
        identity = entity["@id"]
        known = found.get(identity)
        if known is None:
            found[identity] = entity
            _into_folder(found, identity)
        elif _is_file(known):
            found[identity] = known | entity
    return list(found.values())


def _is_file(entity: Mapping[str, Any]) -> bool:
    return "File" in entity["@type"]


def _into_folder(found: Mapping[str, Entity], identity: str) -> None:
    """A folder of results becomes a part of the folder that it lies in."""
    above = found.get(f"{identity.partition('/')[0]}/")
    if above is not None and identity.endswith("/") and above["@id"] != identity:
        above["hasPart"] = [*above["hasPart"], {"@id": identity}]
