"""``afenv import``: what is taken over is right, what is not is said, and nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afenv.cli import main
from afenv.documents.load import parse_manifest
from afenv.documents.manifest import AnalysisManifest
from afenv.documents.steps import Parameter, Resources
from afenv.errors import AfenvError
from afenv.export.reana import FORMS, reana
from afenv.export.recast import recast
from afenv.export.snakemake import snakemake
from afenv.workflow.import_draft import import_workflow
from tests.export.conftest import IMAGE, MANIFEST, plan_of

SNAKEFILE = '''
configfile: "config.yaml"
import os
open("ran", "w")

rule all:
    input: "plot.png", "out/"

rule select:
    input:
        data="events.root",
        other=["a.txt", "b.txt"],
    output: hist="gen/hist.root", folder=directory("out")
    params:
        cut=config["cut"],
        tag="two words",
        odd=os.getpid(),
    threads: 4
    resources: mem_mb=2000, runtime=30, disk_mb=5
    log: "x.log"
    container: "docker://example.org/select:1"
    shell:
        """
        select {input.data} {output.hist} --cut {params.cut} -j {threads} {{x}}
        cat {input.other} events.root > {output.folder}/x; echo {params.tag:q} {nothing}
        """

rule plot:
    input: "gen/hist.root"
    output: "plot.png"
    container: "docker://example.org/plot@sha256:%s"
    shell: "plot {input[0]} " "{output}"

rule wild:
    output: "{sample}.txt"
    shell: "touch {output}"

rule script:
    output: "s.txt"
    script: "s.py"
''' % ("ab" * 32)
RECAST = """
name: group/one
metadata: {author: Somebody, short_description: A search}
spec: {workflow: workflow.yml}
example_inputs:
  default: {initdata: {signal: "root://example.org//signal.root", n: 3}}
  other: {initdata: {n: 4}}
"""
WORKFLOW = """
stages:
  - name: select
    dependencies: [init]
    scheduler:
      scheduler_type: singlestep-stage
      parameters:
        signal: {step: init, output: signal}
        n: {step: init, output: n}
        out: "{workdir}/gen/out.root"
      step:
        process: {process_type: string-interpolated-cmd, cmd: "select {signal} -n {n} -o {out} {{x}}"}
        publisher: {publisher_type: frompar-pub, outputmap: {hist: out}}
        environment: {image: example.org/a, imagetag: v1, resources: [CVMFS]}
  - name: fit
    dependencies: [select]
    scheduler:
      scheduler_type: singlestep-stage
      parameters:
        - {key: hist, value: {step: select, output: hist}}
        - {key: gone, value: {step: select, output: gone}}
      step:
        process: {interpreter: bash, script: "fit {hist} {gone} > fit.json"}
        publisher: {publisher_type: interpolated-pub, publish: {result: "{workdir}/fit.json"}}
        environment: {environment_type: docker-encapsulated, image: example.org/b, imagetag: v2}
  - name: many
    dependencies: [fit]
    scheduler: {scheduler_type: multistep-stage, parameters: {}, step: {}}
