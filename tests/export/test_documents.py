"""The documents of every engine: the golden ones, what they cannot hold, and the scripts of HTCondor, run.

``AFENV_GOLDEN=write pytest tests/export`` writes the golden documents anew; the commit says why.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from afenv.documents.load import parse_manifest
from afenv.errors import AfenvError
from afenv.export.cwl import cwl
from afenv.export.htcondor import htcondor
from afenv.export.plan import Exported, ExportFile, ExportImage, ExportPlan, pinned
from afenv.export.reana import reana
from afenv.export.recast import recast
from afenv.export.snakemake import snakemake
from afenv.formats.yaml_text import load

from .conftest import IMAGE, KEPT, MANIFEST, NOTEBOOK, plan_of, write_data

GOLDEN = Path(__file__).parent / "golden"
EXPORTERS: dict[str, Callable[[ExportPlan], Exported]] = {
    "reana": reana,
    "reana-snakemake": lambda plan: reana(plan, "snakemake"),
    "reana-yadage": lambda plan: reana(plan, "yadage"),
    "recast": recast,
    "cwl": cwl,
    "snakemake": snakemake,
    "htcondor": htcondor,
}
LABEL = ("label=it's $HOME",)


def rich() -> ExportPlan:
    """The small analysis with CVMFS, an entry point, code in the image, and data that is elsewhere."""
    images = {
        "default": ExportImage(reference=IMAGE, workdir="/analysis", cvmfs=("sft.cern.ch",)),
        "other": ExportImage(reference=IMAGE, entrypoint=("/bin/start", "a word")),
    }
    data = {
        "events": (ExportFile(path="events.txt", uris=("https://example.org/events.txt",)),),
        "many": (ExportFile(path="a.txt"), ExportFile(path="deep/b.txt")),
    }
    text = MANIFEST.replace("memory: 300 MB", "gpus: 1, memory: 300 MB")
    return plan_of(text, LABEL, images=images, data=data, kerberos=True)


@pytest.mark.parametrize("name", EXPORTERS)
def test_the_documents_are_the_golden_ones(name: str) -> None:
    exported = EXPORTERS[name](rich())
    folder = GOLDEN / name
    found = {**exported.files, "warnings.txt": "".join(f"{one}\n" for one in exported.warnings)}
    if os.environ.get("AFENV_GOLDEN") == "write":
        for file, text in found.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text)
    golden = {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }
    assert found == golden


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_notebook_goes_everywhere(name: str) -> None:
    exported = EXPORTERS[name](plan_of(NOTEBOOK))
    assert any("-m papermill" in text for text in exported.files.values())
    assert all(text.splitlines()[0][0] == "#" for text in exported.files.values())


def test_what_is_htcondors_runs(tmp_path: Path) -> None:
    """Each job in a folder of its own, into which and out of which the files of its submit file go."""
    exported = htcondor(plan_of(MANIFEST))
    write_data(tmp_path)
    for name in ("generate", "select", "count"):
        lines = exported.files[f"{name}.sub"].splitlines()
        settings = dict(line.split(" = ", 1) for line in lines if " = " in line)
        there = tmp_path / "there" / name
        for file in filter(None, settings.get("transfer_input_files", "").split(", ")):
            (there / file).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", tmp_path / file, there / file], check=True)
        there.mkdir(parents=True, exist_ok=True)
        script = there / "script"
        script.write_text(exported.files[settings["executable"]])
        values = {"generate": ["5"], "select": ["it's $HOME {x} 100%", "true"], "count": []}[name]
        subprocess.run(["/bin/sh", script, *values], cwd=there, check=True)
        for file in settings["transfer_output_files"].split(", "):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", there / file, tmp_path / file], check=True)
    assert (tmp_path / "kept.txt").read_text().startswith(KEPT)
    assert (tmp_path / "n.txt").read_text() == "10\nplot\n"
    assert "PARENT generate select CHILD count" in exported.files["analysis.dag"]


def test_without_parameters_and_data() -> None:
    plan = plan_of(NOTEBOOK.partition("    parameters:")[0])
    assert cwl(plan).files["inputs.yml"].splitlines()[1:] == ["{}"]
    assert snakemake(plan).files["config.yaml"].splitlines()[1:] == ["{}"]
    assert "inputs:" not in reana(plan).files["reana.yaml"]


def test_a_strict_reader_reads_what_is_written() -> None:
    """What is written is the same to a reader that takes every scalar for text."""
    tree = load(cwl(rich()).files["workflow.cwl"].encode(), "workflow.cwl")
    assert tree["cwlVersion"] == "v1.2"


def refused(plan: ExportPlan, exporter: Callable[[ExportPlan], Exported], words: str) -> None:
    with pytest.raises(AfenvError) as caught:
        exporter(plan)
    assert caught.value.code == "E772"
    assert len(caught.value.problems) == 1
    assert words in str(caught.value)


def test_what_an_engine_cannot_express_is_one_error() -> None:
    silent = MANIFEST + "  - {name: last, run: 'true', needs: [quiet]}\n  - {name: quiet, run: 'true'}\n"
    parse_manifest(silent.encode(), "afenv.yaml")
    refused(plan_of(silent), cwl, "quiet, which has no output")
    assert "afenv-done/quiet" in snakemake(plan_of(silent)).files["Snakefile"]
    refused(plan_of(MANIFEST), recast, "braces")
    refused(plan_of(MANIFEST.replace("name: count", "name: init"), LABEL), recast, "called init")
    named = MANIFEST.replace("parameters.n}", "parameters.workdir}").replace("{n: {type", "{workdir: {type")
    refused(plan_of(named, LABEL), recast, "called workdir")
    refused(plan_of(MANIFEST, ("label=two\nlines",)), htcondor, "newline")
    refused(plan_of(MANIFEST.replace("n: n.txt", "n: 'a,b.txt'")), htcondor, "a,b.txt")


@pytest.mark.parametrize(
    "reference", ["example.org/a:v1", "example.org/a@sha256:abc", "a b@sha256:" + "0" * 64, ""]
)
def test_an_image_without_a_digest_is_refused(reference: str) -> None:
    with pytest.raises(AfenvError) as caught:
        pinned(reference, "default")
    assert caught.value.code == "E771"


def test_a_tag_gives_way_to_the_digest() -> None:
    digest = "@sha256:" + "0" * 64
    assert pinned(f"host:5000/a/b:v1{digest}", "default") == f"host:5000/a/b{digest}"
    assert pinned(f"host:5000/a/b{digest}", "default") == f"host:5000/a/b{digest}"
