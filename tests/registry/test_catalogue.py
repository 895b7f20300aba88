# ruff: noqa: E501 -- words of commands in rows
"""Catalogues in a registry: added to, read, removed from and refreshed, by several writers at once, and offline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from afenv.attest.keys import PublicKey, generate_key, load_private
from afenv.attest.provenance import provenance
from afenv.catalogue.file import Catalogue
from afenv.catalogue.merge import Contents, contents_of, merged, with_records, without_records
from afenv.catalogue.record import ImageRecord
from afenv.catalogue.remote import Writer, prune, versions
from afenv.catalogue.signed import TrustedKey
from afenv.cli import main
from afenv.documents.lock import LockedFile, LockedGpu, LockedWheel
from afenv.documents.lockfile import dump_lock
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.attached import Attachment
from afenv.oci.referrers import fallback_tag
from afenv.record import replace
from afenv.specs import specs_folder
from afenv.store.content import ContentStore
from afenv.testing import make_foreign_image, make_image, make_lock
from afenv.workflow.push import publish

FACILITY = specs_folder() / "facility" / "v1" / "examples" / "cloud-gpu" / "facility.yaml"
CATALOGUE = "team/catalogue"


class Hall:
    """A folder with keys, a registry, and the command line."""

    def __init__(self, folder: Path, registry: Any, capsys: Any, store: ContentStore) -> None:
        self.folder, self.registry, self.capsys, self.store = folder, registry, capsys, store
        self.private, self.public = generate_key()
        (folder / "k.pem").write_bytes(self.private)
        (folder / "k.pub").write_bytes(self.public)
        self.where = f"{registry.host}/{CATALOGUE}"

    def afenv(self, *words: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        status = main(["-C", str(self.folder), *words])
        out, err = self.capsys.readouterr()
        return status, out, err

    def json(self, *words: str, status: int = 0) -> Any:
        found, out, err = self.afenv(*words, "--json")
        assert found == status, err
        return json.loads(out)

    def change(self, action: str, *words: str, status: int = 0) -> Any:
        return self.json(
            "catalogue", action, *words, "--catalogue", self.where, "--key", "k.pem", status=status
        )

    def read(self, action: str, *words: str, status: int = 0) -> Any:
        before = ("select",) if action == "select" else ("catalogue", action)
        return self.json(*before, *words, "--catalogue", self.where, "--trust", "k.pub", status=status)

    def push(
        self, name: str, tag: str = "1.0", *, gpu: bool = False, number: int = 0, bare: bool = False
    ) -> str:
        """Push an image with its lock and provenance; the reference."""
        wheel = LockedWheel(
            name="jupyterhub",
            version=f"5.{number}.0",
            file=LockedFile(urls=("https://example.org/j.whl",), size=1, sha256="1" * 64),
        )
        needs: dict[str, Any] = {"wheels": (wheel,), "virtual_packages": {"__glibc": "2.36"}}
        if gpu:
            needs["gpu"] = LockedGpu(
                cuda=">=12",
                architectures=("9.0",),
                least_cuda="12.0",
                least_driver="525",
                full_driver="550.54.14",
                toolkit="12.4",
            )
        lock = replace(
            make_lock(**needs),
            name=name,
            metadata={"title": f"The {name}", "authors": [{"name": "A. Author"}]},
        )
        image = make_image(self.store, created=1735689600 + number, **needs)
        image = _renamed(image, name, self.store)
        statement = provenance(
            lock, "default", manifest_digest=image.manifest_digest, image_id=image.image_id,
            created="2026-01-01T00:00:00Z", documents={}, byproducts={}, builder="https://ci.example.org",
        )  # fmt: skip
        attachments = [
            Attachment(
                artifact_type=media.LOCK, media_type=media.LOCK, title="afenv.lock", content=dump_lock(lock)
            ),
            Attachment(
                artifact_type=media.IN_TOTO, media_type=media.IN_TOTO, title="p.json", content=statement
            ),
        ]
        reference = f"{self.registry.host}/team/{name}:{tag}"
        publish(image, self.store, reference, [] if bare else attachments, quiet=True)
        return reference


def _renamed(image: Any, name: str, store: ContentStore) -> Any:
    """The image with another name of the analysis in its labels."""
    from afenv import canonical
    from afenv.oci.read import image_from

    config = json.loads(image.config)
    config["config"]["Labels"][media.ANALYSIS] = name
    content = canonical.compact(config)
    manifest = json.loads(image.manifest)
    manifest["config"] |= {"digest": store.put(content), "size": len(content)}
    return image_from(content, canonical.compact(manifest), "", "")


@pytest.fixture
def hall(
    tmp_path: Path, registry: Any, capsys: Any, store: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> Hall:
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("AFENV_CATALOGUE", "AFENV_CATALOGUE_TRUST", "AFENV_CATALOGUE_KEY"):
        monkeypatch.delenv(name, raising=False)
    return Hall(tmp_path, registry, capsys, store)


def test_what_a_record_says_of_an_image(hall: Hall) -> None:
    reference = hall.push("dimuon", gpu=True)
    made = hall.change("add", reference, "--name", "team", "--cvmfs", "/cvmfs/unpacked.cern.ch/x")
    assert (made["name"], made["serial"], made["count"]) == ("team", 1, 1)
    (record,) = made["added"]
    assert (
        record["name"] == "dimuon"
        and record["reference"] == reference
        and record["platform"] == "linux/amd64"
    )
    needs = record["needs"]
    assert needs["jupyterhub"] == "5.0.0" and needs["glibc"] == "2.36" and needs["level"] == "x86-64-v1"
    assert needs["gpu"]["least-driver"] == "525" and "code" not in needs["gpu"]
    assert record["metadata"] == {"title": "The dimuon", "authors": ["A. Author"]}
    assert record["origin"]["builder"] == "https://ci.example.org"
    assert set(record["attached"]) == {"lock", "provenance"}
    assert [form["form"] for form in record["forms"]] == ["oci", "cvmfs"]
    assert record["forms"][0]["size"] > 0 and record["layers"] == 2 and record["compression"] == ["gzip"]
    (listed,) = hall.read("list")["records"]
    assert listed == record


def test_the_content_is_read_once_and_then_known(hall: Hall) -> None:
    reference = hall.push("dimuon")
    (first,) = hall.change("add", reference)["added"]
    assert "unpacked" not in first
    (second,) = hall.change("add", reference, "--content")["added"]
    assert second["unpacked"] == 16  # the two small files of the image
    (third,) = hall.change("add", reference)["added"]
    assert third["unpacked"] == second["unpacked"]
    assert hall.read("list")["count"] == 1


def test_an_image_of_another_tool(hall: Hall) -> None:
    from afenv_registry.client import RegistryClient

    image = make_foreign_image(
        hall.store,
        [[]],
        settings={
            "Env": ["CUDA_VERSION=12.4.1"],
            "Labels": {"org.opencontainers.image.title": "Other\n\x1b[31mtool"},
        },
    )
    RegistryClient().push(image, hall.store, f"{hall.registry.host}/other/tool:2", quiet=True)
    (record,) = hall.change("add", f"{hall.registry.host}/other/tool:2")["added"]
    assert record["name"] == "tool" and record["metadata"]["title"] == "Other [31mtool"
    assert record["needs"]["packages"] is False and record["needs"]["gpu"]["toolkit"] == "12.4"


def test_adding_again_changes_nothing(hall: Hall) -> None:
    reference = hall.push("dimuon")
    one, other = hall.change("add", reference), hall.change("add", reference)
    assert (one["serial"], one["digest"]) == (other["serial"], other["digest"])


def test_select(hall: Hall) -> None:
    plain, needing = hall.push("plain"), hall.push("fit", gpu=True)
    newer = hall.push("plain", "1.1", number=1)
    hall.change("add", plain, needing, newer)
    found = hall.read("select", "--facility", str(FACILITY))
    assert {one["record"]["name"] for one in found["candidates"]} == {"plain", "fit"}
    (first,) = [one for one in found["candidates"] if one["record"]["name"] == "plain"]
    assert first["record"]["reference"] == newer and first["older"] == 1
    assert first["reference"] == f"{newer}@{first['record']['digest']}"
    every = hall.read("select", "--facility", str(FACILITY), "--all", "plain")
    assert len(every["candidates"]) == 2 and every["others"] == 1
    none = hall.read("select", "--facility", str(FACILITY), "--all", "--gpu", "none", "fit", status=1)
    assert none["candidates"] == [] and none["rest"][0]["reasons"][0]["rule"] == "gpu"
    strict = hall.read("select", "--facility", str(FACILITY), "--strict", "fit", status=1)
    assert strict["cannot"] == 1
    status, out, err = hall.afenv(
        "select", "--facility", str(FACILITY), "--catalogue", hall.where, "--trust", "k.pub", "-q", "plain"
    )
    assert status == 0 and out.startswith(f"{newer}@sha256:") and len(out.splitlines()) == 1 and err == ""
    status, out, _ = hall.afenv(
        "select", "--facility", str(FACILITY), "--catalogue", hall.where, "--trust", "k.pub"
    )
    assert status == 0 and "3 of 3 images run at cloud:" in out and "; 1 older" in out
    status, _, err = hall.afenv(
        "select", "--facility", str(FACILITY), "--catalogue", hall.where, "--trust", "k.pub", "plane"
    )
    assert status == 1 and "E624" in err and "did you mean 'plain'?" in err


def test_the_same_verdict_as_check(hall: Hall, tmp_path: Path) -> None:
    reference = hall.push("fit", gpu=True)
    hall.change("add", reference)
    status, _, err = hall.afenv("pull", reference, "-o", "fit.oci")
    assert status == 0, err
    for folder in sorted((specs_folder() / "facility" / "v1" / "examples").iterdir()):
        profile = str(folder / "facility.yaml")
        status, out, _ = hall.afenv("check", "fit.oci", "--facility", profile, "--no-content", "--json")
        (checked,) = json.loads(out)
        found = hall.read("select", "--facility", profile, "--all", status=status)
        (one,) = found["candidates"] + found["rest"]
        assert one["outcome"] == checked["outcome"], folder.name
        rules = {reason["rule"] for reason in one["reasons"]} - {"registry"}
        # what is attached is not in the layout that was pulled, but what decides is in its labels
        assert {reason["rule"] for reason in checked["reasons"]} ^ rules <= {
            "jupyterhub",
            "gpu.binary",
            "gpu.driver",
            "gpu.architecture",
            "gpu.features",
            "runtime.nv-glibc",
            "cpu-level",
        }


def test_remove(hall: Hall) -> None:
    one, other = hall.push("one"), hall.push("other")
    hall.change("add", one, other)
    gone = hall.change("remove", "one")
    assert gone["count"] == 1 and gone["removed"][0].startswith(f"{hall.registry.host}/team/one@sha256:")
    status, _, err = hall.afenv("catalogue", "remove", "one", "--catalogue", hall.where, "--key", "k.pem")
    assert status == 1 and "E624" in err
    back = hall.change("add", one)
    assert back["count"] == 2
    digest = back["added"][0]["digest"]
    assert hall.change("remove", f"{hall.registry.host}/team/one@{digest}")["count"] == 1


def test_refresh_finds_what_is_gone_or_another(hall: Hall) -> None:
    kept, moved, gone = hall.push("kept"), hall.push("moved"), hall.push("gone")
    damaged = hall.push("damaged")
    hall.change("add", kept, moved, gone, damaged)
    assert {one["state"] for one in hall.change("refresh")["images"]} == {"same"}
    new = hall.push("moved", number=3)
    manifests = hall.registry.manifests
    for key in [key for key in manifests if key[0] == "team/gone"]:
        del manifests[key]
    for key in [key for key in manifests if key[0] == "team/damaged" and key[1].startswith("sha256:")]:
        manifests[key] += b" "
    del manifests["team/damaged", "1.0"]
    found = {
        one["reference"].split("/")[2].split(":")[0]: one
        for one in hall.change("refresh", status=1)["images"]
    }
    assert {name: one["state"] for name, one in found.items()} == {
        "kept": "same", "moved": "moved", "gone": "vanished", "damaged": "changed",
    }  # fmt: skip
    assert new and found["moved"]["found"].startswith("sha256:")
    listed = hall.read("list")
    assert listed["count"] == 4  # nothing is lost
    selected = hall.read("select", "--facility", str(FACILITY), "--all")
    assert {one["record"]["name"] for one in selected["candidates"]} == {"kept", "moved"}
    rules = {one["record"]["name"]: one["reasons"][0]["rule"] for one in selected["rest"]}
    assert rules == {"gone": "catalogue.vanished", "damaged": "catalogue.changed"}
    hall.push("gone")
    assert {one["state"] for one in hall.change("refresh", status=1)["images"]} == {
        "same",
        "moved",
        "changed",
    }


def test_one_image_is_an_image(hall: Hall) -> None:
    keys = ("--catalogue", hall.where, "--key", "k.pem")
    assert "\n1 image, version 1" in "\n" + hall.afenv("catalogue", "add", hall.push("alone"), *keys)[2]
    status, _, err = hall.afenv("catalogue", "refresh", *keys)
    assert status == 0 and re.search(r"^looking for images: 1 image in .* s$", err, re.MULTILINE), err
    chosen = ("--facility", str(FACILITY), "--catalogue", hall.where, "--trust", "k.pub")
    assert "1 of 1 image runs at cloud:" in hall.afenv("select", *chosen)[1]


def test_refresh_where_a_registry_does_not_answer(hall: Hall, other_registry: Any) -> None:
    hall.change("add", hall.push("near"))
    first, hall.registry = hall.registry, other_registry
    far = hall.push("far")
    hall.change("add", far)
    hall.registry = first
    other_registry.faults["GET"] = [503] * 50
    found = {
        one["reference"].split("/")[2].split(":")[0]: one["state"]
        for one in hall.change("refresh", status=1)["images"]
    }
    assert found == {"near": "same", "far": "unreached"}
    assert hall.read("list")["count"] == 2


# trust


def test_signatures_are_checked(hall: Hall, tmp_path: Path) -> None:
    hall.change("add", hall.push("one"))
    private, public = generate_key("ed25519")
    (tmp_path / "other.pem").write_bytes(private)
    (tmp_path / "other.pub").write_bytes(public)
    where = ("--catalogue", hall.where)
    status, _, err = hall.afenv("catalogue", "list", *where, "--trust", "other.pub")
    assert status == 5 and "E621" in err and "another key" in err
    status, _, err = hall.afenv("catalogue", "list", *where)
    assert status == 5 and "AFENV_CATALOGUE_TRUST" in err
    status, _, err = hall.afenv("catalogue", "add", hall.push("two"), *where, "--key", "other.pem")
    assert status == 5 and "E621" in err
    assert hall.read("list")["count"] == 1
    status, _, err = hall.afenv(
        "catalogue", "add", hall.push("two"), *where, "--key", "other.pem", "--trust", "k.pub"
    )
    assert status == 0
    status, out, _ = hall.afenv(
        "catalogue", "list", *where, "--trust", "k.pub", "--trust", "other.pub", "--json"
    )
    assert json.loads(out)["count"] == 2
    status, _, err = hall.afenv("catalogue", "add", hall.push("two"), *where)
    assert status == 5 and "--key" in err


def test_settings_name_catalogue_and_keys(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFENV_CATALOGUE", hall.where)
    monkeypatch.setenv("AFENV_CATALOGUE_KEY", str(hall.folder / "k.pem"))
    monkeypatch.setenv("AFENV_CATALOGUE_TRUST", str(hall.folder / "k.pub"))
    assert hall.afenv("catalogue", "add", hall.push("one"))[0] == 0
    assert hall.json("select", "--facility", str(FACILITY))["candidates"]


def test_what_is_no_catalogue(hall: Hall) -> None:
    hall.push("one")
    for where, code in (
        (f"{hall.registry.host}/team/one:1.0", "E620"),
        (f"{hall.registry.host}/team/none", "E620"),
    ):
        status, _, err = hall.afenv("catalogue", "list", "--catalogue", where, "--trust", "k.pub")
        assert status == 2 and code in err, err
    status, _, err = hall.afenv("catalogue", "list", "--trust", "k.pub")
    assert status == 2 and "AFENV_CATALOGUE" in err


# copies


def test_offline_from_the_copy(hall: Hall) -> None:
    status, _, err = hall.afenv(
        "--offline", "catalogue", "list", "--catalogue", hall.where, "--trust", "k.pub"
    )
    assert status == 2 and "no copy of it" in err
    hall.change("add", hall.push("one"))
    hall.read("list")
    asked = len(hall.registry.requests)
    found = hall.json(
        "--offline", "select", "--facility", str(FACILITY), "--catalogue", hall.where, "--trust", "k.pub"
    )
    assert len(found["candidates"]) == 1 and len(hall.registry.requests) == asked
    status, _, err = hall.afenv(
        "--offline", "catalogue", "refresh", "--catalogue", hall.where, "--key", "k.pem"
    )
    assert status == 2 and "--offline" in err


def test_the_copy_is_not_fetched_again_and_helps_out(hall: Hall) -> None:
    hall.change("add", hall.push("one"))
    hall.read("list")
    hall.registry.requests.clear()
    hall.read("list")
    assert not [path for _, path, _ in hall.registry.requests if "/blobs/" in path]
    hall.registry.close()
    status, out, err = hall.afenv("catalogue", "list", "--catalogue", hall.where, "--trust", "k.pub")
    assert status == 0 and "one" in out and "is not reached; the copy of" in err


def test_an_older_version_does_not_replace_a_newer_copy(hall: Hall) -> None:
    one, two = hall.push("one"), hall.push("two")
    hall.change("add", one)
    old = hall.registry.manifests[CATALOGUE, "latest"]
    hall.change("add", two)
    assert hall.read("list")["count"] == 2
    hall.registry.manifests[CATALOGUE, "latest"] = old
    _, out, err = hall.afenv("catalogue", "list", "--catalogue", hall.where, "--trust", "k.pub", "--json")
    assert json.loads(out)["count"] == 2 and "is version 2 and is used" in err


def test_a_catalogue_in_a_file(hall: Hall) -> None:
    one, two = hall.push("one"), hall.push("two")
    for number, reference in enumerate((one, two), 1):
        made = hall.json("catalogue", "add", reference, "--catalogue", "c.zst", "--key", "k.pem")
        assert (made["count"], made["name"]) == (number, "c")
    found = hall.json(
        "--offline", "select", "--facility", str(FACILITY), "--catalogue", "c.zst", "--trust", "k.pub"
    )
    assert len(found["candidates"]) == 2
    data = (hall.folder / "c.zst").read_bytes()
    other = bytes([data[200] ^ 1])
    (hall.folder / "c.zst").write_bytes(data[:200] + other + data[201:])
    status, _, err = hall.afenv("catalogue", "list", "--catalogue", "c.zst", "--trust", "k.pub")
    assert status == 5 and ("E621" in err or "E622" in err)
    status, _, err = hall.afenv("catalogue", "remove", "one", "--catalogue", "none/c.zst", "--key", "k.pem")
    assert status != 0 and "Traceback" not in err


# several writers


def some_record(number: int, added: str = "2026-01-01T00:00:00Z") -> ImageRecord:
    from afenv.catalogue.record import Form
    from afenv.facility.needs import Needs

    digest = f"sha256:{number:064x}"
    name = f"image{number}"
    return ImageRecord(
        name=name, reference=f"r.example.org/{name}:1", digest=digest, image_id=digest, added=added,
        needs=Needs(name=name, forms=("oci",), registry="r.example.org"), forms=(Form(form="oci"),),
    )  # fmt: skip


@pytest.mark.parametrize("page", [1000, 3])
def test_concurrent_adds_lose_nothing(registry: Any, page: int) -> None:
    registry.page = page
    key = load_private(generate_key("ed25519")[0])
    trusted = (TrustedKey(pem=key.public.pem, place="k"),)
    failures: list[BaseException] = []
    gate = threading.Barrier(6)

    def write(number: int) -> None:
        from afenv_registry.client import RegistryClient

        try:
            with RegistryClient().repository(f"{registry.host}/{CATALOGUE}") as repository:
                writer = Writer(repository, "latest", key=key, trusted=trusted, name="team")
                gate.wait(30)
                for turn in range(2):
                    one = some_record(10 * number + turn)
                    writer.change(
                        lambda contents, one=one: with_records(contents, [one], "2026-01-01T00:00:00Z")
                    )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    from afenv_registry.client import RegistryClient

    with RegistryClient().repository(f"{registry.host}/{CATALOGUE}") as repository:
        from afenv.catalogue.remote import fetch

        found = contents_of(fetch(repository, "latest"))
    assert {one.name for one in found.records.values()} == {
        f"image{10 * n + t}" for n in range(6) for t in range(2)
    }


def test_a_writer_that_was_overtaken_at_each_step(registry: Any) -> None:
    """Another writer finishes just before each single request of ours: both changes are there at the end."""
    from afenv.catalogue.remote import fetch
    from afenv_registry.client import RegistryClient

    key = load_private(generate_key("ed25519")[0])
    trusted = (TrustedKey(pem=key.public.pem, place="k"),)
    time = "2026-01-01T00:00:00Z"

    def add(repository: Any, number: int) -> None:
        writer = Writer(repository, "latest", key=key, trusted=trusted, pause=lambda _: None)
        writer.change(lambda contents: with_records(contents, [some_record(number)], time))

    class Overtaken:
        """The repository, with something that happens before one of its requests."""

        def __init__(self, inner: Any, when: int, what: Any) -> None:
            self.inner, self.left, self.what = inner, when, what

        @property
        def name(self) -> str:
            return str(self.inner.name)

        def __getattr__(self, name: str) -> Any:
            self.left -= 1
            if self.left == 0:
                self.what()
            return getattr(self.inner, name)

    happened = 0
    for step in range(1, 40):
        where = f"{registry.host}/step{step}/c"
        with RegistryClient().repository(where) as mine, RegistryClient().repository(where) as theirs:
            add(mine, 1)
            overtaken = Overtaken(mine, step, lambda theirs=theirs: add(theirs, 3))
            add(overtaken, 2)
            happened += overtaken.left <= 0
            found = {one.name for one in contents_of(fetch(mine, "latest")).records.values()}
            assert found == {"image1", "image2"} | ({"image3"} if overtaken.left <= 0 else set()), step
    assert happened > 10


def test_a_writer_that_was_killed_loses_nothing_of_others(registry: Any) -> None:
    """A version that was put and never became the newest is taken in by the next writer."""
    from afenv.catalogue.remote import fetch
    from afenv_registry.client import RegistryClient

    key = load_private(generate_key("ed25519")[0])
    trusted = (TrustedKey(pem=key.public.pem, place="k"),)
    with RegistryClient().repository(f"{registry.host}/{CATALOGUE}") as repository:
        writer = Writer(repository, "latest", key=key, trusted=trusted)
        writer.change(lambda one: with_records(one, [some_record(1)], "2026-01-01T00:00:00Z"))
        before = contents_of(fetch(repository, "latest"))
        writer._put(with_records(before, [some_record(2)], "2026-01-01T00:00:00Z"))  # and killed here
        assert fetch(repository, "latest").count == 1
        Writer(repository, "latest", key=key, trusted=trusted).change(
            lambda one: with_records(one, [some_record(3)], "2026-01-01T00:00:00Z")
        )
        assert fetch(repository, "latest").count == 3


@pytest.mark.parametrize("late", [3, 1000])
def test_a_tag_that_is_listed_before_it_is_there(registry: Any, late: int) -> None:
    """A registry may list a tag while it writes it; one that never comes ends in an error."""
    from afenv.catalogue.remote import fetch
    from afenv_registry.client import RegistryClient

    key = load_private(generate_key("ed25519")[0])
    trusted = (TrustedKey(pem=key.public.pem, place="k"),)
    pauses: list[float] = []

    class Late:
        """The repository, which does not find tags of versions at first."""

        def __init__(self, inner: Any) -> None:
            self.inner, self.left = inner, late

        def find_own(self, tag: str) -> str | None:
            if tag != "latest" and self.left > 0:
                self.left -= 1
                return None
            found: str | None = self.inner.find_own(tag)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    def add(repository: Any, number: int) -> None:
        writer = Writer(repository, "latest", key=key, trusted=trusted, pause=pauses.append)
        writer.change(lambda one: with_records(one, [some_record(number)], "2026-01-01T00:00:00Z"))

    with RegistryClient().repository(f"{registry.host}/{CATALOGUE}") as repository:
        add(repository, 1)
        assert not pauses
        if late == 3:
            add(Late(repository), 2)
            assert fetch(repository, "latest").count == 2 and len(pauses) == 3
            return
        with pytest.raises(AfenvError, match="has no such tag") as caught:
            add(Late(repository), 2)
        assert caught.value.code == "E602" and 5 < sum(pauses) < 30
        assert fetch(repository, "latest").count == 1


def test_a_stranger_stops_the_writer(registry: Any) -> None:
    from afenv_registry.client import RegistryClient

    mine, other = (load_private(generate_key("ed25519")[0]) for _ in range(2))

    def trusted(key: PublicKey) -> tuple[TrustedKey, ...]:
        return (TrustedKey(pem=key.pem, place="k"),)

    with RegistryClient().repository(f"{registry.host}/{CATALOGUE}") as repository:
        Writer(repository, "latest", key=other, trusted=trusted(other.public)).change(
            lambda one: with_records(one, [some_record(1)], "2026-01-01T00:00:00Z")
        )
        with pytest.raises(AfenvError) as caught:
            Writer(repository, "latest", key=mine, trusted=trusted(mine.public)).change(lambda one: one)
        assert caught.value.code == "E621"


def test_old_versions_are_removed_on_request(registry: Any) -> None:
    from afenv.catalogue.remote import KEPT
    from afenv_registry.client import RegistryClient

    key = load_private(generate_key("ed25519")[0])
    trusted = (TrustedKey(pem=key.public.pem, place="k"),)
    with RegistryClient().repository(
        f"{registry.host}/{CATALOGUE}", actions="pull,push,delete"
    ) as repository:
        for number in range(KEPT + 3):
            Writer(repository, "latest", key=key, trusted=trusted).change(
                lambda one, number=number: with_records(one, [some_record(number)], "2026-01-01T00:00:00Z")
            )
        assert len(versions(repository, "latest")) == KEPT + 3
        assert prune(repository, "latest") == 3
        assert [one.serial for one in versions(repository, "latest")] == list(range(4, KEPT + 4))


def test_merging_does_not_depend_on_the_order() -> None:
    base = Contents(name="c", records={one.key: one for one in map(some_record, range(4))}, serial=3)
    a = without_records(base, [some_record(0).key], "2026-02-01T00:00:00Z")
    b = with_records(base, [replace(some_record(0), version="2")], "2026-02-01T00:00:01Z")
    c = with_records(
        without_records(base, [some_record(1).key], "2026-02-02T00:00:00Z"),
        [some_record(9)],
        "2026-02-03T00:00:00Z",
    )
    whole = merged(a, b, c)
    for order in ((a, c, b), (b, a, c), (b, c, a), (c, a, b), (c, b, a), (a, b, c, a, b)):
        assert merged(*order).same(whole)
    assert {one.name for one in whole.records.values()} == {"image0", "image2", "image3", "image9"}
    assert merged(a, base).records.keys() == a.records.keys()  # what was removed does not come back
    tie = without_records(base, [some_record(0).key], "2026-02-01T00:00:01Z")
    assert some_record(0).key not in merged(tie, b).records
    assert Catalogue(whole.file(7).data, "x").serial == 7


def test_a_clock_that_is_behind(hall: Hall) -> None:
    """A record that comes after a removal counts, whatever its writer's clock says."""
    one = some_record(1)
    gone = without_records(Contents(name="c", records={one.key: one}), [one.key], "2030-01-01T00:00:00Z")
    back = with_records(gone, [one], "2026-01-01T00:00:00Z")
    assert merged(back, gone).records[one.key].added == "2030-01-01T00:00:01Z"


def test_help_of_the_commands_is_fast_and_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afenv", "catalogue", "--help"], capture_output=True, text=True, check=True
    )
    assert all(word in done.stdout for word in ("add", "list", "remove", "refresh", "page", "--trust"))
    assert fallback_tag("sha256:" + "0" * 64)