"""


def imported(path: Path) -> tuple[AnalysisManifest, str]:
    text = import_workflow(path)
    return parse_manifest(text.encode(), "afenv.yaml"), "\n".join(
        line for line in text.splitlines() if line.startswith("# TODO: ")
    )


def test_a_snakefile(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "config.yaml").write_text("cut: 2.5\n")
    manifest, todo = imported(tmp_path / "Snakefile")
    select, plot = manifest.steps
    assert select.run == (
        "select {inputs.events} {outputs.hist} --cut {parameters.cut} -j 4 {x}\n"
        "cat {inputs.a} {inputs.b} events.root > {outputs.folder}/x; echo {parameters.tag} {nothing}"
    )
    assert select.inputs == ("events", "a", "b")
    assert select.outputs == {"hist": "gen/hist.root", "folder": "out/"}
    assert select.parameters == {
        "cut": Parameter(type="number", default=2.5),
        "tag": Parameter(type="string", default="two words"),
    }
    assert select.resources == Resources(cores=4, memory=2_000_000_000, time=1800)
    assert (plot.run, plot.inputs) == ("plot {inputs.select.hist} {outputs.output-1}", ("select.hist",))
    assert [one.uri for one in manifest.data] == ["file:events.root", "file:a.txt", "file:b.txt"]
    bases = [manifest.environments[step.environment].oci for step in manifest.steps]
    assert [base.reference for base in bases if base] == [
        "example.org/select:1",
        f"example.org/plot@sha256:{'ab' * 32}",
    ]
    assert not (tmp_path / "ran").exists()
    for said in (
        "lines 3, 4",
        "odd",
        "disk_mb",
        "x.log",
        "{nothing}",
        "wildcards",
        "`script:`",
        "write {inputs.events}",
    ):
        assert said in todo, said


def test_a_recast_entry(tmp_path: Path) -> None:
    (tmp_path / "recast.yml").write_text(RECAST)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/workflow.yml").write_text(WORKFLOW)
    manifest, todo = imported(tmp_path / "recast.yml")
    select, fit = manifest.steps
    assert select.run == "select {inputs.signal} -n {parameters.n} -o {outputs.hist} {x}"
    assert select.outputs == {"hist": "gen/out.root"}
    assert [one.uri for one in manifest.data] == ["root://example.org//signal.root"]
    assert fit.run == "fit {inputs.select.hist} select.gone > fit.json"
    assert (fit.inputs, fit.needs, fit.outputs) == (("select.hist",), ("select",), {"result": "fit.json"})
    assert manifest.metadata.title == "A search"
    for said in ("author: Somebody", "the example other", "CVMFS", "many is not one step", "select.gone"):
        assert said in todo, said
    # what it calls is looked up by reference, too
    (tmp_path / "specs/workflow.yml").write_text(
        "stages: [{name: a, dependencies: [init], scheduler: {scheduler_type: singlestep-stage, "
        "parameters: {}, step: {$ref: 'steps.yml#/nothing'}}}]"
    )
    (tmp_path / "specs/steps.yml").write_text("a: {}\n")
    with pytest.raises(AfenvError, match="E775"):
        import_workflow(tmp_path / "recast.yml")


def test_a_serial_workflow(tmp_path: Path) -> None:
    (tmp_path / "reana.yaml").write_text(
        "inputs: {parameters: {n: 3, unused: 1}, files: [a.py]}\n"
        "workflow:\n  type: serial\n  resources: {cvmfs: [sft.cern.ch], kerberos: true}\n"
        "  specification:\n    steps:\n"
        "      - {name: a b, environment: 'a.org/x:1', kerberos: true, commands: ['a $$HOME ${n}', b]}\n"
        "      - {commands: ['c'], environment: 'example.org/y:1'}\n"
        "outputs: {files: [r.txt]}\ntests: {files: [t.feature]}\n"
    )
    manifest, todo = imported(tmp_path / "reana.yaml")
    first, second = manifest.steps
    assert (first.name, first.run) == ("a-b", "a $HOME {parameters.n} && b")
    assert second.needs == ("a-b",)
    assert set(manifest.environments) == {"default", "y"}
    assert [one.path for one in manifest.environments["default"].cvmfs] == ["/cvmfs/sft.cern.ch"]
    for said in ("kerberos: true", "a.py", "unused", "writes r.txt", "t.feature"):
        assert said in todo, said


@pytest.mark.parametrize("form", [*FORMS, "recast", "snakemake-alone"])
def test_what_was_exported_comes_back(tmp_path: Path, form: str) -> None:
    plan = plan_of(MANIFEST, ("label=it's $HOME",))
    if form == "recast":
        exported, file = recast(plan), "recast.yml"
    elif form == "snakemake-alone":
        exported, file = snakemake(plan), "Snakefile"
    else:
        exported, file = reana(plan, form), "reana.yaml"
    for name, text in exported.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    manifest, _ = imported(tmp_path / file)
    assert [step.name for step in manifest.steps] == ["generate", "select", "count"]
    for step in manifest.steps:
        base = manifest.environments[step.environment].oci
        assert base is not None
        assert base.reference == IMAGE
    defaults = [one.default for one in manifest.steps[1].parameters.values()]
    assert "it's $HOME" in defaults
    if form != "serial":
        assert list(manifest.steps[0].outputs.values()) == ["gen/numbers.txt"]


CIRCLE = """
rule a:
    input: "y"
    output: "x"
    shell: "a"
rule b:
    input: "x"
    output: "y"
    shell: "b"
"""


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("Snakefile", CIRCLE, "E776", "a, b"),
        ("Snakefile", 'rule a:\n    shell: "(\n', "E775", "not a Snakefile"),
        ("Snakefile", "rule all:\n    input: 'x'\n", "E775", "no step"),
        ("Snakefile", b"\xff\xfe", "E775", "UTF-8"),
        ("a.yml", "a: [", "E775", ""),
        ("a.yml", "a: 1", "E775", "neither"),
        ("a.yml", "- 1", "E775", "mapping"),
        ("reana.yaml", "workflow: {type: cwl, file: a.cwl}", "E775", "cwl"),
        ("reana.yaml", "workflow: {type: snakemake, file: gone}", "E001", "No such file"),
        ("recast.yml", "spec: {workflow: w.yml, toplevel: 'github:a/b'}", "E775", "not on this machine"),
        ("gone.yml", None, "E001", "No such file"),
    ],
)
def test_bad_input_is_one_error(tmp_path: Path, name: str, content: Any, code: str, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AfenvError) as caught:
        import_workflow(tmp_path / name)
    assert len(caught.value.problems) == 1
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_manifest_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Snakefile").write_text(
        'rule a:\n    output: "x"\n    container: "docker://a/b:1"\n    shell: "a"\n'
    )
    assert main(["-C", str(tmp_path), "import", "Snakefile"]) == 0
    assert "left to do, see its comments" in capsys.readouterr().err
    assert (tmp_path / "afenv.yaml").is_file()
    assert main(["-C", str(tmp_path), "import", "Snakefile"]) == 2
    assert "E032" in capsys.readouterr().err
    assert main(["-C", str(tmp_path), "import", "--stdout", "Snakefile"]) == 0
    assert "name: a" in capsys.readouterr().out
