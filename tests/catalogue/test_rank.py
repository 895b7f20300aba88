"""Ranking: the same verdicts as `afenv check`, whatever the path by which they are found."""

from __future__ import annotations

from itertools import pairwise

import pytest

from afenv.catalogue.file import Catalogue, make_catalogue
from afenv.catalogue.rank import GONE, Candidate, Wanted, rank
from afenv.documents.facility import FacilityProfile, FacilityRuntime, Gpu, Place
from afenv.documents.facility_file import read_facility
from afenv.errors import AfenvError
from afenv.facility.verdict import verdict
from afenv.record import replace
from afenv.specs import specs_folder

from .sample import records

EXAMPLES = sorted((specs_folder() / "facility" / "v1" / "examples").iterdir())
SOME = tuple(records(400))
PROFILES = [read_facility(folder / "facility.yaml") for folder in EXAMPLES]
PROFILES += [
    FacilityProfile(name="nothing-known"),
    FacilityProfile(
        name="small",
        architecture="amd64",
        runtimes=(FacilityRuntime(name="docker", version="20.10.24"), FacilityRuntime(name="apptainer")),
        storage=(Place(path="/d", free=3 * 10**9),),
    ),
    FacilityProfile(
        name="engine",
        architecture="amd64",
        runtimes=(FacilityRuntime(name="docker", version="27.3.1", rootless=False),),
        storage=(Place(path="/d", free=5 * 10**9),),
    ),
]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(make_catalogue("some", SOME).data, "some")


@pytest.mark.parametrize("profile", PROFILES, ids=lambda one: one.name)
@pytest.mark.parametrize("network", [False, True])
def test_each_outcome_is_that_of_the_whole_verdict(
    catalogue: Catalogue, profile: FacilityProfile, network: bool
) -> None:
    found = rank(catalogue, profile, Wanted(network=network))
    assert len(found.candidates) + len(found.rest) == len(SOME) and not found.others
    for one in (*found.candidates, *found.rest):
        needs = replace(one.record.needs, network=one.record.needs.network or network)
        expected = verdict(needs, profile)
        gone = one.record.checked is not None and one.record.checked.state in GONE
        unreached = one.record.checked is not None and one.record.checked.state == "unreached"
        assert one.outcome == one.verdict.outcome == ("cannot" if gone else expected.outcome)
        assert one.certain == (not one.verdict.unknown) == (not expected.unknown and not unreached)
    outcomes = {one.outcome for one in found.candidates}
    assert outcomes <= {"runs", "degraded"} and {one.outcome for one in found.rest} <= {"cannot"}


def test_the_profiles_make_a_difference(catalogue: Catalogue) -> None:
    counts = {profile.name: len(rank(catalogue, profile).rest) for profile in PROFILES}
    assert len(set(counts.values())) > 3 and counts["nothing-known"] < counts["small"]


def test_the_best_come_first(catalogue: Catalogue) -> None:
    found = rank(catalogue, PROFILES[1]).candidates
    assert len(found) > 20

    def group(one: Candidate) -> tuple[bool, bool]:
        return one.outcome == "degraded", not one.certain

    assert [group(one) for one in found] == sorted(group(one) for one in found)
    assert len({group(one) for one in found}) > 2
    for first, second in pairwise(found):
        if group(first) == group(second):
            assert first.created >= second.created


def test_records_without_a_file_are_ranked_the_same(catalogue: Catalogue) -> None:
    ours = [one.record.key for one in rank(catalogue, PROFILES[1]).candidates]
    assert [one.record.key for one in rank(SOME, PROFILES[1]).candidates] == ours


