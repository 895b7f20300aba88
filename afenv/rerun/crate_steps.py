"""What a crate says of the steps of a run: the tool that each one is, its image, and how it went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

STATUS = {"done": "http://schema.org/CompletedActionStatus"}
FAILED = "http://schema.org/FailedActionStatus"

Entity = dict[str, Any]


def ref(name: str) -> Entity:
    """A reference to an entity."""
    return {"@id": name}


def time_of(text: str) -> str:
    """A time of the record, to the second."""
    return f"{text[:19]}+00:00"


def data_id(name: str, path: str) -> str:
    """The identifier of a file of data."""
    from urllib.parse import quote

    return f"#data/{name}/{quote(path)}"


def formal_id(step: str, name: str) -> str:
    """The identifier of a parameter of a step, whatever its value."""
    return f"#parameter-of/{step}/{name}"


def tool_of(step: Mapping[str, Any], number: int) -> Iterator[Entity]:
    name = step["name"]
    yield {
        "@id": f"#step/{name}",
        "@type": "HowToStep",
        "name": name,
        "position": str(number),
        "workExample": ref(f"#tool/{name}"),
    }
    yield {
        "@id": f"#tool/{name}",
        "@type": "SoftwareApplication",
        "name": name,
        "description": step["command"],
        "url": ref("Snakefile"),
        "version": step["image"]["image_id"],
        "softwareVersion": step["image"]["image_id"],
        "softwareRequirements": ref(_image_id(step)),
    }
    yield {
        "@id": _image_id(step),
        "@type": "ContainerImage",
        "additionalType": ref("https://w3id.org/ro/terms/workflow-run#DockerImage"),
        "name": f"{step['environment']} ({step['image']['platform']})",
        "sha256": step["image"]["manifest_digest"].removeprefix("sha256:"),
        "identifier": step["image"]["image_id"],
    }


def _image_id(step: Mapping[str, Any]) -> str:
    return f"#image/{step['image']['image_id'].removeprefix('sha256:')}"


def run_of(step: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Entity]:
    name = step["name"]
    from urllib.parse import quote

    data = {one["name"] for one in record["data"]}
    read = [
        ref(data_id(one["name"], file["path"]) if one["name"] in data else quote(f"outputs/{file['path']}"))
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
        "instrument": ref(f"#tool/{name}"),
        "startTime": time_of(step["started"]),
        "endTime": time_of(step["ended"]),
        "actionStatus": STATUS.get(step["status"], FAILED),
        "containerImage": ref(_image_id(step)),
        "object": [*read, *(ref(f"#value/{name}/{key}") for key, _ in values)],
        "result": [ref(quote(f"outputs/{output['path']}")) for output in step["outputs"]],
        "resourceUsage": [ref(entity["@id"]) for entity in usage],
        "subjectOf": ref(step["log"]),
    }
    if step["status"] != "done":
        action["error"] = f"{step['status']}: exit status {step['exit_status']}"
    yield action
    yield {
        "@id": f"#control/{name}",
        "@type": "ControlAction",
        "name": f"Start of {name}",
        "instrument": ref(f"#step/{name}"),
        "object": ref(f"#run/{name}"),
    }
    yield {
        "@id": step["log"],
        "@type": "File",
        "name": f"What {name} printed",
        "encodingFormat": "text/plain",
        "about": ref(f"#run/{name}"),
    }
    for key, value in values:
        yield {
            "@id": f"#value/{name}/{key}",
            "@type": "PropertyValue",
            "name": f"{name}.{key}",
            "value": str(value),
            "exampleOfWork": ref(formal_id(name, key)),
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
            "unitCode": ref(code),
            "unitText": text,
        }
