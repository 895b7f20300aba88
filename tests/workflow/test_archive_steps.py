"""The steps in a bag: the workflow, the run that is recorded, and what the crate claims of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from afenv.rerun.crate import PROCESS, PROVENANCE, WORKFLOW, crate
from afenv.specs import specs_folder

from .conftest import World
from .test_archive import archive, contents, index_of

STEPS = """\
data:
  - {name: events, uri: "file:src/events.txt"}
  - {name: far, uri: "https://example.org/far.txt"}
steps:
  - name: generate
    run: "./gen.sh {inputs.events} {parameters.n} {parameters.label} > {outputs.numbers}"
    inputs: [events]
    outputs: {numbers: gen/numbers.txt}
    parameters:
      n: {type: integer, default: 4, description: how many}
      label: {type: string, default: "it's"}
  - name: fit
    run: "mkdir plots && cat {inputs.generate.numbers} > plots/one"
    inputs: [generate.numbers]
    outputs: {plots: plots/}
"""
WORKFLOW_RO_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"


@pytest.fixture
def stepped(world: World) -> World:
    """The world, whose analysis has two steps."""
    manifest = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", manifest + STEPS)
    world.write("src/events.txt", "an event\n")
    return world


def entities_of(bag: Path) -> dict[str, Any]:
    graph = json.loads((bag / "data/ro-crate-metadata.json").read_bytes())["@graph"]
    assert len({one["@id"] for one in graph}) == len(graph)
    return {one["@id"]: one for one in graph}


def claims(entities: dict[str, Any]) -> set[str]:
    found = {one["@id"] for one in entities["./"]["conformsTo"]}
    assert found <= entities.keys()
    return found


def refer_to_nothing(entities: dict[str, Any]) -> set[str]:
    """References within the crate to what it does not have."""
    found = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if value.keys() == {"@id"} and not value["@id"].startswith("http"):
                found.add(value["@id"])
            for one in value.values():
                look(one)
        elif isinstance(value, list):
            for one in value:
                look(one)

    look(list(entities.values()))
    return found - entities.keys()


def test_the_workflow_is_what_the_bag_is_about(stepped: World, tmp_path: Path) -> None:
    bag = archive(stepped)
    entities = entities_of(bag)
    assert claims(entities) == {PROCESS, WORKFLOW_RO_CRATE}  # nothing ran, so no run is claimed
    main = entities[entities["./"]["mainEntity"]["@id"]]
    assert main["@id"] == "workflow/Snakefile"
    assert main["@type"] == ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    assert main["sha256"] == next(
        one["sha256"] for one in index_of(bag)["files"] if one["path"] == "workflow/Snakefile"
    )
    assert entities[main["programmingLanguage"]["@id"]]["@type"] == "ComputerLanguage"
    inputs = {entities[one["@id"]]["name"]: entities[one["@id"]] for one in main["input"]}
    kinds = {name: one["additionalType"] for name, one in inputs.items()}
    assert kinds == {"events": "File", "far": "File", "generate.n": "Integer", "generate.label": "Text"}
    assert (inputs["generate.n"]["defaultValue"], inputs["generate.n"]["description"]) == ("4", "how many")
    outputs = {entities[one["@id"]]["name"]: entities[one["@id"]] for one in main["output"]}
    assert {name: one["additionalType"] for name, one in outputs.items()} == {
        "gen/numbers.txt": "File",
        "plots/": "Dataset",
    }
    assert {"@id": "workflow/"} in entities["./"]["hasPart"]
    assert refer_to_nothing(entities) == set()

    # Snakemake reads it, and would run both steps in the image of the bag
    folder = tmp_path / "run"
    for name, content in contents(bag / "data/workflow").items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for name in ("events/src/events.txt", "events/events.txt", "far/far.txt"):
        place = folder / "afenv-data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("an event\n")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--printshellcmds"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gen.sh" in done.stdout + done.stderr
    assert 'container: "../sif/default.sif"' in (folder / "Snakefile").read_text()


def test_two_archives_with_steps_are_the_same_bytes(stepped: World) -> None:
    one = archive(stepped, output="one/bag")
    stepped.afenv_json("archive", "-o", "two/bag", "--no-sif", "--without-afenv")
    assert contents(one) == contents(stepped.project / "two/bag")


def test_without_steps_nothing_is_said_of_a_workflow(world: World) -> None:
    bag = archive(world)
    entities = entities_of(bag)
    assert claims(entities) == {PROCESS}
    assert "mainEntity" not in entities["./"] and not (bag / "data/workflow").exists()


def test_a_step_that_no_snakefile_can_tell_is_noted(stepped: World) -> None:
    manifest = (stepped.project / "afenv.yaml").read_text()
    stepped.write("afenv.yaml", manifest.replace("integer, default: 4", "integer"))
    bag = archive(stepped)
    assert claims(entities_of(bag)) == {PROCESS}
    (note,) = (one for one in index_of(bag)["notes"] if "Snakefile" in one)
    assert "E751" in note
    assert note in (bag / "README.md").read_text()


def a_run(world: World, folder: str, name: str = "small", image_id: str | None = None) -> dict[str, Any]:
    """A folder with the record of a run in the image of the project, and files where the record has them."""
    text = (specs_folder() / "run/v1/examples/small/record.json").read_text()
    record: dict[str, Any] = json.loads(text) | {"name": name}
    record["steps"][0]["outputs"].append(
        {"name": "plots", "path": "my plots/", "sha256": "0" * 64, "size": 3, "files": 1}
    )
    for step in record["steps"]:
        step["image"]["image_id"] = image_id or world.afenv_json("build")[0]["image_id"]
    for entity in crate(record, {})["@graph"]:
        kinds = entity["@type"]
        if "File" in kinds and not entity["@id"].startswith("#"):
            world.write(f"{folder}/{unquote(entity['@id'])}", "x\n")
        elif kinds == "Dataset" and entity["@id"] != "./":
            world.write(f"{folder}/{unquote(entity['@id'])}one.svg", "<svg/>\n")
    world.write(f"{folder}/record.json", json.dumps(record))
    return record


def test_a_recorded_run_is_claimed_with_its_steps(stepped: World) -> None:
    stepped.afenv_json("lock")
    record = a_run(stepped, ".afenv/runs/default")
    bag = archive(stepped, "--results", ".afenv/runs/default")
    entities = entities_of(bag)
    assert claims(entities) == {PROCESS, WORKFLOW, PROVENANCE, WORKFLOW_RO_CRATE}
    main = entities["./"]["mainEntity"]["@id"]
    assert main == "results/Snakefile"  # the one that ran
    assert "ComputationalWorkflow" in entities[main]["@type"]
    assert "ComputationalWorkflow" not in entities["workflow/Snakefile"]["@type"]
    run = entities["#run"]
    assert run["instrument"] == {"@id": main}
    assert {"@id": "#run"} in entities["./"]["mentions"]
    for step in record["steps"]:
        action = entities[f"#run/{step['name']}"]
        assert entities[action["containerImage"]["@id"]]["identifier"] == step["image"]["image_id"]
        for output in step["outputs"]:
            place = "results/outputs/" + output["path"].replace(" ", "_")
            assert (bag / "data" / place).exists()
            assert entities[place]["sha256"] == output["sha256"]
    assert {"@id": "results/outputs/my_plots/"} in entities["results/"]["hasPart"]
    assert refer_to_nothing(entities) == set()


@pytest.mark.parametrize("harm", ["another image", "another analysis", "a log is gone", "no record"])
def test_what_is_no_run_of_these_images_is_not_claimed(stepped: World, harm: str) -> None:
    stepped.afenv_json("lock")
    image_id = "sha256:" + "1" * 64 if harm == "another image" else None
    a_run(stepped, "run", "other" if harm == "another analysis" else "small", image_id)
    if harm == "a log is gone":
        (stepped.project / "run/logs/generate.log").unlink()
    if harm == "no record":
        stepped.write("run/record.json", "[1]")
    bag = archive(stepped, "--results", "run")
    assert claims(entities_of(bag)) == {PROCESS, WORKFLOW_RO_CRATE}
