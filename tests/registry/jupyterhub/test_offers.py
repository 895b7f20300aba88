"""What a hub offers on which hardware, and what it says of the rest."""

from __future__ import annotations

import pytest

from afenv.documents.facility import Gpu, Hub
from afenv.errors import AfenvError
from afenv.record import replace
from afenv_registry.jupyterhub import Hardware, groups_may, hardware_of
from afenv_registry.jupyterhub.hardware import NVIDIA, check_hardware
from tests.registry.jupyterhub.conftest import A100, FACILITY, V100, Offer, gpu_need, image, spawner

A = "nvidia-a100-sxm4-40gb"
V = "tesla-v100-sxm2-32gb"


def offered(offering: Offer, *records: object, **more: object) -> dict[str, list[str]]:
    found = offering(*records, **more).all_offers()
    return {one.image.name: [hardware.key for hardware in one.hardware] for one in found.offered}


def why_not(offering: Offer, *records: object, **more: object) -> dict[str, str]:
    return {one.title: one.reason for one in offering(*records, **more).all_offers().refused}


def test_images_are_offered_where_they_run(offering: Offer) -> None:
    found = offered(
        offering,
        image("plain", number=1),
        image("needs", number=2, gpu=gpu_need()),
        image("optional", number=3, gpu=gpu_need(optional=True)),
        image("old", number=4, gpu=gpu_need((11, 4), "70 80")),
    )
    assert found == {"plain": ["cpu"], "needs": [A], "optional": ["cpu", A], "old": [A, V]}


def test_a_gpu_is_offered_only_if_driver_and_code_fit(offering: Offer) -> None:
    for need, expected in (
        (gpu_need((12, 4), "80"), [A]),
        (gpu_need((13, 0), "80"), []),  # driver 550 is too old for CUDA 13
        (gpu_need((12, 4), "90"), []),  # no code for it
        (gpu_need((11, 4), "70"), [V]),  # code for Volta alone
        (gpu_need((12, 4), None), []),  # its binaries were not read
    ):
        assert offered(offering, image("one", gpu=need)).get("one", []) == expected


def test_what_is_not_known_is_offered_on_demand_only(offering: Offer) -> None:
    unread = image("unread", gpu=gpu_need((12, 4), None))
    assert offered(offering, unread) == {}
    assert offered(offering, unread, uncertain=True) == {"unread": [A]}
    foreign = image("foreign", hub=None, packages=False)
    assert "not known" in why_not(offering, foreign)["foreign"]
    assert offered(offering, foreign, uncertain=True) == {"foreign": ["cpu"]}


def test_only_images_of_the_hub_s_major_version(offering: Offer) -> None:
    older, same = image("older", hub="5.4.0", number=1), image("same", hub="6.9.0", number=2)
    records = (older, same, image("none", hub=None))
    assert offered(offering, *records) == {"same": ["cpu"]}
    refused = why_not(offering, *records)
    assert "jupyterhub 5.4.0" in refused["older"] and "6.1.1" in refused["older"]
    assert "no jupyterhub" in refused["none"]
    assert offered(offering, *records, hub_version="5.0.0") == {"older": ["cpu"]}
    assert offered(offering, *records, hub_version="5.0.0", uncertain=True) == {"older": ["cpu"]}


def test_the_hub_that_runs_counts_not_the_profile(offering: Offer, caplog: pytest.LogCaptureFixture) -> None:
    profile = replace(FACILITY, jupyterhub=Hub(version="5.2.1"))
    assert offered(offering, image(hub="6.0.0"), facility=profile) == {"dimuon": ["cpu"]}
    assert "5.2.1" in caplog.text and "6.1.1" in caplog.text


def test_an_image_that_vanished_or_changed_is_not_offered(offering: Offer) -> None:
    for state in ("vanished", "changed"):
        assert offered(offering, image(state=state)) == {}
    for state in ("same", "moved", "unreached"):
        assert offered(offering, image(state=state)) == {"dimuon": ["cpu"]}


def test_an_offer_names_the_digest_and_says_what_is_degraded(offering: Offer) -> None:
    (offer,) = offering(image(title="Z → μμ", gpu=gpu_need((11, 4), "70"), number=0xABC)).all_offers().offered
    assert offer.image.key.endswith("/group/dimuon@sha256:" + f"{0xABC:064x}")
    assert offer.key == "dimuon-1-0-000000000000"
    assert offer.title == "dimuon 1.0: Z → μμ"
    assert offer.remarks == ()
    (offer,) = offering(image(gpu=gpu_need((11, 8), "70"))).all_offers().offered
    assert "minor-version compatibility" in " ".join(offer.remarks)


def test_nothing_to_offer_says_why(offering: Offer, caplog: pytest.LogCaptureFixture) -> None:
    none = offering(image(hub="5.0.0"))
    assert none.all_offers().offered == ()
    (problem,) = none.nothing().problems
    assert problem.code == "E630" and "jupyterhub 5.0.0" in problem.message
    assert "no image can be offered" in caplog.text
    many = offering(*(image(f"image{number}", hub=None, number=number) for number in range(1, 7)))
    assert "and 3 more" in many.nothing().problems[0].message
    assert "lists no image" in offering().nothing().problems[0].message


def test_groups(offering: Offer) -> None:
    allow = groups_may(
        images={"atlas-*": ["atlas"], "registry.example.org/group/cms": ["cms"]}, hardware={"*v100*": ["gpu"]}
    )
    made = offering(
        image("atlas-one", number=1),
        image("cms", number=2),
        image("open", number=3),
        image("old", number=4, gpu=gpu_need((11, 4), "70")),
        allow=allow,
    )

    def seen(*groups: str) -> set[str]:
        return {one.image.name for one in made.offers_now(spawner(*groups))}

    assert seen() == {"open"}
    assert seen("atlas") == {"open", "atlas-one"}
    assert seen("cms", "gpu") == {"open", "cms", "old"}


def test_hardware_of_a_profile() -> None:
    nameless = Gpu(compute_capability="9.0", driver="580.65.06")
    unknown = Gpu(driver="580.65.06")
    found = hardware_of(replace(FACILITY, gpus=(A100, V100, A100, nameless, unknown)), cpus=2, memory="4G")
    assert [one.key for one in found] == ["cpu", A, V, "gpu-of-compute-capability-9-0"]
    assert found[0].overrides() == {
        "extra_resource_limits": {NVIDIA: None},
        "cpu_limit": 2,
        "cpu_guarantee": 2,
        "mem_limit": "4G",
        "mem_guarantee": "4G",
    }
    assert found[1].overrides()["node_selector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}
    assert found[1].overrides()["extra_resource_limits"] == {NVIDIA: "1"}
    assert found[3].node_selector == {f"{NVIDIA}.compute.major": "9", f"{NVIDIA}.compute.minor": "0"}
    assert [one.key for one in hardware_of(replace(FACILITY, gpus=None))] == ["cpu"]


@pytest.mark.parametrize(
    "hardware",
    [
        [],
        [Hardware(key="GPU", title="x")],
        [Hardware(key="a--b", title="x")],
        [Hardware(key="a", title="x"), Hardware(key="a", title="y")],
        [Hardware(key="a", title="x", cpus=0)],
        [Hardware(key="a", title="x", gpu=A100, count=0)],
        [Hardware(key="a", title="x", memory="much")],
    ],
)
def test_bad_hardware(hardware: list[Hardware]) -> None:
    with pytest.raises(AfenvError) as raised:
        check_hardware(hardware)
    assert raised.value.code == "E632"
