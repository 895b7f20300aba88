"""Profiles and labels that are damaged: an error with a code, or a value; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from afenv.documents.facility_file import dump_facility, facility_tree, parse_facility, read_facility
from afenv.errors import AfenvError
from afenv.facility.describe import describe, not_known
from afenv.facility.labels import profile_of_nodes
from afenv.facility.needs import GpuNeed, Needs
from afenv.facility.verdict import verdict
from afenv.specs import specs_folder

EXAMPLES = sorted((specs_folder() / "facility" / "v1" / "examples").iterdir())
ODD: tuple[Any, ...] = (None, "", "x", 0, -1, 1.5, True, [], {}, [None], {"x": 1}, "9" * 40, "1.2.3.4.5.6")


def _damaged(value: Any) -> Iterator[Any]:
    """The value with one leaf or branch put in the place of something odd, or left out."""
    yield from ODD
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: entry for name, entry in value.items() if name != key}
            yield from ({**value, key: other} for other in _damaged(inner))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from ([*value[:index], other, *value[index + 1 :]] for other in _damaged(inner))


@pytest.mark.parametrize("folder", EXAMPLES[:1], ids=lambda folder: folder.name)
def test_damaged_profiles(folder: Any) -> None:
    tree = facility_tree(read_facility(folder / "facility.yaml"))
    accepted = 0
    for damaged in _damaged(tree):
        try:
            profile = parse_facility(json.dumps(damaged).encode(), "f.yaml")
        except AfenvError as error:
            assert error.exit_status == 2
            assert all(problem.place and problem.place.startswith("f.yaml") for problem in error.problems)
            continue
        accepted += 1
        assert parse_facility(dump_facility(profile).encode(), "again") == profile
        describe(profile)
        not_known(profile)
        verdict(Needs(name="x", gpu=GpuNeed(), jupyterhub="1.0", size=1, kernel=(3, 2)), profile)
    assert accepted > 10


@pytest.mark.parametrize(
    "node",
    [
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"labels": []}, "status": []},
        {"metadata": {"labels": {"nvidia.com/gpu.count": None}}, "status": {"nodeInfo": "x"}},
        {"nvidia.com/gpu.present": True, "nvidia.com/gpu.count": 2, "nvidia.com/gpu.compute.major": 9},
        {"nvidia.com/gpu.count": "-1"},
        {1: 2},
    ],
)
def test_odd_nodes(node: Any) -> None:
    profile = profile_of_nodes("x", [node]).profile
    parse_facility(dump_facility(profile).encode(), "written")


def test_what_nodes_say_wrongly_is_found_when_it_is_read() -> None:
    """Labels are taken as they are; a driver that the GPU cannot have is a contradiction of the profile."""
    labels = {
        "nvidia.com/gpu.count": "1",
        "nvidia.com/gpu.compute.major": "7",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/cuda.driver-version.full": "590.48.01",
    }
    text = dump_facility(profile_of_nodes("x", [labels]).profile)
    with pytest.raises(AfenvError) as caught:
        parse_facility(text.encode(), "x.yaml")
    assert caught.value.code == "E014"
