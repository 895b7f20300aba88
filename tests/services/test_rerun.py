"""Reruns in real runtimes: surroundings, limits, interrupts, notebooks, and the example that is recast."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from afenv.cli import main
from afenv.errors import AfenvError
from afenv.rerun.crate import crate
from afenv.rerun.record import read_record
from afenv.run.choose import ORDER
from afenv.specs import specs_folder
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_image, symlink

from ..rerun.conftest import Analysis
from .conftest import missing, tool

pytestmark = pytest.mark.services

pytest.importorskip("snakemake")

EXAMPLE = specs_folder() / "manifest" / "v1" / "examples" / "recast"
APPLETS = (
    "cat",
    "dd",
    "echo",
    "env",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "seq",
    "sh",
    "sleep",
    "wc",
    "wget",
)
STEPS = """
afenv: 1
name: small
version: "1.0"
metadata: {title: A small analysis, license: MIT}
environments: {default: {base: {debian: bookworm}}, other: {base: {debian: trixie}}}
data:
  - {name: events, uri: "file:events.txt"}
steps:
  - name: first
    run: |
      ls > {outputs.here}; cat /etc/which > {outputs.which}
      cat {inputs.events} {inputs.events} > {outputs.twice}; if echo x >> {inputs.events}; then exit 9; fi
    inputs: [events]
    outputs: {which: first/which.txt, twice: "twice, {and} a space.txt", here: here.txt}
  - name: second
    environment: other
    run: |
      cat {inputs.first.which} first/which.txt /etc/which > {outputs.which}
      mkdir -p plots/deep; echo {parameters.text} > plots/deep/one
      if wget -q -O - http://127.0.0.1:1/; then exit 9; fi
      env > {outputs.variables}
    inputs: [first.which, first.twice]
    outputs: {which: second.txt, plots: plots/, variables: variables.txt}
    parameters: {text: {type: string, default: "it's \\"quoted\\" $HOME; exit 3"}}
    resources: {cores: 1, memory: 100 MB, time: 10m}
"""


@pytest.fixture(params=ORDER)
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each runtime in its turn."""
    name: str = request.param
    monkeypatch.delenv("AFENV_FACILITY", raising=False)
    monkeypatch.setenv("AFENV_RUNTIME", name)
    if name in ("docker", "podman"):
        monkeypatch.setenv(f"AFENV_{name.upper()}", request.getfixturevalue(name))
    else:
        tool("bwrap" if name == "userns" else name)
    return name


