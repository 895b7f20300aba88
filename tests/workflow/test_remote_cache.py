"""One machine builds, another mounts: the remote cache, and what those who can write to it cannot do."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from afenv.attest.keys import generate_key, load_private
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.model import Descriptor
from afenv.oci.referrers import fetch_attachments
from afenv.oci.registries import find_registry
from afenv.workflow.cache_entry import (
    EMBEDDED,
    embedded_envelope,
    entry_envelope,
    entry_manifest,
    entry_tag,
    read_entry,
)

FAKE = Path(__file__).parent.parent / "registry" / "conftest.py"
KEY = "sha256:" + "a" * 64


@pytest.fixture
def registry() -> Iterator[Any]:
    """The registry in memory of the registry's tests."""
    spec = importlib.util.spec_from_file_location("fake_registry", FAKE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.FakeRegistry()
    yield found
    found.close()


@pytest.fixture
def machine(world: Any, monkeypatch: pytest.MonkeyPatch, registry: Any) -> Callable[[str], None]:
    """Change to another machine: an empty cache, nothing written yet, nothing asked yet."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "AFENV_BUILDER_ID"):
        monkeypatch.delenv(name, raising=False)
    world.afenv("key", "generate", "--no-password", "ci.key")
    (world.project / ".gitignore").write_text("*.key\n*.pub\n")

    def change(name: str) -> None:
        import shutil

        monkeypatch.setenv("AFENV_CACHE_DIR", str(world.folder / name))
        shutil.rmtree(world.project / ".afenv", ignore_errors=True)
        world.asked.clear()
        registry.requests.clear()

    return change


def blobs(world: Any) -> int:
    return sum(path.stat().st_size for path in (world.cache / "blobs").rglob("*") if path.is_file())


def attached(reference: str) -> Any:
    found = find_registry()
    remote = found.resolve(reference, quiet=True)
    with found.repository(reference, quiet=True) as repository:
        found = fetch_attachments(repository, remote.digest)
    return sorted(found, key=lambda one: one.title)


def push_and_cache(world: Any, registry: Any) -> Any:
    host = registry.host
    (built,) = world.afenv_json(
        "build", "--push", f"{host}/g/sample:1", "--cache-to", f"{host}/g/cache", "--cache-key", "ci.key"
    )
    return built


def from_cache(world: Any, registry: Any, *more: str, reference: str = "other/sample:1") -> list[str]:
    arguments = ["build", "--locked", "--cache-from", f"{registry.host}/g/cache", "--cache-trust", "ci.pub"]
    return [*arguments, *(["--push", f"{registry.host}/{reference}"] if reference else []), *more]


def test_another_machine_mounts_what_it_never_downloads(world: Any, registry: Any, machine: Any) -> None:
    built = push_and_cache(world, registry)
    machine("empty")
    (again,) = world.afenv_json(*from_cache(world, registry))
    assert again["manifest_digest"] == built["manifest_digest"]
    assert again["path"] is None and not (world.project / ".afenv" / "default.oci").exists()
    assert world.asked == [], "no package was downloaded"
    assert not any(
        method == "GET" and "/blobs/" in path and built["layers"][0]["digest"] in path
        for method, path, _ in registry.requests
    )
    sent = [path for method, path, _ in registry.requests if method in ("PUT", "PATCH") and "/blobs/" in path]
    mounts = [path for method, path, _ in registry.requests if method == "POST" and "mount=" in path]
    assert len(mounts) >= len(built["layers"])
    assert len(sent) <= 6, "the config and the attached documents alone travel"
    assert all(layer["digest"] in registry.blobs["other/sample"] for layer in built["layers"])
    one, other = (attached(f"{registry.host}/{name}:1") for name in ("g/sample", "other/sample"))
    assert one == other, "also the licences that only the wheels' archives state"


def test_without_push_it_fetches_what_it_needs(world: Any, registry: Any, machine: Any) -> None:
    built = push_and_cache(world, registry)
    machine("empty")
    world.afenv_json(*from_cache(world, registry))
    (local,) = world.afenv_json(*from_cache(world, registry, reference=""))
    assert local["image_id"] == built["image_id"]
    assert world.asked == []
    assert world.afenv("build", "--check", "--offline", "--locked")[0] == 0
    machine("empty too")
    (checked,) = world.afenv_json(*from_cache(world, registry, "--check"))
    assert checked["path"] and world.asked == []


def test_a_build_without_the_cache_afterwards(world: Any, registry: Any, machine: Any) -> None:
    built = push_and_cache(world, registry)
    machine("empty")
    world.afenv_json(*from_cache(world, registry))
    (local,) = world.afenv_json("build", "--locked")
    assert local["image_id"] == built["image_id"] and local["path"]
    assert world.asked, "packages were downloaded"


def test_a_change_of_the_code_writes_one_layer(world: Any, registry: Any, machine: Any) -> None:
    push_and_cache(world, registry)
    world.write("src/fit.py", "import alpha\n")
    world.afenv_json("lock")
    machine("empty")
    (again,) = world.afenv_json(*from_cache(world, registry))
    assert not any("/pool/" in path or "/files/" in path for path in world.asked)
    missing = [layer for layer in again["layers"] if layer["digest"] not in registry.blobs["g/cache"]]
    assert [layer["source"] for layer in missing] == ["code:/analysis"]
    assert blobs(world) < 100_000


def test_a_package_that_is_new_is_built_here(world: Any, registry: Any, machine: Any) -> None:
    push_and_cache(world, registry)
    world.publish_wheel("beta", "2.0")
    world.afenv_json("lock", "--update", "beta")
    machine("empty")
    (again,) = world.afenv_json(*from_cache(world, registry))
    machine("from nothing")
    (plain,) = world.afenv_json("build", "--locked")
    assert again["image_id"] == plain["image_id"]


def test_publishing_twice_changes_nothing(world: Any, registry: Any, machine: Any) -> None:
    push_and_cache(world, registry)
    before, count = dict(registry.manifests), len(registry.requests)
    push_and_cache(world, registry)
    assert registry.manifests == before
    assert {method for method, _, _ in registry.requests[count:]} <= {"GET", "HEAD"}


def test_entries_of_another_key_are_not_believed(world: Any, registry: Any, machine: Any) -> None:
    built = push_and_cache(world, registry)
    world.afenv("key", "generate", "--no-password", "other.key")
    machine("empty")
    arguments = from_cache(world, registry)
    arguments[arguments.index("ci.pub")] = "other.pub"
    status, out, err = world.afenv(*arguments)
    assert status == 0 and out.strip() == built["image_id"]
    assert "not signed by a key that is trusted" in err
    assert world.asked, "everything was built here"


def test_a_cache_that_was_tampered_with(world: Any, registry: Any, machine: Any) -> None:
    """Who can write to the repository swaps entries, and signs others with a key of their own."""
    built = push_and_cache(world, registry)
    tags = [name for repository, name in registry.manifests if name.startswith("layer-")]
    first, second = sorted(tags)[:2]
    here, there = registry.manifests["g/cache", first], registry.manifests["g/cache", second]
    registry.manifests["g/cache", first], registry.manifests["g/cache", second] = there, here
    evil = load_private(generate_key()[0])
    value = {"diff_id": KEY, "digest": KEY, "size": 1, "listing": KEY}
    third = sorted(tags)[2]
    envelope = entry_envelope("layer", "sha256:" + third.removeprefix("layer-"), value, evil)
    registry.manifests["g/cache", third] = entry_manifest(envelope, [])
    machine("empty")
    status, out, err = world.afenv(*from_cache(world, registry))
    assert status == 0 and out.strip() == built["image_id"]
    assert "left aside in the build cache: 3 entries not signed by a key that is trusted" in err


def test_a_blob_that_is_not_what_the_entry_names(world: Any, registry: Any, machine: Any) -> None:
    built = push_and_cache(world, registry)
    digest = built["layers"][0]["digest"]
    registry.blobs["g/cache"][digest] = b"evil" * 10
    machine("empty")
    status, _, err = world.afenv(*from_cache(world, registry, reference=""))
    assert status == 5 and "E30" in err


@pytest.mark.parametrize("pushed", [True, False])
def test_a_blob_that_was_deleted_is_built_and_put_back(
    world: Any, registry: Any, machine: Any, pushed: bool
) -> None:
    built = push_and_cache(world, registry)
    digest = built["layers"][0]["digest"]
    for blobs_of in registry.blobs.values():
        blobs_of.pop(digest, None)
    machine("empty")
    more = ("--cache-to", f"{registry.host}/g/cache", "--cache-key", "ci.key")
    status, out, err = world.afenv(
        *from_cache(world, registry, *more, reference="other/sample:1" if pushed else "")
    )
    assert status == 0 and out.strip() == built["image_id"]
    assert "the registry of the build cache lacked 1 layer, built here instead" in err
    assert digest in registry.blobs["g/cache"]
    machine("empty again")
    status, _, err = world.afenv(*from_cache(world, registry))
    assert status == 0 and "missing" not in err and world.asked == []


def test_an_entry_that_contradicts_the_build_is_told_of(world: Any, registry: Any, machine: Any) -> None:
    push_and_cache(world, registry)
    key = load_private((world.project / "ci.key").read_bytes())
    tag = next(name for _, name in sorted(registry.manifests) if name.startswith("layer-"))
    value = {"diff_id": KEY, "digest": KEY, "size": 1, "listing": KEY}
    envelope = entry_envelope("layer", "sha256:" + tag.removeprefix("layer-"), value, key)
    registry.manifests["g/cache", tag] = entry_manifest(envelope, [])
    host = registry.host
    arguments = ("--cache-to", f"{host}/g/cache", "--cache-key", "ci.key")
    status, _, err = world.afenv("build", "--push", f"{host}/g/sample:1", *arguments)
    assert status == 0 and "was not reproducible, or was tampered with" in err
    assert registry.manifests["g/cache", tag] == entry_manifest(envelope, [])


def test_a_cache_at_another_registry(world: Any, registry: Any, machine: Any) -> None:
    """Nothing can be mounted: the blobs travel."""
    spec = importlib.util.spec_from_file_location("fake_registry", FAKE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    other = module.FakeRegistry()
    try:
        built = push_and_cache(world, registry)
        machine("empty")
        arguments = from_cache(world, registry, reference="")
        (again,) = world.afenv_json(*arguments, "--push", f"{other.host}/g/sample:1")
        assert again["manifest_digest"] == built["manifest_digest"]
        assert all(layer["digest"] in other.blobs["g/sample"] for layer in built["layers"])
        assert world.asked == []
    finally:
        other.close()


def test_a_registry_that_mounts_nothing(world: Any, registry: Any, machine: Any, monkeypatch: Any) -> None:
    built = push_and_cache(world, registry)
    machine("empty")
    real = registry._upload

    def without_mount(handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        real(handler, repository, name, {k: v for k, v in query.items() if k != "mount"}, body)

    monkeypatch.setattr(registry, "_upload", without_mount)
    (again,) = world.afenv_json(*from_cache(world, registry))
    assert again["manifest_digest"] == built["manifest_digest"]
    assert world.asked == []


@pytest.mark.parametrize("fault", [403, 500])
def test_a_cache_that_cannot_be_read_is_no_failure(
    world: Any, registry: Any, machine: Any, fault: int, monkeypatch: Any
) -> None:
    from afenv_registry import client

    quick = client.Patience(connect=2, stall=2, attempts=2, first_pause=0.01, longest_pause=0.02)
    monkeypatch.setattr(client, "Patience", lambda: quick)
    built = push_and_cache(world, registry)
    machine("empty")
    real = registry._manifest

    def refuse(handler: Any, repository: str, name: str, query: Any, body: bytes) -> None:
        if repository == "g/cache":
            handler.answer(fault, b'{"errors": [{"code": "DENIED", "message": "no"}]}')
        else:
            real(handler, repository, name, query, body)

    monkeypatch.setattr(registry, "_manifest", refuse)
    status, out, err = world.afenv(*from_cache(world, registry))
    assert status == 0 and out.strip() == built["image_id"]
    assert "the build cache is not used" in err and "DENIED no" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--cache-from", "127.0.0.1:1/g/cache"], "no key is named"),
        (["--cache-to", "127.0.0.1:1/g/cache", "--cache-trust", "ci.pub"], "have to be signed"),
        (["--cache-from", "127.0.0.1:1/g/cache", "--offline"], "does not go with --offline"),
        (["--cache-key", "ci.key"], "--cache-key goes with --cache-from or --cache-to"),
        (["--cache-trust", "ci.pub"], "--cache-trust goes with --cache-from or --cache-to"),
        (["--no-attach"], "--no-attach goes with --push"),
        (["--sign", "ci.key"], "--sign goes with --push"),
    ],
)
def test_wrong_usage(world: Any, machine: Any, arguments: list[str], text: str) -> None:
    status, _, err = world.afenv("build", *arguments)
    assert status == 2 and text in err


def test_entries_are_about_one_key() -> None:
    key = load_private(generate_key()[0])
    value = {"diff_id": KEY, "digest": KEY, "size": 1, "listing": KEY}
    envelope = entry_envelope("layer", KEY, value, key)
    assert read_entry(envelope, "layer", KEY, [key.public]) == value
    assert read_entry(envelope, "layer", "sha256:" + "b" * 64, [key.public]) is None
    assert read_entry(envelope, "owners", KEY, [key.public]) is None
    assert read_entry(envelope, "layer", KEY, []) is None
    odd = ({"size": "1"}, {"newer": 1}, {"variables": {"A": 1}}, {"entrypoint": "x"}, {"licenses": [1]})
    for bad in ({}, {"digest": "x"}, [], None, *(value | one for one in odd)):
        assert read_entry(entry_envelope("layer", KEY, bad, key), "layer", KEY, [key.public]) is None


def test_large_entries_are_blobs_of_their_own() -> None:
    blob = Descriptor(media_type=media.LAYER_GZIP, digest=KEY, size=1)
    small, large = entry_manifest(b"x" * EMBEDDED, [blob]), entry_manifest(b"x" * (EMBEDDED + 1), [blob])
    assert embedded_envelope(small)[1] == b"x" * EMBEDDED
    assert embedded_envelope(large)[1] is None
    assert json.loads(large)["layers"] == [blob.as_json()]
    assert entry_tag("deb-owners", KEY) == "deb-owners-" + "a" * 64


@pytest.mark.parametrize("data", [b"", b"{}", b'{"config": {"mediaType": "x", "digest": "y"}}', b"[]"])
def test_what_is_no_entry(data: bytes) -> None:
    with pytest.raises(AfenvError) as caught:
        embedded_envelope(data)
    assert caught.value.code == "E510"


def test_wheels_are_built_only_if_they_are_asked_for(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from afenv.documents.lock import LockedFile, LockedSource, LockedWheel
    from afenv.documents.lockfile import read_lock
    from afenv.record import replace
    from afenv.workflow import sdists
    from afenv.workflow.project import open_project
    from afenv.workflow.remote_cache import BuildingFiles

    world.afenv_json("lock")
    environment = read_lock(world.project / "afenv.lock").environments["default"]
    source = LockedSource(file=LockedFile(urls=("https://example.org/x.tar.gz",), size=1, sha256="c" * 64))
    file = LockedFile(urls=(), size=1, sha256="d" * 64)
    wheel = LockedWheel(name="made", version="1", file=file, built_from=source)
    environment = replace(environment, wheels=(*environment.wheels, wheel))
    asked: list[str] = []

    class Nothing:
        def files(self, files: Any, *, title: str) -> list[Path]:
            return []

    monkeypatch.setattr(sdists, "ensure_built", lambda *_: asked.append("built"))
    files = BuildingFiles(Nothing(), open_project(world.project, quiet=True), environment)
    files.files([environment.wheels[0].file], title="x")
    assert asked == []
    files.files([file], title="x")
    assert asked == ["built"]


def test_the_same_push_twice_in_ci(world: Any, registry: Any, machine: Any) -> None:
    """Exit status 0 and the same answer, and nothing is sent again; a lock that does not fit is said so."""
    world.afenv_json("lock")
    reference = f"{registry.host}/g/sample:1"
    arguments = ("build", "--locked", "--push", reference, "--sign", "ci.key")
    first = world.afenv_json(*arguments)
    machine("another runner")
    second = world.afenv_json(*arguments)
    assert second == first and first[0]["pushed"] == reference
    assert {method for method, _, _ in registry.requests} <= {"GET", "HEAD"}
    world.write("src/fit.py", "import alpha\n")
    registry.requests.clear()
    status, out, err = world.afenv(*arguments, "--json")
    assert (status, out) == (1, "") and registry.requests == []
    assert json.loads(err.splitlines()[-1])["errors"][0]["code"] == "E021"
