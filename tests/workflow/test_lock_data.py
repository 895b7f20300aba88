"""Data in the lock: what ``afenv lock`` writes of it, and what ``--check`` notices."""

from __future__ import annotations

from typing import Any

DATA = """\
data:
  - {name: events, uri: "root://eos.example.org//eos/events.root", checksums: ["adler32:1a2b3c4d"]}
  - {name: record, uri: "doi:10.5281/zenodo.1"}
"""


def test_data_is_locked_and_said_not_to_be_pinned(world: Any) -> None:
    manifest = world.project / "afenv.yaml"
    text = manifest.read_text()
    assert world.afenv("lock")[0] == 0
    before = world.lock()
    assert "data" not in before

    manifest.write_text(text + DATA)
    status, _, err = world.afenv("lock", "--check")
    assert status == 1
    assert "the data events is not locked" in err
    status, _, err = world.afenv("lock")
    assert status == 0
    assert "not pinned: events, record" in err
    lock = world.lock()
    assert [entry["name"] for entry in lock["data"]] == ["events", "record"]
    assert lock["data"][0]["files"] == [
        {
            "checksums": {"adler32": "1a2b3c4d"},
            "path": "events.root",
            "uris": ["root://eos.example.org//eos/events.root"],
        }
    ]
    assert lock | {"data": None} == before | {"data": None}  # nothing else has changed
    assert world.afenv("lock", "--check")[0] == 0
    shown = world.afenv_json("lock")
    assert shown["data"]["events"] == {"files": 1, "pinned": False}

    manifest.write_text(text + DATA.replace("1a2b3c4d", "1a2b3c4e"))
    status, _, err = world.afenv("lock", "--check")
    assert status == 1
    assert "the data events has changed in the manifest" in err


def test_data_does_not_change_the_image(world: Any) -> None:
    first = world.afenv_json("build")
    manifest = world.project / "afenv.yaml"
    manifest.write_text(manifest.read_text() + DATA)
    assert world.afenv_json("build")[0]["image_id"] == first[0]["image_id"]


def test_the_verdict_knows_where_the_data_is(world: Any) -> None:
    """What the lock knows of data decides at a facility whose jobs have no network."""
    manifest = world.project / "afenv.yaml"
    manifest.write_text(manifest.read_text() + DATA)
    assert world.afenv("lock")[0] == 0
    profile = "afenv-facility: 1\nname: cold\nnetwork: none\n"
    world.write("facility.yaml", profile + "data: []\n")
    status, out, _ = world.afenv("check", "--facility", "facility.yaml", "--no-content")
    assert status == 1
    assert "the data events is at root://eos.example.org//eos/events.root" in out
    assert "where the files of the data record are was not looked up" in out
    proxy = 'data-proxies: [{prefix: "root://", replacement: "root://xcache.example.org//root://"}]\n'
    world.write("facility.yaml", profile + proxy)
    status, out, _ = world.afenv("check", "--facility", "facility.yaml", "--no-content")
    assert status == 0
    assert "data events" not in out
