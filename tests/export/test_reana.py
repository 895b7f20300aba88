"""``reana.yaml``: what it holds, and that its commands are what the manifest says."""

from __future__ import annotations

import subprocess
from pathlib import Path
from string import Template
from typing import Any

import pytest
from ruamel.yaml import YAML

from afenv.errors import AfenvError
from afenv.export.plan import ExportImage
from afenv.export.reana import reana

from .conftest import IMAGE, KEPT, MANIFEST, NOTEBOOK, plan_of, write_data


def loaded(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_serial(small) -> None:
    exported = reana(small(kerberos=True))
    tree = loaded(exported.files["reana.yaml"])
    assert list(exported.files) == ["reana.yaml"]
    assert tree["inputs"]["files"] == [
        "afenv-data/events/events.txt",
        "afenv-data/many/a.txt",
        "afenv-data/many/deep/b.txt",
    ]
    assert tree["inputs"]["parameters"] == {"n": 5, "label": "it's $HOME {x} 100%", "loud": "true"}
    assert tree["outputs"] == {
        "files": ["gen/numbers.txt", "kept.txt", "n.txt"],
        "directories": ["plots"],
    }
    generate, _, count = tree["workflow"]["specification"]["steps"]
    assert {key: value for key, value in generate.items() if key != "commands"} == {
        "name": "generate",
        "environment": IMAGE,
        "kerberos": True,
        "kubernetes_memory_limit": "287Mi",
        "kubernetes_cpu_request": "2",
        "kubernetes_job_timeout": 600,
    }
    assert count["name"] == "count"


def run_serial(text: str, folder: Path, **chosen: Any) -> None:
    """Do what REANA does: fill in the template, run with bash in the folder that all steps share."""
    tree = loaded(text)
    parameters = {**tree["inputs"].get("parameters", {}), **chosen}
    for step in tree["workflow"]["specification"]["steps"]:
        for command in step["commands"]:
            filled = Template(command).substitute(parameters)
            subprocess.run(["bash", "-c", filled], cwd=folder, check=True)


def test_the_commands_do_what_the_manifest_says(small, tmp_path: Path) -> None:
    write_data(tmp_path)
    text = reana(small()).files["reana.yaml"]
    run_serial(text, tmp_path)
    # /bin/sh has no {1..2}, bash has
    assert (tmp_path / "kept.txt").read_text() in (KEPT + "loud {1..2}\n", KEPT + "loud 1 2\n")
    assert (tmp_path / "n.txt").read_text() == "10\nplot\n"
    nasty = "'\"`id` $(id) \\ ${x}"
    run_serial(text, tmp_path, n=1, label=nasty, loud="false")
    assert (tmp_path / "kept.txt").read_text() == f"1\n2\nevent\na\nb\n{nasty} is {nasty}\n"


def test_code_is_seen_in_the_working_directory(small, tmp_path: Path) -> None:
    code = tmp_path / "code of it"
    (code / "sub").mkdir(parents=True)
    (code / "sub/file").write_text("x")
    (code / ".hidden").write_text("y")
    (code / "n.txt").write_text("is in the code, too")
    work = tmp_path / "work"
    work.mkdir()
    write_data(work)
    images = {name: ExportImage(reference=IMAGE, workdir=str(code)) for name in ("default", "other")}
    run_serial(reana(small(images=images)).files["reana.yaml"], work)
    assert (work / "sub/file").read_text() == "x"
    assert (work / ".hidden").read_text() == "y"


def test_an_entry_point_starts_the_command(tmp_path: Path) -> None:
    starter = tmp_path / "start it"
    starter.write_text('#!/bin/sh\nexport STARTED="with $1"\nshift\nexec "$@"\n')
    starter.chmod(0o755)
    image = ExportImage(reference=IMAGE, entrypoint=(str(starter), "a word"))
    text = MANIFEST.replace('seq 1 "$total"', 'seq 1 "$total"; echo "$STARTED"')
    exported = reana(plan_of(text, images={"default": image, "other": image}))
    write_data(tmp_path)
    run_serial(exported.files["reana.yaml"].replace("seq 1", "echo"), tmp_path, label="it's 'so'; $x")
    assert "with a word" in (tmp_path / "gen/numbers.txt").read_text()
    assert "it's 'so'; $x is it's 'so'; $x\n" in (tmp_path / "kept.txt").read_text()


def test_cvmfs_and_kerberos(small) -> None:
    image = ExportImage(reference=IMAGE, cvmfs=("sft.cern.ch", "atlas.cern.ch"))
    images = {"default": image, "other": ExportImage(reference=IMAGE)}
    tree = loaded(reana(small(images=images, kerberos=True)).files["reana.yaml"])
    assert tree["workflow"]["resources"] == {"cvmfs": ["atlas.cern.ch", "sft.cern.ch"], "kerberos": True}


def test_parameters_of_one_name_stay_apart_where_they_differ(small) -> None:
    text = MANIFEST + "    parameters: {n: {type: integer, default: 7}}\n"
    text = text.replace("wc -l < kept.txt >", "wc -l < kept.txt | head -n {parameters.n} >")
    tree = loaded(reana(plan_of(text)).files["reana.yaml"])
    assert tree["inputs"]["parameters"]["generate_n"] == 5
    assert tree["inputs"]["parameters"]["count_n"] == 7
    tree = loaded(reana(plan_of(text, ("n=3",))).files["reana.yaml"])
    assert tree["inputs"]["parameters"]["n"] == 3


def test_a_notebook_becomes_a_papermill_command() -> None:
    tree = loaded(reana(plan_of(NOTEBOOK)).files["reana.yaml"])
    (step,) = tree["workflow"]["specification"]["steps"]
    filled = Template(step["commands"][0]).substitute(tree["inputs"]["parameters"])
    assert filled.splitlines()[-1] == (
        "python3 -m papermill --no-progress-bar --log-output --cwd . "
        """-y '{"inputs": {}, "outputs": {"result": "fit.json"}}' """
        """-y "mass: $param_mass" -r label "$param_label" -y "fast: $param_fast" fit.ipynb fit.ipynb"""
    )
    assert "param_mass=91.2\n" in filled
    assert "param_fast=false\n" in filled


def test_what_reana_cannot_do_is_said(small) -> None:
    text = MANIFEST.replace("cores: 2", "gpus: 1")
    assert reana(small()).warnings == ()
    (warning,) = reana(plan_of(text)).warnings
    assert "GPU" in warning
    assert "generate" in warning


def test_a_parameter_in_a_literal_here_document_is_an_error() -> None:
    text = MANIFEST.replace(
        'seq 1 "$total" > {outputs.numbers}',
        "cat <<'EOF' > {outputs.numbers}\n      {parameters.n}\n      EOF",
    )
    with pytest.raises(AfenvError) as caught:
        reana(plan_of(text))
    assert caught.value.code == "E772"
    assert "generate" in str(caught.value)


def test_an_output_where_data_is_is_an_error() -> None:
    with pytest.raises(AfenvError) as caught:
        reana(plan_of(MANIFEST.replace("n: n.txt", "n: afenv-data/n.txt")))
    assert caught.value.code == "E772"
