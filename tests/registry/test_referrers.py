"""Attachments in a registry: with the referrers API, without it, and where a tag is not what it seems."""

from __future__ import annotations

import json

import pytest

from afenv import canonical
from afenv.errors import AfenvError
from afenv.oci import media, referrers
from afenv.oci.attached import Attachment, artifact_manifest, listed, referrers_index
from afenv.oci.layout import write_layout
from afenv.oci.referrers import attach, fallback_tag, list_referrers
from afenv.testing import make_image
from afenv.workflow.push import publish, push_layout
from afenv_registry.client import RegistryClient

LOCK = Attachment(artifact_type=media.LOCK, media_type=media.LOCK, title="afenv.lock", content=b"{}\n")
SBOM = Attachment(
    artifact_type=media.SPDX,
    media_type=media.SPDX,
    title="sbom.spdx.json",
    content=b'{"spdxVersion": "SPDX-2.3"}',
    annotations={"org.example.note": "x"},
)
NAME = "group/sample"


@pytest.fixture
def image(store):
    return make_image(store)


@pytest.fixture(params=[True, False], ids=["with the API", "without"])
def pushed(request, registry, image, store):
    registry.referrers = request.param
    RegistryClient().push(image, store, f"{registry.host}/{NAME}:1", quiet=True)
    return registry


@pytest.fixture
def repository(registry):
    with RegistryClient().repository(f"{registry.host}/{NAME}:1") as found:
        yield found


def fetch_attachments(*arguments, **options):
    """In the order of their titles: a registry may list them in any."""
    return sorted(referrers.fetch_attachments(*arguments, **options), key=lambda one: one.title)


def index_of(registry, image):
    return json.loads(registry.manifests[NAME, fallback_tag(image.manifest_digest)])


def test_what_is_attached_comes_back(pushed, image, repository):
    subject = image.manifest_descriptor()
    new = attach(repository, subject, [LOCK, SBOM])
    assert len(new) == 2
    assert fetch_attachments(repository, image.manifest_digest) == [LOCK, SBOM]
    listed = list_referrers(repository, image.manifest_digest)
    assert {one["artifactType"] for one in listed} == {media.LOCK, media.SPDX}
    assert next(one for one in listed if one["artifactType"] == media.SPDX)["annotations"] == {
        "org.example.note": "x"
    }
    has_list = (NAME, fallback_tag(image.manifest_digest)) in pushed.manifests
    assert has_list == (not pushed.referrers)


def test_attaching_twice_changes_nothing(pushed, image, repository):
    subject = image.manifest_descriptor()
    attach(repository, subject, [LOCK, SBOM])
    before, count = dict(pushed.manifests), len(pushed.requests)
    assert attach(repository, subject, [LOCK, SBOM]) == []
    assert pushed.manifests == before
    assert {method for method, _, _ in pushed.requests[count:]} <= {"GET", "HEAD"}


def test_the_list_of_others_is_kept(pushed, image, repository):
    subject = image.manifest_descriptor()
    attach(repository, subject, [LOCK])
    attach(repository, subject, [SBOM])
    assert fetch_attachments(repository, image.manifest_digest) == [LOCK, SBOM]


def test_a_registry_that_answers_the_tag_with_the_image_itself(registry, image, store, repository):
    """GitLab's does so: the answer is no list, and nothing is made of it."""
    registry.referrers = False
    RegistryClient().push(image, store, f"{registry.host}/{NAME}:1", quiet=True)
    registry.manifests[NAME, fallback_tag(image.manifest_digest)] = image.manifest
    assert list_referrers(repository, image.manifest_digest) == []
    attach(repository, image.manifest_descriptor(), [LOCK])
    assert fetch_attachments(repository, image.manifest_digest) == [LOCK]
    assert index_of(registry, image)["mediaType"] == media.IMAGE_INDEX


def test_a_registry_that_keeps_no_list_is_an_error(registry, image, store, repository, monkeypatch):
    registry.referrers = False
    RegistryClient().push(image, store, f"{registry.host}/{NAME}:1", quiet=True)
    real = repository.find_manifest
    answer = real(image.manifest_digest)
    tag = fallback_tag(image.manifest_digest)
    monkeypatch.setattr(repository, "find_manifest", lambda name: answer if name == tag else real(name))
    with pytest.raises(AfenvError) as caught:
        attach(repository, image.manifest_descriptor(), [LOCK])
    assert caught.value.code == "E602" and tag in str(caught.value)


