"""The steps of an analysis in a bag: a Snakefile that needs the bag alone, and the run that is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote

from afenv.archive.crate import license_id, reference_ids
from afenv.archive.crate_workflow import PROFILE_TYPE, Additions, workflow_additions
from afenv.archive.index import ArchiveIndex
from afenv.archive.items import Item, of_bytes
from afenv.archive.names import safe_part
from afenv.documents.lock import Lock
from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError
from afenv.workflow.archive_image import Packed
from afenv.workflow.project import Project

FOLDER = "workflow"
SNAKEFILE = f"{FOLDER}/Snakefile"


def workflow_items(
    project: Project, manifest: AnalysisManifest, lock: Lock, packed: Sequence[Packed]
) -> tuple[list[Item], list[str]]:
    """The steps for Snakemake, with the SIFs of the bag as containers; and notes on why there are none."""
    from afenv.export.plan import ExportImage, ExportPlan
    from afenv.export.snakemake import snakemake
    from afenv.steps.choices import choose_parameters
    from afenv.steps.graph import StepGraph
    from afenv.workflow.export_steps import data_files, image_settings

    graph = StepGraph.of(manifest)
    images = {one.environment: one.image for one in packed}
    used = {graph.steps[name].environment for name in graph.order()}
    if missing := sorted(used - images.keys()):
        return [], [f"The steps are not here as a Snakefile: the bag lacks the environment {missing[0]}."]
    try:
        plan = ExportPlan(
            name=manifest.name,
            version=manifest.version,
            title=manifest.metadata.title,
            graph=graph,
            images={
                name: ExportImage(
                    reference=images[name].image_id,
                    container=f"../sif/{name}.sif",
                    **image_settings(lock, name, images[name]),
                )
                for name in used
            },
            data=data_files(project, manifest, lock, graph.data()),
            values=choose_parameters(graph, graph.order(), ()),
        )
        exported = snakemake(plan)
    except AfenvError as error:
        problem = error.problems[0]
        return [], [f"The steps are not here as a Snakefile: {problem.message} ({problem.code})."]
    items = [
        of_bytes(f"{FOLDER}/{name}", text.encode(), "documents", "the steps, for Snakemake")
        for name, text in sorted(exported.files.items())
    ]
    return items, []


def crate_additions(
    manifest: AnalysisManifest, lock: Lock, index: ArchiveIndex, items: Sequence[Item]
) -> Additions | None:
    """What the crate says of the steps: a recorded run of them, else what they are; None without either."""
    if not manifest.steps:
        return None
    image_ids = [one.image_id for one in index.environments.values()]
    found = _run_additions(items, lock, image_ids, lock.metadata)
    if found is None and any(item.path == SNAKEFILE for item in items):
        found = workflow_additions(
            SNAKEFILE,
            str(lock.metadata.get("title") or lock.name),
            lock.version,
            manifest.steps,
            [one.name for one in manifest.data],
            license_id(lock.metadata),
        )
    return found


def _run_additions(
    items: Sequence[Item], lock: Lock, image_ids: Sequence[str], metadata: Mapping[str, Any]
) -> Additions | None:
    """What the crate says of the first run among the results that ran this analysis in these images."""
    from afenv.rerun.places import RECORD
    from afenv.rerun.record import read_record

    for item in sorted(items, key=lambda item: item.path):
        place = PurePosixPath(item.path)
        if item.part != "results" or item.file is None or place.name != RECORD or len(place.parts) > 3:
            continue
        try:
            record = read_record(item.file.parent)
        except AfenvError:
            continue  # a result of that name
        ran = [step for step in record["steps"] if step["status"] != "not-run"]
        if ran and record["name"] == lock.name and {one["image"]["image_id"] for one in ran} <= {*image_ids}:
            found = _additions(record, place.parent.as_posix(), items, lock, metadata)
            if found is not None:
                return found
    return None


def _additions(
    record: Mapping[str, Any], top: str, items: Sequence[Item], lock: Lock, metadata: Mapping[str, Any]
) -> Additions | None:
    """None if a file that the record names was not taken along."""
    from afenv.rerun.crate import PROCESS, crate
    from afenv.rerun.places import CRATE

    graph = crate(record, metadata)["@graph"]
    names = _places(graph, top, items, lock)
    if names is None:
        return None
    entities = [_moved(one, names) for one in graph if one["@id"] not in (CRATE, "./")]
    root = next(one for one in graph if one["@id"] == "./")
    profiles = {one["@id"] for one in root["conformsTo"]}
    for one in entities:
        if one["@id"] in profiles:
            one["@type"] = PROFILE_TYPE
        elif one["@id"].startswith("#data/"):
            one["@type"] = "CreativeWork"  # nothing says where it is
    return Additions(
        main=names["Snakefile"],
        profiles=tuple(one["@id"] for one in root["conformsTo"] if one["@id"] != PROCESS),
        entities=tuple(entities),
        mentions=tuple(names.get(one["@id"], one["@id"]) for one in _listed(root["mentions"])),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _places(
    graph: Sequence[Mapping[str, Any]], top: str, items: Sequence[Item], lock: Lock
) -> dict[str, str] | None:
    """Where in the bag, or elsewhere, the files and folders of a run's crate are, by their identifiers."""
    paths = {item.path for item in items}
    data = {item.sha256: quote(item.path) for item in items if item.part == "data"}
    data = reference_ids(lock) | data
    found = {}
    for one in graph:
        identity = one["@id"]
        if identity.startswith("#data/"):
            if one.get("sha256") in data:
                found[identity] = data[one["sha256"]]
        elif not {"File", "Dataset"}.isdisjoint(_listed(one["@type"])) and identity != "./":
            parts = unquote(identity).rstrip("/").split("/")
            path = f"{top}/{'/'.join(map(safe_part, parts))}"
            if identity.endswith("/"):
                if not any(other.startswith(f"{path}/") for other in paths):
                    return None
                path += "/"
            elif path not in paths:
                return None
            found[identity] = quote(path)
    return found


def _moved(value: Any, names: Mapping[str, str]) -> Any:
    """The same with other identifiers."""
    if isinstance(value, dict):
        return {
            key: names.get(one, one) if key == "@id" else _moved(one, names) for key, one in value.items()
        }
    return [_moved(one, names) for one in value] if isinstance(value, list) else value