def _image(store: ContentStore, which: str) -> Any:
    busybox = shutil.which("busybox")
    if busybox is None:
        missing("busybox")
    layer = (
        folder("bin"),
        Member(path="bin/busybox", content=Path(str(busybox)).read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in APPLETS),
        *(folder(name) for name in ("dev", "etc", "home", "proc", "run", "sys", "var")),
        Member(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n"),
        Member(path="etc/group", content=b"root:x:0:\n"),
        Member(path="etc/which", content=f"{which}\n".encode()),
        folder("tmp", 0o1777),
        folder("var/tmp", 0o1777),
    )
    return make_image(store, [layer], variables={"PATH": "/bin"})


@pytest.fixture
def analysis(tmp_path: Path, store: ContentStore, runtime: str) -> Analysis:
    """An analysis with two environments, in a folder whose name has to be quoted."""
    place = tmp_path / 'an analysis, "quoted": it\'s {here}'
    place.mkdir()
    found = Analysis(place, store)
    found.text = STEPS
    found.images = {name: _image(store, name) for name in ("default", "other")}
    return found


def test_steps_in_environments_of_their_own(analysis: Analysis, runtime: str) -> None:
    record = analysis.run()
    assert record["status"] == "complete"
    assert analysis.output("first/which.txt") == "default\n"
    assert analysis.output("second.txt") == "default\ndefault\nother\n"
    assert analysis.output("twice, {and} a space.txt") == "event\nevent\n"
    assert (analysis.place / "events.txt").read_text() == "event\n"
    assert analysis.output("plots/deep/one") == 'it\'s "quoted" $HOME; exit 3\n'
    assert analysis.output("here.txt").split() == ["first", "here.txt"]
    assert "AFENV" not in analysis.output("variables.txt")
    owners = {path.stat().st_uid for path in analysis.run_folder.path.rglob("*")}
    assert owners == {os.getuid()}
    first, second = record["steps"]
    for step, image in ((first, "default"), (second, "other")):
        assert step["image"]["image_id"] == analysis.images[image].image_id
        assert step["runtime"] == runtime
        assert step["exit_status"] == 0
        assert step["memory"]["peak"] > 100_000
    assert second["limits_kept"] == {
        "cores": runtime in ("docker", "podman"),
        "memory": runtime in ("docker", "podman"),
        "time": True,
    }
    assert analysis.plan().stale == ()
    again = analysis.run(params=("text=other",))
    assert analysis.ran() == ["second"]
    assert again["steps"][0] == first


LONG = """
afenv: 1
name: long
environments: {default: {base: {debian: bookworm}}}
steps:
  - name: waits
    run: "echo half > {outputs.o}; echo begun; COMMAND"
    outputs: {o: o.txt}
    resources: RESOURCES
"""


def test_an_interrupt_ends_the_container(analysis: Analysis, runtime: str) -> None:
    analysis.text = LONG.replace("COMMAND", "sleep 987").replace("RESOURCES", "{time: 1h}")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            analysis.run()
        except KeyboardInterrupt:
            status = 130
        finally:
            os._exit(status)
    try:
        log = analysis.run_folder.log("waits")
        for _ in range(600):
            if log.exists() and "begun" in log.read_text():
                break
            time.sleep(0.1)
        assert "begun" in log.read_text()
        os.kill(child, signal.SIGINT)
    finally:
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert not _processes("sleep 987")
    assert read_record(analysis.run_folder.path)["steps"][0]["status"] == "interrupted"
    assert not (analysis.run_folder.path / "outputs/o.txt").exists()
    analysis.text = LONG.replace("COMMAND", "echo x").replace("RESOURCES", "{time: 1h}")
    assert analysis.run()["status"] == "complete"


def _processes(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if line.startswith(text):
            found.append(line)
    return found


def test_limits(analysis: Analysis, runtime: str) -> None:
    analysis.text = LONG.replace("COMMAND", "sleep 986").replace("RESOURCES", "{time: 2s}")
    with pytest.raises(AfenvError, match="ended after 2 s, its longest time") as caught:
        analysis.run()
    assert caught.value.code == "E756"
    assert not _processes("sleep 986")
    if runtime in ("docker", "podman"):
        eats = "dd if=/dev/zero of=/dev/null bs=300M count=1"
        analysis.text = LONG.replace("COMMAND", eats).replace("RESOURCES", "{memory: 50 MB}")
        with pytest.raises(AfenvError, match="more memory than") as caught:
            analysis.run()
        assert caught.value.code == "E756"


def test_a_command_that_is_not_there(analysis: Analysis, runtime: str) -> None:
    analysis.text = LONG.replace("COMMAND", "root -b").replace("RESOURCES", "{time: 1h}")
    with pytest.raises(AfenvError, match="ended with status 127") as caught:
        analysis.run()
    assert "root" in caught.value.problems[0].message


def _json_of(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Path]:
    """A copy of the example that can be recast."""
    shutil.copytree(EXAMPLE, tmp_path / "recast")
    return tmp_path / "recast"


def test_the_example_recast(
    example: Path, engines: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runtimes give the same numbers; another signal gives others; the crate is a valid one."""
    monkeypatch.chdir(example)
    for name in ("docker", "userns"):
        assert main(["-q", "rerun", "--runtime", name, "-o", f"../{name}"]) == 0
    one, two = (example.parent / name for name in ("docker", "userns"))
    for path in ("mass.json", "fit.json"):
        assert (one / "outputs" / path).read_bytes() == (two / "outputs" / path).read_bytes()
    mass = _json_of(one / "outputs/fit.json")["parameters"]["mass"]
    assert abs(mass["value"] - 91.2) < 3 * mass["error"]
    record = read_record(one)
    steps = {step["name"]: step for step in record["steps"]}
    assert steps["select"]["image"] == steps["generate"]["image"] != steps["fit"]["image"]
    assert record["data"][0]["files"][0]["path"] == "detector.json"
    capsys.readouterr()
    recast = ["--param", "generate.mass=150", "--param", "fit.near=150"]
    assert main(["-q", "rerun", "--runtime", "userns", *recast]) == 0
    other = Path(capsys.readouterr().out.strip())
    assert other.parent == example / ".afenv/runs"
    found = _json_of(other / "outputs/fit.json")["parameters"]["mass"]
    assert abs(found["value"] - 150) < 3 * found["error"]
    assert read_record(other)["chosen"]["parameters"] == ["fit.near=150", "generate.mass=150"]
    (example.parent / "coarse.json").write_text('{"resolution": 0.03, "acceptance": 2.4}')
    data = ["--set", "detector=../coarse.json"]
    assert main(["-q", "rerun", "--runtime", "userns", *data, "--dry-run", "-o", "../userns"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "generate: runs, as the input detector is another one"
    assert main(["-q", "rerun", "--runtime", "userns", *data, "-o", "../userns"]) == 0
    coarse = _json_of(two / "outputs/fit.json")["parameters"]["mass"]
    assert coarse["error"] > 1.2 * mass["error"]
    _check_crate(one)


PROVENANCE = "provenance-run-crate-0.5"  # and with it those on which it stands
WORKFLOW = "workflow-run-crate-0.5"


def _validated(place: Path, profile: str) -> list[str]:
    """What roc-validator says that the profile demands and the crate lacks."""
    pytest.importorskip("rocrate_validator")
    command = [sys.executable, str(Path(__file__).with_name("rocrate_offline.py")), str(place), profile]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.partition("RESULT ")[2])
    return found[profile]


def _as_run(record: Mapping[str, Any], place: Path) -> Path:
    """A folder with the crate of a record, and files in the place of those that it names."""
    found = crate(record, {"title": "A run", "license": "MIT"})
    for entity in found["@graph"]:
        kinds = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        if "File" in kinds and not entity["@id"].startswith("#"):
            path = place / unquote(entity["@id"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x\n")
        elif "Dataset" in kinds:
            (place / unquote(entity["@id"])).mkdir(parents=True, exist_ok=True)
    (place / "ro-crate-metadata.json").write_text(json.dumps(found))
    return place


@pytest.mark.parametrize("which", ["examples/small", "vectors/valid/failed"])
def test_the_crate_of_a_record_is_valid(tmp_path: Path, which: str) -> None:
    """Of a run that is complete, of one with a failure and steps that never ran, and of one that ran none."""
    record = read_record(specs_folder() / "run/v1" / which)
    place = _as_run(record, tmp_path / "run")
    assert _validated(place, PROVENANCE) == []
    kept = ("command", "environment", "image", "name", "needs", "parameters", "runtime")
    steps = [{key: step[key] for key in kept} | {"status": "not-run"} for step in record["steps"]]
    none = {**record, "status": "incomplete", "steps": steps}
    place = _as_run(none, tmp_path / "none")
    assert _validated(place, WORKFLOW) == []
    # that it can find something
    metadata = json.loads((place / "ro-crate-metadata.json").read_text())
    graph = [entity for entity in metadata["@graph"] if entity["@id"] != "#run"]
    (place / "ro-crate-metadata.json").write_text(json.dumps(metadata | {"@graph": graph}))
    assert "mainEntity as its instrument" in str(_validated(place, WORKFLOW))


def _check_crate(place: Path) -> None:
    """roc-validator finds nothing that a Provenance Run Crate must have missing; rocrate reads it."""
    pytest.importorskip("rocrate")
    from rocrate.rocrate import ROCrate

    assert _validated(place, PROVENANCE) == []
    read = ROCrate(place)
    actions = {entity["name"]: entity for entity in read.get_by_type("CreateAction")}
    assert {"Step generate", "Step select", "Step fit"} < actions.keys()
    image = actions["Step fit"]["containerImage"]
    assert image["identifier"] == read_record(place)["steps"][2]["image"]["image_id"]
    assert actions["Step fit"]["result"]["sha256"] == read_record(place)["steps"][2]["outputs"][0]["sha256"]


NOTEBOOK_MANIFEST = """
afenv: 1
name: notebook
code: [{path: code}]
environments:
  default:
    base: {debian: bookworm, packages: [python3]}
    pypi: {dependencies: [papermill, ipykernel]}
steps:
  - {name: numbers, run: "seq 1 10 > {outputs.o}", outputs: {o: numbers.txt}}
  - name: sum
    notebook: sum.ipynb
    inputs: [numbers.o]
    outputs: {total: total.txt}
    parameters: {power: {type: integer, default: 1}, label: {type: string, default: "it's"}}
  - name: look
    run: grep -c papermill {inputs.sum.notebook} > {outputs.o}
    inputs: [sum.notebook]
    outputs: {o: n.txt}
"""
NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {"tags": ["parameters"]},
         "outputs": [], "source": "power, label, inputs, outputs = 0, '', {}, {}"},
        {"cell_type": "code", "execution_count": None, "id": "b", "metadata": {}, "outputs": [],
         "source": "total = sum(int(line) ** power for line in open(inputs['numbers.o']))\n"
                   "open(outputs['total'], 'w').write(f'{label} {total}')"},
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}  # fmt: skip


def test_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/sum.ipynb").write_text(json.dumps(NOTEBOOK))
    (tmp_path / "afenv.yaml").write_text(NOTEBOOK_MANIFEST)
    monkeypatch.chdir(tmp_path)
    assert main(["-q", "rerun", "--runtime", "userns"]) == 0
    outputs = tmp_path / ".afenv/runs/default/outputs"
    assert (outputs / "total.txt").read_text() == "it's 55"
    assert int((outputs / "n.txt").read_text()) > 0
    executed = json.loads((outputs / "sum.ipynb").read_text())
    assert all(cell["execution_count"] for cell in executed["cells"])
    assert main(["-q", "rerun", "--runtime", "userns", "--param", "sum.power=2"]) == 0
    (recast,) = (tmp_path / ".afenv/runs").glob("recast-*")
    assert (recast / "outputs/total.txt").read_text() == "it's 385"
    # one that fails
    (tmp_path / "code/sum.ipynb").write_text(json.dumps(NOTEBOOK).replace("total = ", "total = nothing + "))
    capsys.readouterr()
    assert main(["-q", "rerun", "--runtime", "userns"]) == 1
    said = capsys.readouterr().err
    assert "error E752: the step sum ended with status 1" in said
    assert "name 'nothing' is not defined" in said
    assert not (outputs / "total.txt").exists()


CHECKED = """
afenv: 1
name: checked
version: "1"
environments: {default: {base: {debian: bookworm, packages: [coreutils, dash]}}}
steps:
  - name: numbers
    run: seq 1 {parameters.n} > {outputs.o}
    outputs: {o: numbers.txt}
    parameters: {n: {type: integer, default: 5}}
  - name: count
    run: echo "{\\"lines\\":" $(wc -l < {inputs.numbers.o})} > {outputs.o}
    inputs: [numbers.o]
    outputs: {o: count.json}
"""


def test_an_archive_is_rerun_elsewhere_and_checked_against_its_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing of the place that made it but the bag; and another value is told from the old ones."""
    tool("bwrap")
    made, other = tmp_path / "made", tmp_path / "other"
    made.mkdir()
    other.mkdir()
    (made / "afenv.yaml").write_text(CHECKED)
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("AFENV_RUNTIME", "userns")
    monkeypatch.chdir(made)
    assert main(["-q", "rerun"]) == 0
    assert (made / ".afenv/runs/default/outputs/count.json").read_text() == '{"lines": 5}\n'
    quick = ["--no-sif", "--without-afenv"]
    assert main(["-q", "archive", *quick, "--results", ".afenv/runs/default", "-o", "../other/kept.zip"]) == 0
    made.rename(tmp_path / "gone")
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "another cache"))
    monkeypatch.chdir(other)
    assert main(["-q", "--offline", "restore", "kept.zip", "--to", "project", "-o", "again"]) == 0
    monkeypatch.chdir(other / "again")
    capsys.readouterr()
    check = ["-q", "--offline", "rerun", "--check", "../kept.zip"]
    assert main(check) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("same (")
    run = other / "again/.afenv/runs/default"
    found = _json_of(run / "comparison.json")
    assert (found["verdict"], found["second"]["kind"]) == ("same", "archive")
    assert {file["path"]: file["outcome"] for file in found["files"]} == {
        "numbers.txt": "identical",
        "count.json": "identical",
    }
    assert {step["runtime"] for step in read_record(run)["steps"]} == {"userns"}
    assert main([*check, "--param", "n=6", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "different"
    assert {file["path"]: file["outcome"] for file in found["files"]} == {
        "numbers.txt": "different",
        "count.json": "different",
    }
