"""CVMFS in a lock and in an image, with repositories that the server's tools made, and with our own."""

from __future__ import annotations

import json
import os
import tarfile
from typing import Any

import pytest

VIEW = "/cvmfs/sft.afenv.test/lcg/views/LCG_999/x86_64-el9-gcc13-opt"
BASE = """\
afenv: 1
name: small
version: "1.0"
environments:
"""


@pytest.fixture
def real(world: Any, real_cvmfs: Any, cvmfs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The world, whose host reads the real repositories from a folder."""
    monkeypatch.setenv("AFENV_CVMFS_STRATA", str(real_cvmfs))
    monkeypatch.setenv("AFENV_CVMFS_KEYS", str(cvmfs.DATA))
    return world


@pytest.fixture
def made(world: Any, cvmfs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A repository of our own that the world's host reads, with the clock of the tests."""
    maker = cvmfs.CvmfsMaker(world.folder / "stratum")
    monkeypatch.setenv("AFENV_CVMFS_STRATA", str(world.folder / "stratum"))
    monkeypatch.setenv("AFENV_CVMFS_KEYS", str(maker.key))
    monkeypatch.setattr("afenv.cvmfs.repository.clock", lambda: cvmfs.NOW)
    return maker


def environments(**entries: str) -> str:
    """A manifest with these ``cvmfs`` sections, on one small base."""
    return BASE + "".join(
        f"  {name}:\n    base: {{debian: bookworm, packages: [base-files]}}\n    cvmfs: [{section}]\n"
        for name, section in entries.items()
    )


def files_of(layout: Any) -> dict[str, tarfile.TarInfo]:
    """The members of all layers of a layout, by path, the uppermost of each; with their content."""
    index = json.loads((layout / "index.json").read_bytes())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    found = {}
    for layer in manifest["layers"]:
        with tarfile.open(blobs / layer["digest"][7:]) as archive:
            for member in archive:
                found[member.name] = member
                if member.isreg():
                    content = archive.extractfile(member)
                    assert content is not None
                    member.pax_headers = {"content": content.read()}  # type: ignore[dict-item]
    return found


def test_mount_is_pinned_and_nothing_is_copied(real: Any) -> None:
    real.write("afenv.yaml", environments(default=f"{{path: {VIEW}, tag: v1}}"))
    status, _, err = real.afenv("lock")
    assert status == 0, err
    (entry,) = real.lock()["environments"]["default"]["cvmfs"]
    assert entry == {
        "path": VIEW,
        "platform": "x86_64-el9-gcc13-opt",
        "repository": "sft.afenv.test",
        "revision": 2,
        "root-hash": "bef29cca1ce214d1d222de16ce4caf1a7b9a83fd",
        "tag": "v1",
        "timestamp": "2026-11-22T21:43:57Z",
    }
    assert real.afenv("lock", "--check")[0] == 0
    (built,) = real.afenv_json("build")
    assert not any("cvmfs" in layer["source"] for layer in built["layers"])


def test_embed_is_all_there_at_the_same_path(real: Any, cvmfs: Any) -> None:
    real.write("afenv.yaml", environments(default=f"{{view: {VIEW}, delivery: embed}}"))
    status, _, err = real.afenv("lock")
    assert status == 0, err
    (entry,) = real.lock()["environments"]["default"]["cvmfs"]
    releases = "/cvmfs/sft.afenv.test/lcg/releases"
    assert [part["path"] for part in entry["parts"]] == [
        f"{releases}/gcc/13.1.0-b3d18/x86_64-el9",  # which the setup script names
        f"{releases}/hello/2.12-ab12c/x86_64-el9-gcc13-opt",  # to which links lead
        f"{releases}/zmass/1.0-9f3e1/x86_64-el9-gcc13-opt",
        VIEW,
    ]


def test_embedded_files_are_those_of_the_repository(real: Any, cvmfs: Any) -> None:
    import hashlib

    real.write("afenv.yaml", environments(default="{path: /cvmfs/sft.afenv.test, delivery: embed}"))
    (built,) = real.afenv_json("build")
    found = files_of(real.project / ".afenv" / "default.oci")
    wanted = cvmfs.expected("sft.afenv.test")["entries"]
    assert len(wanted) > 300
    for path, entry in wanted.items():
        if path == "links/variant":
            assert f"cvmfs/sft.afenv.test/{path}" not in found  # a link to nothing
            continue
        member = found[f"cvmfs/sft.afenv.test/{path}"]
        if entry["type"] == "symlink":
            assert (member.issym(), member.linkname) == (True, entry["target"])
            continue
        if entry["type"] == "file":
            assert hashlib.sha256(member.pax_headers["content"]).hexdigest() == entry["sha256"]  # type: ignore[arg-type]
            assert member.mtime == entry["mtime"]
        mode = int(entry["mode"], 8) & 0o777
        owner = mode >> 6 & 5
        assert member.mode == mode | owner << 3 | owner  # readable for everybody, never set-uid
    (again,) = real.afenv_json("build")
    assert again["image_id"] == built["image_id"]


def test_both_forms_of_content_give_the_same_files(real: Any, cvmfs: Any) -> None:
    entry = "{path: /cvmfs/data.afenv.test/big, delivery: embed}"
    real.write("afenv.yaml", environments(default=entry))
    real.afenv_json("build")
    found = files_of(real.project / ".afenv" / "default.oci")
    wanted = cvmfs.expected("data.afenv.test")["entries"]["big/random.bin"]
    content = found["cvmfs/data.afenv.test/big/random.bin"].pax_headers["content"]
    assert len(content) == wanted["size"]


def tree(**packages: str) -> dict[str, Any]:
    """A repository with packages by name and version, and a view of all of them."""
    found: dict[str, Any] = {}
    for name, version in packages.items():
        folder = f"/lcg/releases/{name}/{version}/x86_64-el9-gcc13-opt"
        found[f"{folder}/lib/lib{name}.so"] = os.urandom(64) + f"{name} {version}".encode() * 100
        found[f"{folder}/share/{name}.txt"] = f"{name} {version}".encode()
        found[f"/lcg/views/V1/x86_64-el9-gcc13-opt/lib/lib{name}.so"] = (
            f"/cvmfs/made.afenv.test{folder}/lib/lib{name}.so"
        )
    return found


def cvmfs_layers(built: Any) -> dict[str, str]:
    return {layer["source"]: layer["diff_id"] for layer in built["layers"] if "cvmfs" in layer["source"]}


def test_analyses_share_the_layers_of_what_both_embed(made: Any, world: Any) -> None:
    """One takes the view, the other two packages of it: what is large is a layer of its own in both."""
    files = tree(ROOT="6.32-abc", fastjet="3.4-def", hist="1.0-012")
    large = "/lcg/releases/ROOT/6.32-abc/x86_64-el9-gcc13-opt"
    files[f"{large}/lib/libCore.so"] = os.urandom(1 << 16) * 20
    made.publish(files)
    view = "{path: /cvmfs/made.afenv.test/lcg/views/V1/x86_64-el9-gcc13-opt, delivery: embed}"
    some = "{path: /cvmfs/made.afenv.test/lcg/releases/ROOT, delivery: embed}"
    world.write("afenv.yaml", environments(one=view, same=view, some=some))
    one, same, some_ = (cvmfs_layers(built) for built in world.afenv_json("build"))
    assert one == same
    assert len(one) >= 3
    name = f"cvmfs:/cvmfs/made.afenv.test{large}"
    assert some_[name] == one[name]
    assert one.keys() - some_.keys()


def test_a_new_revision_shares_what_did_not_change(made: Any, world: Any) -> None:
    files = tree(ROOT="6.32-abc", fastjet="3.4-def")
    files["/lcg/releases/ROOT/6.32-abc/x86_64-el9-gcc13-opt/big"] = os.urandom(1 << 16) * 20
    made.publish(files)
    world.write("afenv.yaml", environments(default="{path: /cvmfs/made.afenv.test/lcg, delivery: embed}"))
    (before,) = world.afenv_json("build")
    earlier = world.folder / "earlier.lock"
    earlier.write_bytes((world.project / "afenv.lock").read_bytes())
    made.publish(files | tree(fastjet="3.5-123"))
    assert world.afenv("lock")[0] == 0
    assert world.lock()["environments"]["default"]["cvmfs"][0]["revision"] == 1  # the lock stays
    assert world.afenv("lock", "--update", "made.afenv.test")[0] == 0
    assert world.lock()["environments"]["default"]["cvmfs"][0]["revision"] == 2
    (after,) = world.afenv_json("build")
    old, new = cvmfs_layers(before), cvmfs_layers(after)
    status, out, _ = world.afenv("diff", str(earlier), str(world.project / "afenv.lock"))
    assert (status, "revision 1" in out, "revision 2" in out) == (1, True, True)
    shared = {name for name in old if new.get(name) == old[name]}
    assert any("/ROOT/" in name for name in shared)
    assert old != new


def test_another_host_builds_the_same_image_from_the_lock(
    made: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.publish(
        {**tree(ROOT="6.32-abc"), "/twice/a": ("hard", b"x" * 99, 3), "/twice/b": ("hard", b"x" * 99, 3)}
    )
    world.write("afenv.yaml", environments(default="{path: /cvmfs/made.afenv.test, delivery: embed}"))
    (built,) = world.afenv_json("build")
    members = files_of(world.project / ".afenv" / "default.oci")
    assert members["cvmfs/made.afenv.test/twice/b"].islnk()
    lock = (world.project / "afenv.lock").read_bytes()
    made.publish({"/other": b""})  # what is newest does not matter, nor do signatures
    monkeypatch.setenv("AFENV_CACHE_DIR", str(world.folder / "other-cache"))
    monkeypatch.setenv("AFENV_CVMFS_KEYS", str(world.folder / "nothing.pub"))
    (again,) = world.afenv_json("build", "--locked")
    assert again["image_id"] == built["image_id"]
    assert [layer["digest"] for layer in again["layers"]] == [layer["digest"] for layer in built["layers"]]
    assert (world.project / "afenv.lock").read_bytes() == lock


def test_a_lock_that_names_other_content_is_refused(
    made: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.publish(tree(ROOT="6.32-abc"))
    world.write("afenv.yaml", environments(default="{path: /cvmfs/made.afenv.test, delivery: embed}"))
    assert world.afenv("lock")[0] == 0
    path = world.project / "afenv.lock"
    digest = world.lock()["environments"]["default"]["cvmfs"][0]["parts"][0]["listing"]
    path.write_text(path.read_text().replace(digest, "sha256:" + "5" * 64))
    status, _, err = world.afenv("build", "--locked")
    assert (status, "E317" in err, "is not what the lock names" in err) == (5, True, True)


@pytest.mark.parametrize(
    ("section", "code", "words"),
    [
        ("{path: /cvmfs/made.afenv.test/nothing}", "E142", "there is no /cvmfs/made.afenv.test/nothing"),
        ("{view: /cvmfs/made.afenv.test/file}", "E142", "a view is a folder"),
        ("{path: /cvmfs/made.afenv.test/out}", "E142", "leads out of the repository, to /etc/passwd"),
        ("{path: /cvmfs/made.afenv.test/loop, delivery: embed}", "E142", "circles"),
        ("{path: /cvmfs/made.afenv.test, delivery: embed}", "E145", "/pipe is neither"),
        ("{path: /cvmfs/made.afenv.test/white, delivery: embed}", "E145", "removal"),
        ("{path: /cvmfs/made.afenv.test/file, tag: v9}", "E141", "no tag 'v9'"),
        ("{path: /cvmfs/none.afenv.test/file}", "E140", "none.afenv.test"),
        (
            "{path: /cvmfs/made.afenv.test/file, tag: v1}, {path: /cvmfs/made.afenv.test/file}",
            "E014",
            "'v1'",
        ),
    ],
)
def test_bad_input(made: Any, world: Any, section: str, code: str, words: str) -> None:
    files = {"/file": b"", "/pipe": ("fifo",), "/out": "/etc/passwd", "/loop": "loop", "/white/.wh.x": b""}
    made.publish(files, tag="v1")
    world.write("afenv.yaml", environments(default=section))
    status, _, err = world.afenv("-q", "lock")
    assert status in (2, 4)
    assert f"error {code}: " in err
    assert words in err
    assert len(err.strip().splitlines()) == 2
    assert not (world.project / "afenv.lock").exists()


def test_a_stratum_that_is_behind_the_lock(made: Any, world: Any) -> None:
    made.publish({"/file": b"1"})
    made.publish({"/file": b"2"})
    world.write("afenv.yaml", environments(default="{path: /cvmfs/made.afenv.test/file}"))
    assert world.afenv("lock")[0] == 0
    made.revision = 0
    made.publish({"/file": b"1"})
    lock = (world.project / "afenv.lock").read_bytes()
    status, _, err = world.afenv("lock", "--upgrade")
    assert (status, "E312" in err) == (5, True)
    assert "serves revision 1, and 2 was seen before" in err
    assert (world.project / "afenv.lock").read_bytes() == lock
    world.write("afenv.yaml", environments(default="{path: /cvmfs/made.afenv.test/file, delivery: embed}"))
    assert world.afenv("lock")[0] == 0  # the pinned revision can still be read
    assert world.lock()["environments"]["default"]["cvmfs"][0]["revision"] == 2


def test_offline_embeds_what_was_read(made: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made.publish(tree(ROOT="6.32-abc"))
    for path in made.folder.rglob("*"):
        if path.is_file():
            place = f"/cvmfs/{made.name}/{path.relative_to(made.folder)}"
            world.contents[place] = ("application/octet-stream", path.read_bytes())
    monkeypatch.setenv("AFENV_CVMFS_STRATA", f"{world.url}/cvmfs/@fqrn@")
    world.write("afenv.yaml", environments(default="{path: /cvmfs/made.afenv.test, delivery: embed}"))
    (built,) = world.afenv_json("build")
    for place in [place for place in world.contents if place.startswith("/cvmfs/")]:
        del world.contents[place]
    for layer in built["layers"]:
        (world.cache / "blobs" / "sha256" / layer["digest"][7:9] / layer["digest"][7:]).unlink()
    (again,) = world.afenv_json("--offline", "build", "--locked")
    assert again["image_id"] == built["image_id"]


FACILITY = """\
afenv-facility: 1
name: batch
architecture: amd64
cpu: {level: x86-64-v3}
kernel: {release: "5.14.0", vsyscall: none}
glibc: "2.41"
user-namespaces: true
runtimes: [{name: apptainer, version: "1.3.4", rootless: true, gpu: true}]
cvmfs: {repositories: [REPOSITORY]}
network: full
storage: [{path: /images, free: 100000000000}]
"""


@pytest.mark.parametrize(
    ("delivery", "repository", "outcome"),
    [
        ("mount", "", "cannot"),
        ("mount", "{name: sft.afenv.test, revision: 3}", "runs"),
        ("mount", "{name: sft.afenv.test, revision: 2}", "degraded"),
        ("embed", "", "runs"),
    ],
)
def test_the_verdict_on_a_facility(real: Any, delivery: str, repository: str, outcome: str) -> None:
    """Of the lock, and of the image alone, which has labels."""
    real.write("afenv.yaml", environments(default=f"{{path: {VIEW}, delivery: {delivery}}}"))
    real.write("facility.yaml", FACILITY.replace("REPOSITORY", repository))
    real.afenv_json("build")
    facility = str(real.project / "facility.yaml")
    for target in (str(real.project / "afenv.lock"), str(real.project / ".afenv" / "default.oci")):
        _, out, err = real.afenv("check", target, "--facility", facility, "--json")
        found = json.loads(out)
        found = found[0] if isinstance(found, list) else found
        assert found["outcome"] == outcome, (target, out, err)
        rules = {reason["rule"] for reason in found["reasons"] if reason["outcome"] == outcome}
        if outcome in ("cannot", "degraded"):
            assert rules & {"cvmfs", "cvmfs.revision"}


def test_run_needs_the_mount_that_is_locked(real: Any) -> None:
    real.write("afenv.yaml", environments(default=f"{{path: {VIEW}}}"))
    status, _, err = real.afenv("run", "--dry-run", "--", "true")
    assert status == 3
    assert "error E506: " in err
    assert "/cvmfs/sft.afenv.test" in err
