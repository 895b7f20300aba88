"""The provenance statement."""

from __future__ import annotations

import json

from afenv.attest.provenance import LOCAL_BUILDER, _dependencies, builder_identity, provenance
from afenv.digest import hex_of
from afenv.documents.cvmfs import LockedCvmfs, LockedCvmfsPart
from afenv.documents.lock import LockedBuilder, LockedLfs, LockedSubmodule
from afenv.oci import media
from afenv.record import replace


def test_it_says_what_went_in_and_what_came_out(sample):
    statement = json.loads(sample.of(media.IN_TOTO).content)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    digests = [subject["digest"]["sha256"] for subject in statement["subject"]]
    assert digests == [hex_of(sample.image.manifest_digest), hex_of(sample.image.image_id)]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["buildType"] == "urn:afenv:build:v1"
    documents = {
        one["name"]: one["digest"]["sha256"] for one in definition["externalParameters"]["documents"]
    }
    assert documents == {
        "afenv.lock": hex_of(sample.of(media.LOCK).digest),
        "afenv.yaml": hex_of(sample.of(media.ANALYSIS_MANIFEST).digest),
    }
    assert definition["externalParameters"]["environment"] == "default"
    inputs = definition["resolvedDependencies"]
    code = inputs[0]
    assert code["digest"] == {"gitTree": "5" * 40, "gitCommit": "6" * 40}
    assert code["uri"] == "git+https://github.com/Group/Dimuon.git@" + "6" * 40
    assert [one["digest"]["sha256"][0] for one in inputs[1:]] == ["1", "2", "3", "4"]
    run = statement["predicate"]["runDetails"]
    assert run["builder"]["id"] == LOCAL_BUILDER
    assert run["byproducts"] == [
        {"name": "sbom.spdx.json", "digest": {"sha256": hex_of(sample.of(media.SPDX).digest)}}
    ]


def test_it_is_the_same_each_time(make_sample):
    assert make_sample().of(media.IN_TOTO) == make_sample().of(media.IN_TOTO)


def test_who_builds():
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_WORKFLOW_REF": "group/dimuon/.github/workflows/image.yml@refs/heads/main",
    }
    gitlab = {"GITLAB_CI": "true", "CI_PROJECT_URL": "https://gitlab.example.org/group/dimuon"}
    assert builder_identity({}) == LOCAL_BUILDER
    assert builder_identity(github) == (
        "https://github.com/group/dimuon/.github/workflows/image.yml@refs/heads/main"
    )
    assert builder_identity(gitlab) == "https://gitlab.example.org/group/dimuon//.gitlab-ci.yml"
    assert builder_identity(gitlab | {"AFENV_BUILDER_ID": "https://example.org/x"}) == "https://example.org/x"


def test_what_is_taken_of_cvmfs(make_sample):
    lock = make_sample().lock
    part = LockedCvmfsPart(path="/cvmfs/a.b/p", files=1, size=2, listing="sha256:" + "c" * 64)
    taken = LockedCvmfs(
        path="/cvmfs/a.b/v",
        repository="a.b",
        root_hash="d" * 40 + "-shake128",
        revision=7,
        timestamp="2026-01-31T12:00:00Z",
        delivery="embed",
        parts=(part,),
    )
    environment = replace(lock.environments["default"], cvmfs=(taken,))
    inputs = [one for one in _dependencies(lock, environment) if "cvmfs" in str(one)]
    assert inputs == [
        {
            "name": "/cvmfs/a.b/v",
            "uri": "cvmfs:/cvmfs/a.b/v",
            "digest": {"cvmfsRoot-shake128": "d" * 40},
            "annotations": {"delivery": "embed", "revision": 7, "published": "2026-01-31T12:00:00Z"},
        },
        {"name": "/cvmfs/a.b/p", "digest": {"afenvListing-sha256": "c" * 64}},
    ]


def test_submodules_lfs_and_commands(make_sample):
    lock = make_sample().lock
    code = replace(
        lock.code[0],
        submodules=(LockedSubmodule(path="fit", commit="8" * 40, git="https://git.example.org/a/fit.git"),),
        lfs=(LockedLfs(path="table.bin", sha256="9" * 64, size=3),),
    )
    environment = replace(
        lock.environments["default"],
        build=("make",),
        builder=LockedBuilder(name="docker", version="20", tree="a" * 40),
    )
    lock = replace(lock, code=(code,), environments={"default": environment})
    text = provenance(
        lock,
        "default",
        manifest_digest="sha256:" + "1" * 64,
        image_id="sha256:" + "2" * 64,
        created="2026-01-01T00:00:00Z",
        documents={},
        byproducts={},
        builder="urn:x",
    )
    definition = json.loads(text)["predicate"]["buildDefinition"]
    digests = [one["digest"] for one in definition["resolvedDependencies"]]
    assert {"gitCommit": "8" * 40} in digests and {"sha256": "9" * 64} in digests
    assert definition["internalParameters"]["commands"] == ["make"]
    assert definition["internalParameters"]["baseBuilder"]["name"] == "docker"
