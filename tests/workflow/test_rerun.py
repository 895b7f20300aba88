"""What a rerun does before anything runs: choices, data, the folder; no image is built here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.cli import main
from afenv.documents.data import DataReference
from afenv.errors import AfenvError
from afenv.workflow.project import Project, open_project
from afenv.workflow.rerun_data import Checksums, data_of_run

HEAD = "afenv: 1\nname: small\nenvironments: {default: {base: {debian: bookworm}}}\n"
STEPS = """\
code: [{path: .}]
data: [{name: events, uri: "file:events.txt"}]
steps:
  - {name: select, run: "x {parameters.cut}", inputs: [events], parameters: {cut: {type: number, default: 1}}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without steps."""
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("AFENV_FACILITY", raising=False)
    folder = tmp_path / "project"
    (folder / "many/deep").mkdir(parents=True)
    (folder / "afenv.yaml").write_text(HEAD)
    (folder / "events.txt").write_text("event\n")
    (folder / "many/one.txt").write_text("1")
    (folder / "many/deep/two.txt").write_text("22")
    return open_project(folder, quiet=True)


def _rerun(project: Project, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    status = main(["-q", "-C", str(project.folder), "rerun", "--json", *words])
    errors = json.loads(capsys.readouterr().err)["errors"]
    return status, [f"{error['code']} {error['message']}" for error in errors]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["selct"], "E750 there is no step 'selct'; did you mean 'select'?"),
        (["--param", "select.cit=1"], "E750 the step select has no parameter 'cit'; did you mean 'cut'?"),
        (["--param", "cut=much"], "E750 'much' is not of the type number, which select.cut has"),
        (["--set", "event=x"], "E750 there is no data 'event'; did you mean 'events'?"),
        (["-j", "0"], "E030 0 is not a number of at least 1"),
    ],
)
def test_one_clear_error(
    project: Project, capsys: pytest.CaptureFixture[str], words: list[str], found: str
) -> None:
    project.manifest_path.write_text(HEAD + STEPS)
    assert _rerun(project, capsys, *words) == (2, [found])


def test_no_steps(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert _rerun(project, capsys) == (2, ["E758 the analysis small has no steps"])


def test_a_folder_inside_the_code(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("snakemake")
    project.manifest_path.write_text(HEAD + STEPS)
    status, (error,) = _rerun(project, capsys, "-o", "results")
    assert status == 2
    assert error.startswith("E755 the folder is inside the code")
    assert not (project.folder / "results").exists()


def _data(project: Project, reference: DataReference, **chosen: str) -> Any:
    checksums = Checksums(project.folder / "checksums")
    found = data_of_run(project, [reference], (), [reference.name], chosen, checksums)
    checksums.save()
    return found[reference.name]


def test_local_data(project: Project) -> None:
    digest = "fc3b9c37b2c5bd7ef8fc8e5c3b0d7be1fba07bb9ee9ed4fcff0ac8e28ebdd3ac"
    one = _data(project, DataReference(name="a", uri="file:events.txt", size=6))
    assert [(file.path, file.source, file.size) for file in one.files] == [
        ("events.txt", project.folder / "events.txt", 6)
    ]
    many = _data(project, DataReference(name="a", uri="file:many/"))
    assert [(file.path, file.size) for file in many.files] == [("deep/two.txt", 2), ("one.txt", 1)]
    chosen = _data(project, DataReference(name="a", uri="root://host//x"), a="file:many/one.txt")
    assert (chosen.uri, chosen.files[0].path) == ("file:many/one.txt", "one.txt")
    with pytest.raises(AfenvError) as caught:
        _data(project, DataReference(name="a", uri="file:events.txt", size=7))
    assert caught.value.code == "E302"
    with pytest.raises(AfenvError) as caught:
        _data(project, DataReference(name="a", uri="file:events.txt", checksums={"sha256": digest}))
    assert caught.value.code == "E301"
    with pytest.raises(AfenvError) as caught:
        _data(project, DataReference(name="a", uri="file:nothing.txt"))
    assert caught.value.code == "E001"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server with one file."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served/far.txt").write_text("far away\n")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served")))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def test_data_from_elsewhere(project: Project, server: str) -> None:
    found = _data(project, DataReference(name="a", uri=f"{server}/far.txt"))
    assert found.files[0].source == project.folder / ".afenv/data/a/far.txt"
    assert found.files[0].source.read_text() == "far away\n"
    chosen = _data(project, DataReference(name="a", uri="file:events.txt"), a=f"{server}/far.txt")
    assert chosen.files[0].source.parent.name.startswith("a-")
    assert chosen.files[0].sha256 == found.files[0].sha256
