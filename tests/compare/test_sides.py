"""What may be compared: runs, folders and archives; and one clear error for what may not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from afenv.archive.index import ArchivedEnvironment, ArchivedFile, ArchiveIndex, dump_index
from afenv.archive.items import of_bytes
from afenv.archive.names import INDEX, MANIFEST
from afenv.archive.write import write_bag
from afenv.cli import main
from afenv.specs import specs_folder

from .conftest import Sides

RUN = next((specs_folder() / "run" / "v1" / "examples").iterdir())


def code(found: dict[str, Any]) -> str:
    return str(found["errors"][0]["code"])


def test_nothing_there(sides: Sides) -> None:
    status, found = sides.run()
    assert (status, code(found)) == (2, "E781")
    sides.write("a", "1", None)
    status, found = sides.run()
    assert (status, code(found)) == (2, "E781")
    shutil.rmtree(sides.second)
    assert code(sides.run()[1]) == "E001"
    sides.second.write_text("x")
    found = sides.run()[1]
    assert code(found) == "E001" and "the folder that the file is in" in str(found)


def test_the_folder_at_hand(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    sides.write("a", "1", "1")
    monkeypatch.chdir(sides.second)
    assert main(["compare", str(sides.first), "."]) == 0
    assert main(["compare", str(sides.first), ".", "-o", "."]) == 2
    assert main(["compare", "/", str(sides.first / "a")]) == 2
    assert main(["verify", "."]) == 2


def test_no_regular_file(sides: Sides) -> None:
    sides.write("a", "1", "1")
    os.mkfifo(sides.first / "pipe")
    status, found = sides.run()
    assert (status, code(found)) == (2, "E782")
    (sides.first / "pipe").unlink()
    (sides.first / "link").symlink_to("..")
    assert code(sides.run()[1]) == "E782"
    (sides.first / "link").unlink()
    (sides.first / "b").symlink_to("a")
    (sides.second / "b").write_text("1")
    assert sides.verdict()["verdict"] == "same"


def test_nothing_in_common(sides: Sides) -> None:
    sides.write("a", "1", None)
    sides.write("b", None, "1")
    assert sides.verdict()["counts"]["different"] == 2
    assert code(sides.run("--common")[1]) == "E781"


def test_without_the_libraries(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    sides.write("a.root", b"root1", b"root2")
    monkeypatch.setitem(sys.modules, "uproot", None)
    status, found = sides.run()
    assert (status, code(found)) == (3, "E783")
    assert found["errors"][0]["message"] == "comparing these results needs uproot"


@pytest.mark.parametrize("words", [("--relative", "-1"), ("--absolute", "nan")])
def test_no_tolerances(sides: Sides, words: tuple[str, str]) -> None:
    status, found = sides.run(*words)
    assert (status, code(found)) == (2, "E030")


def test_a_report_that_cannot_be_written(sides: Sides) -> None:
    sides.write("a", "1", "1")
    status, found = sides.run("-o", "no/such/report.html")
    assert status != 0
    assert code(found).startswith("E4")


def run_folder(folder: Path) -> None:
    """The folder of a run, with the record of the specification's example."""
    shutil.copytree(RUN, folder, dirs_exist_ok=True)
    (folder / "outputs").mkdir()
    (folder / "outputs" / "fit.json").write_text('{"mass": 91.2}')
    (folder / "outputs" / "other.json").write_text('{"mass": 91.2}')
    (folder / "logs").mkdir()
    (folder / "logs" / "fit.log").write_text("now\n")


ENVIRONMENT = ArchivedEnvironment(
    platform="linux/amd64", image_id="sha256:" + "0" * 64, manifest="sha256:" + "0" * 64
)


def archive(place: Path, files: dict[str, bytes], manifest: bytes = b"") -> Path:
    """A bag with reference results, and nothing that can run."""
    items = [of_bytes(f"results/{path}", content, "results") for path, content in files.items()]
    items.append(of_bytes(MANIFEST, manifest, "documents"))
    index = ArchiveIndex(
        name="small",
        version="1",
        written_by="test",
        epoch=0,
        environments={"default": ENVIRONMENT},
        code=(),
        files=_archived(items),
        restricted=(),
        left_out=(),
        notes=(),
    )
    items.append(of_bytes(INDEX, dump_index(index), "documents"))
    write_bag(place, items, {}, b"", part_size=None, advance=lambda _: None)
    return place


def _archived(items: list[Any]) -> Any:
    return tuple(
        ArchivedFile(path=item.path, size=item.size, sha256=item.sha256, part=item.part)
        for item in sorted(items, key=lambda item: item.path)
    )


HEAD = b"afenv: 1\nname: small\nenvironments: {default: {base: {debian: bookworm}}}\n"


def test_a_run_and_an_archive(sides: Sides) -> None:
    shutil.rmtree(sides.first)
    run_folder(sides.first)
    shutil.rmtree(sides.second)
    # the archive holds the folder of a run: its record, and so its outputs alone count
    files = {"record.json": b"{}", "outputs/fit.json": b'{"mass": 91.3}', "logs/fit.log": b"then\n"}
    bag = archive(sides.folder / "bag.zip", files, HEAD + b"compare: [{relative: 0.01}]\n")
    bag.rename(sides.second)
    found = sides.verdict()
    assert (found["first"]["kind"], found["second"]["kind"]) == ("run", "archive")
    outcomes = {file["path"]: file["outcome"] for file in found["files"]}
    assert outcomes == {"fit.json": "same", "other.json": "different"}
    assert found["rules"] == [{"relative": 0.01}]
    assert sides.verdict("--common")["verdict"] == "same"
    sides.rules("  - {relative: 0.0001}\n")  # the manifest at hand goes before that of the archive
    assert sides.verdict("--common")["verdict"] == "different"


def test_an_archive_without_results(sides: Sides) -> None:
    sides.write("a", "1", None)
    shutil.rmtree(sides.second)
    archive(sides.folder / "bag.zip", {}, HEAD).rename(sides.second)
    status, found = sides.run()
    assert (status, code(found)) == (2, "E781")
    assert "--results" in found["errors"][0]["remedy"]


def test_a_damaged_archive(sides: Sides) -> None:
    sides.write("a.json", "1.0", None)
    shutil.rmtree(sides.second)
    archive(sides.folder / "bag", {"a.json": b"12345"}, HEAD).rename(sides.second)
    (sides.second / "data/results/a.json").write_bytes(b"12346")
    status, found = sides.run()
    assert (status, code(found)) == (5, "E721")


def test_an_output_that_was_changed_after_the_run(sides: Sides) -> None:
    import json

    shutil.rmtree(sides.first)
    run_folder(sides.first)
    record = json.loads((sides.first / "record.json").read_text())
    output = next(
        one for step in record["steps"] for one in step.get("outputs", ()) if one["path"][-1] != "/"
    )
    path = sides.first / "outputs" / output["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("changed")
    shutil.copytree(sides.first / "outputs", sides.second, dirs_exist_ok=True)
    found = sides.verdict()
    (file,) = (file for file in found["files"] if file["path"] == output["path"])
    assert file["notes"] == ["the first is not what the record of its run says: it was changed afterwards"]
