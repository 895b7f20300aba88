"""Profiles for KubeSpawner: image and hardware apart, and no choice that does not run."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from afenv.errors import AfenvError
from afenv.record import replace
from afenv_registry.jupyterhub import groups_may, profile_list, profiles_of, unlisted
from afenv_registry.jupyterhub.kubespawner import ANOTHER, NOTHING, check_options
from tests.registry.jupyterhub.conftest import Offer, gpu_need, image, spawner

RULE = unlisted(["registry.example.org/users/*"])
ALLOWED = "registry.example.org/users/alice/x@sha256:" + "b" * 64
A = "nvidia-a100-sxm4-40gb"


def profiles(
    offering: Offer, *records: Any, groups: tuple[str, ...] = (), **more: Any
) -> list[dict[str, Any]]:
    return asyncio.run(profile_list(offering(*records, **more))(spawner(*groups)))  # type: ignore[arg-type]


def three(offering: Offer, **more: Any) -> list[dict[str, Any]]:
    return profiles(
        offering,
        image("plain", number=3),
        image("needs", number=2, gpu=gpu_need()),
        image("both", number=1, gpu=gpu_need(optional=True)),
        **more,
    )


def test_in_a_profile_every_image_runs_on_all_of_its_hardware(offering: Offer) -> None:
    found = three(offering)
    shown = {
        one["slug"]: (
            one["display_name"],
            [choice["display_name"] for choice in one["profile_options"]["image"]["choices"].values()],
            list(one["profile_options"]["hardware"]["choices"]),
        )
        for one in found
    }
    assert shown == {
        "cpu": ("Without a GPU", ["plain 1.0"], ["cpu"]),
        f"cpu-{A}": ("With or without a GPU", ["both 1.0"], ["cpu", A]),
        A: ("With a GPU", ["needs 1.0"], [A]),
    }
    assert [one.get("default") for one in found] == [True, None, None]


def test_a_choice_is_by_digest_with_limits_and_node_selector(offering: Offer) -> None:
    profile = next(one for one in three(offering) if one["slug"] == A)
    (choice,) = profile["profile_options"]["image"]["choices"].values()
    assert choice["kubespawner_override"] == {"image": f"registry.example.org/group/needs@sha256:{2:064x}"}
    hardware = profile["profile_options"]["hardware"]["choices"][A]["kubespawner_override"]
    assert hardware["extra_resource_limits"] == {"nvidia.com/gpu": "1"}
    assert hardware["node_selector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}


def test_profiles_of_one_kind_are_told_apart(offering: Offer) -> None:
    found = profiles(
        offering,
        image("new", number=1, gpu=gpu_need((12, 4), "80")),
        image("old", number=2, gpu=gpu_need((11, 4), "70")),
    )
    names = {one["display_name"] for one in found}
    assert names == {"With a GPU: NVIDIA A100-SXM4-40GB", "With a GPU: Tesla V100-SXM2-32GB"}


def test_hardware_is_for_groups(offering: Offer) -> None:
    allow = groups_may(hardware={"*a100*": ["gpu"]})
    without = three(offering, allow=allow)
    assert [one["slug"] for one in without] == ["cpu"]
    assert len(without[0]["profile_options"]["image"]["choices"]) == 2
    assert len(three(offering, allow=allow, groups=("gpu",))) == 3


def test_images_that_are_not_listed_have_no_gpu_unless_the_rule_says_so(offering: Offer) -> None:
    for rule, expected in ((RULE, ["cpu"]), (unlisted(["registry.example.org/x"], hardware=[A]), [A])):
        found = three(offering, unlisted=rule)[-1]
        assert found["slug"] == ANOTHER
        assert list(found["profile_options"]["hardware"]["choices"]) == expected
        choice = found["profile_options"]["image"]["unlisted_choice"]
        assert choice["validation_regex"] == rule.regex and choice["enabled"]
    with pytest.raises(AfenvError, match="no hardware"):
        offering(unlisted=unlisted(["registry.example.org/x"], hardware=["h100"]))


def test_names_from_a_catalogue_are_escaped(offering: Offer) -> None:
    hostile = '<img src=x onerror="x">{{ 7*7 }}{% raw %}'
    (found,) = profiles(offering, replace(image("evil", title=hostile), version=hostile))
    assert not re.search(r"<|\{\{|\{%", json.dumps(found))
    (choice,) = found["profile_options"]["image"]["choices"]
    assert set(choice) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_nothing_to_choose_is_a_profile_that_says_why(offering: Offer) -> None:
    (found,) = profiles(offering, image(hub="5.0.0"))
    assert found["slug"] == NOTHING and "jupyterhub 5.0.0" in found["description"]
    assert callable(found["kubespawner_override"]["image"])
    (found,) = profiles(offering, image(hub="5.0.0"), unlisted=RULE)
    assert found["slug"] == ANOTHER and found["default"]


def key_of(profile: dict[str, Any]) -> str:
    return next(iter(profile["profile_options"]["image"]["choices"]))


def test_options_that_are_offered(offering: Offer) -> None:
    found = three(offering, unlisted=RULE)
    for options in (
        {},
        {"profile": "cpu"},
        {"profile": "cpu", "image": key_of(found[0]), "hardware": "cpu"},
        {"profile": A, "hardware": A},
        {"profile": ANOTHER, "image--unlisted-choice": ALLOWED},
    ):
        check_options(options, found, RULE)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"profile": "root"}, "E633"),
        ({"profile": ["cpu"]}, "E633"),
        ({"profile": "cpu", "hardware": A}, "E633"),
        ({"profile": "cpu", "image": "x"}, "E633"),
        ({"profile": "cpu", "image": {"a": 1}}, "E633"),
        ({"profile": "cpu", "image--unlisted-choice": ALLOWED}, "E633"),
        ({"profile": "cpu", "hardware--unlisted-choice": "x"}, "E633"),
        ({"profile": ANOTHER}, "E633"),
        ({"profile": ANOTHER, "image": "anything"}, "E633"),
        ({"profile": ANOTHER, "image--unlisted-choice": "docker.io/evil:1"}, "E631"),
        ({"profile": ANOTHER, "image--unlisted-choice": [ALLOWED]}, "E631"),
        ({"profile": ANOTHER, "image--unlisted-choice": ALLOWED, "hardware": A}, "E633"),
    ],
)
def test_options_that_are_not(offering: Offer, options: dict[str, Any], code: str) -> None:
    with pytest.raises(AfenvError) as raised:
        check_options(options, three(offering, unlisted=RULE), RULE)
    assert raised.value.code == code


def test_an_image_of_another_profile_is_not_offered(offering: Offer) -> None:
    found = three(offering)
    with pytest.raises(AfenvError, match="E633"):
        check_options({"profile": "cpu", "image": key_of(found[-1])}, found)


def test_no_offers_are_no_profiles() -> None:
    assert profiles_of(()) == []