def test_a_list_that_another_client_writes_at_the_same_time(registry, image, store, repository, monkeypatch):
    registry.referrers = False
    RegistryClient().push(image, store, f"{registry.host}/{NAME}:1", quiet=True)
    attach(repository, image.manifest_descriptor(), [SBOM])
    stale = registry.manifests[NAME, fallback_tag(image.manifest_digest)]
    real, lost = repository.put_manifest, []

    def put(content, media_type, name=None):
        done = real(content, media_type, name)
        if name is not None and not lost:
            lost.append(name)
            registry.manifests[NAME, name] = stale  # the other one wrote its list over ours
        return done

    monkeypatch.setattr(repository, "put_manifest", put)
    attach(repository, image.manifest_descriptor(), [LOCK])
    assert lost and fetch_attachments(repository, image.manifest_digest) == [LOCK, SBOM]


def test_a_manifest_about_another_image_is_left_out(registry, image, store, repository):
    registry.referrers = False
    RegistryClient().push(image, store, f"{registry.host}/{NAME}:1", quiet=True)
    attach(repository, image.manifest_descriptor(), [LOCK])
    other = make_image(store, created=1)
    foreign = artifact_manifest(other.manifest_descriptor(), LOCK)
    stored = repository.put_manifest(foreign, media.IMAGE_MANIFEST)
    entry = {
        "mediaType": media.IMAGE_MANIFEST,
        "digest": stored.digest,
        "size": len(foreign),
        "artifactType": media.LOCK,
    }
    registry.manifests[NAME, fallback_tag(image.manifest_digest)] = referrers_index([entry])
    skipped: list[str] = []
    assert fetch_attachments(repository, image.manifest_digest, skipped=skipped) == []
    assert len(skipped) == 1 and other.manifest_digest in skipped[0]


def test_another_content_is_refused(pushed, image, repository):
    attach(repository, image.manifest_descriptor(), [LOCK])
    pushed.blobs[NAME][LOCK.digest] = b"[]\n"
    with pytest.raises(AfenvError) as caught:
        fetch_attachments(repository, image.manifest_digest)
    assert caught.value.code == "E301"


def test_documents_of_other_kinds_are_left_alone(pushed, image, repository):
    foreign = Attachment(
        artifact_type="application/x-other", media_type="application/x-other", title="", content=b"?" * 10
    )
    attach(repository, image.manifest_descriptor(), [foreign, LOCK])
    count = len(pushed.requests)
    assert fetch_attachments(repository, image.manifest_digest) == [LOCK]
    assert not any(foreign.digest in path for _, path, _ in pushed.requests[count:])


def test_pushing_a_layout_attaches_what_it_carries(registry, image, store, tmp_path):
    write_layout(image, store, tmp_path / "layout", attachments=[LOCK, SBOM])
    reference = f"{registry.host}/{NAME}:1"
    assert push_layout(tmp_path / "layout", reference, quiet=True) == image.manifest_digest
    with RegistryClient().repository(reference) as repository:
        assert fetch_attachments(repository, image.manifest_digest) == [LOCK, SBOM]
    count = len(registry.requests)
    push_layout(tmp_path / "layout", reference, quiet=True)
    assert {method for method, _, _ in registry.requests[count:]} <= {"GET", "HEAD"}


def test_it_can_be_left_out(registry, image, store, tmp_path):
    write_layout(image, store, tmp_path / "layout", attachments=[LOCK])
    push_layout(tmp_path / "layout", f"{registry.host}/{NAME}:1", quiet=True, attach=False)
    publish(image, store, f"{registry.host}/{NAME}:2", quiet=True)
    with RegistryClient().repository(f"{registry.host}/{NAME}") as repository:
        assert list_referrers(repository, image.manifest_digest) == []


def test_an_artifact_of_several_files_is_left_out(pushed, image, repository):
    """Other tools attach several files under one type."""
    attach(repository, image.manifest_descriptor(), [LOCK])
    manifest = json.loads(artifact_manifest(image.manifest_descriptor(), LOCK))
    manifest["layers"] *= 2
    content = canonical.compact(manifest)
    stored = repository.put_manifest(content, media.IMAGE_MANIFEST)
    if not pushed.referrers:
        entries = [*list_referrers(repository, image.manifest_digest), listed(content)]
        pushed.manifests[NAME, fallback_tag(image.manifest_digest)] = referrers_index(entries)
    skipped: list[str] = []
    assert fetch_attachments(repository, image.manifest_digest, skipped=skipped) == [LOCK]
    assert len(skipped) == 1 and stored.digest in skipped[0]