def test_by_name(catalogue: Catalogue) -> None:
    name = next(one.name for one in SOME if one.environment == "gpu")
    both = rank(catalogue, PROFILES[0], Wanted(name=name))
    titles = {one.title for one in (*both.candidates, *both.rest)}
    assert titles == {name, f"{name}:gpu"}
    assert both.others == len(SOME) - len(both.candidates) - len(both.rest) > 300
    one = rank(catalogue, PROFILES[0], Wanted(name=f"{name}:gpu"))
    assert {found.title for found in (*one.candidates, *one.rest)} == {f"{name}:gpu"}
    other = rank(catalogue, PROFILES[0], Wanted(name=name, environment="gpu"))
    assert [found.row for found in other.candidates] == [found.row for found in one.candidates]
    pattern = rank(catalogue, PROFILES[0], Wanted(name=f"{name[:-1]}*"))
    assert len(pattern.candidates) + len(pattern.rest) >= len(both.candidates) + len(both.rest)
    newest = list(both.newest())
    assert len(newest) <= 2 and sum(more + 1 for _, more in newest) == len(both.candidates)


def test_a_name_that_is_not_there_is_said_to_be(catalogue: Catalogue) -> None:
    with pytest.raises(AfenvError) as caught:
        rank(catalogue, PROFILES[0], Wanted(name=SOME[0].name + "x"))
    assert caught.value.code == "E624" and caught.value.exit_status == 1
    assert f"did you mean {SOME[0].name!r}?" in str(caught.value)


def test_by_gpu(catalogue: Catalogue) -> None:
    cloud = next(one for one in PROFILES if one.name == "cloud")
    assert cloud.gpus and len(cloud.gpus) == 2
    every = rank(catalogue, cloud, Wanted(gpu="any"))
    assert all(one.record.needs.gpu for one in (*every.candidates, *every.rest))
    none = rank(catalogue, cloud, Wanted(gpu="none"))
    needing = [one for one in none.candidates if one.record.needs.gpu]
    assert needing and all(one.record.needs.gpu.optional for one in needing)
    assert {one.outcome for one in needing} == {"degraded"}
    hopper = rank(catalogue, cloud, Wanted(gpu="h100"))
    ada = rank(catalogue, cloud, Wanted(gpu="8.9"))
    assert {one.row for one in hopper.candidates} != {one.row for one in ada.candidates}
    with pytest.raises(AfenvError, match="has no GPU 'V100'; NVIDIA H100 80GB HBM3, NVIDIA L4"):
        rank(catalogue, cloud, Wanted(gpu="V100"))
    with pytest.raises(AfenvError, match="which GPUs it has is not known"):
        rank(catalogue, FacilityProfile(name="x"), Wanted(gpu="V100"))
    with pytest.raises(AfenvError, match="it has none"):
        rank(catalogue, FacilityProfile(name="x", gpus=()), Wanted(gpu="V100"))


def test_why_not_counts_the_rules(catalogue: Catalogue) -> None:
    found = rank(catalogue, PROFILES[0])
    counts = found.why_not()
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    gone = sum(1 for one in SOME if one.checked and one.checked.state == "vanished")
    assert counts["catalogue.vanished"] == gone > 0
    assert max(counts.values()) <= len(found.rest) <= sum(counts.values())


def test_an_image_that_moved_runs_by_its_digest() -> None:
    one = next(record for record in SOME if record.checked and record.checked.state == "moved")
    same = replace(one, checked=None)
    for profile in PROFILES:
        moved, plain = rank([one], profile), rank([same], profile)
        assert len(moved.candidates) == len(plain.candidates)
        for candidate in moved.candidates:
            assert any(reason.rule == "catalogue.moved" for reason in candidate.verdict.reasons)


def test_a_gpu_that_is_not_known_is_said_to_be() -> None:
    one = next(record for record in SOME if record.needs.gpu and record.needs.gpu.code is None)
    unknown = FacilityProfile(name="x", gpus=(Gpu(model="New", compute_capability="99.0", driver="700.1"),))
    (found,) = rank([one], unknown).candidates
    assert not found.certain
    assert any("do not have this compute capability" in reason.message for reason in found.verdict.reasons)


def test_an_empty_catalogue() -> None:
    found = rank([], PROFILES[0])
    assert found.best is None and not found.rest and found.why_not() == {}
    with pytest.raises(AfenvError, match="there is no x"):
        rank([], PROFILES[0], Wanted(name="x"))
