"""``afenv export`` of steps from the command line: images, data, what is in the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

DIGEST = "ab" * 32
REF = f"registry.example.org/group/small@sha256:{DIGEST}"
STEPS = """
data:
  - {name: events, uri: "file:events.txt"}
  - {name: far, uri: "https://example.org/far.root", size: 3}
  - {name: loose, uri: "doi:10.5281/zenodo.1"}
steps:
  - name: count
    run: wc -l {inputs.events} {inputs.far} > {outputs.n} && echo {parameters.k}
    inputs: [events, far]
    outputs: {n: n.txt}
    parameters: {k: {type: integer, default: 1}}
"""


@pytest.fixture
def locked(world: Any) -> Any:
    """The world with steps, locked."""
    world.write("events.txt", "one\n")
    world.write("afenv.yaml", (world.project / "afenv.yaml").read_text() + STEPS)
    assert world.afenv("lock")[0] == 0
    return world


def test_documents_and_data_are_in_a_folder(locked: Any) -> None:
    status, out, err = locked.afenv("export", "reana", "--image", REF)
    assert status == 0, err
    folder = locked.project / ".afenv/export/reana"
    assert out.strip() == str(folder)
    text = (folder / "reana.yaml").read_text()
    assert f"environment: {REF}" in text
    assert "for file in /analysis/*" in text
    assert (folder / "afenv-data/events/events.txt").read_text() == "one\n"
    assert f"`afenv data fetch far -o {folder}/afenv-data`" in err
    # once more, over what an export wrote
    assert locked.afenv("export", "reana", "--image", f"default={REF}", "--form", "snakemake")[0] == 0
    assert (folder / "Snakefile").is_file()
    for engine, file in (
        ("recast", "specs/workflow.yml"),
        ("cwl", "workflow.cwl"),
        ("snakemake", "Snakefile"),
        ("htcondor", "analysis.dag"),
    ):
        assert locked.afenv("export", engine, "--image", REF, "-o", f"out/{engine}")[0] == 0
        assert (locked.project / "out" / engine / file).is_file()


def test_the_image_is_where_it_was_pushed_to(locked: Any) -> None:
    status, _, err = locked.afenv("export", "cwl")
    assert (status, "E770" in err) == (2, True)
    (built,) = locked.afenv_json("build")
    status, _, err = locked.afenv("export", "cwl")
    assert (status, "was not pushed" in err) == (2, True)
    from afenv.workflow.pushed import note_pushed

    note_pushed(locked.project, "registry.example.org:5000/group/name:v1", built["manifest_digest"])
    status, _, err = locked.afenv("export", "cwl")
    assert status == 0, err
    text = (locked.project / ".afenv/export/cwl/workflow.cwl").read_text()
    assert f"dockerPull: registry.example.org:5000/group/name@{built['manifest_digest']}\n" in text


def test_every_image_that_is_not_known_is_named(locked: Any) -> None:
    text = (locked.project / "afenv.yaml").read_text()
    other = "  other: {base: {debian: bookworm, packages: [python3]}, bytecode: false}\ndata:"
    step = "  - {name: more, environment: other, run: 'echo > {outputs.o}', outputs: {o: o.txt}}\n"
    locked.write("afenv.yaml", text.replace("data:", other, 1) + step)
    assert locked.afenv("lock")[0] == 0
    status, _, err = locked.afenv("export", "cwl")
    assert (status, err.count("error E770")) == (2, 2)
    assert "environment default " in err and "environment other " in err


def test_push_notes_where_to(locked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from afenv.cli import command_push
    from afenv.workflow.pushed import pushed_to

    (built,) = locked.afenv_json("build")
    monkeypatch.setattr(command_push, "push_layout", lambda *_, **__: built["manifest_digest"])
    status, _, err = locked.afenv("push", built["path"], "registry.example.org/name:v2")
    assert status == 0, err
    assert pushed_to(locked.project, built["manifest_digest"]) == "registry.example.org/name:v2"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("cwl", "--image", "registry.example.org/name:v1"), "E771", "has no digest"),
        (("cwl", "--image", f"other={REF}"), "E031", "no step uses"),
        (("cwl", "--image", REF, "--param", "k=x"), "E750", "integer"),
        (("cwl", "--image", REF, "--form", "serial"), "E030", "--form"),
        (("cwl", "--image", REF, "--kerberos"), "E030", "--kerberos"),
        (("pixi", "--image", REF), "E030", "--image"),
    ],
)
def test_wrong_options_are_one_error(locked: Any, arguments: Any, code: str, words: str) -> None:
    status, out, err = locked.afenv("export", *arguments)
    assert (status, out) == (2, "")
    assert f"error {code}: " in err
    assert words in err


def test_what_is_not_ours_stays(locked: Any) -> None:
    locked.write("mine/Snakefile", "rule all:\n")
    status, _, err = locked.afenv("export", "snakemake", "--image", REF, "-o", "mine")
    assert (status, "E774" in err) == (2, True)
    status, _, err = locked.afenv("export", "snakemake", "--image", REF, "-o", "afenv.yaml")
    assert (status, "E774" in err) == (2, True)
    assert (locked.project / "mine/Snakefile").read_text() == "rule all:\n"
    assert not (locked.project / "mine/config.yaml").exists()


def test_what_is_not_locked_is_not_exported(world: Any, locked: Any) -> None:
    text = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", text.replace("dependencies: [alpha, beta]", "dependencies: [alpha]"))
    assert "E021" in world.afenv("export", "cwl", "--image", REF)[2]
    (world.project / "afenv.lock").unlink()
    assert "E020" in world.afenv("export", "cwl", "--image", REF)[2]
    world.write("afenv.yaml", text.replace(STEPS, ""))
    assert "E758" in world.afenv("export", "cwl", "--image", REF)[2]


def test_data_that_nobody_looked_up(locked: Any) -> None:
    text = (
        (locked.project / "afenv.yaml")
        .read_text()
        .replace("inputs: [events, far]", "inputs: [events, far, loose]")
    )
    locked.write("afenv.yaml", text)
    assert locked.afenv("lock")[0] == 0
    status, _, err = locked.afenv("export", "cwl", "--image", REF)
    assert (status, "E773" in err) == (2, True)
    (locked.project / "events.txt").unlink()
    locked.write("afenv.yaml", text.replace(", loose]", "]"))
    assert "E001" in locked.afenv("export", "cwl", "--image", REF)[2]


def test_the_code_of_a_built_image_is_known_exactly(locked: Any) -> None:
    (built,) = locked.afenv_json("build")
    assert json.loads((locked.project / "afenv.lock").read_bytes())
    assert locked.afenv("export", "htcondor", "--image", REF)[0] == 0
    script = (locked.project / ".afenv/export/htcondor/count.sh").read_text()
    assert built["environment"] == "default"
    assert "for file in /analysis/*" in script
