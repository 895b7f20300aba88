"""Finding builders and registries through entry points."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from afenv.errors import AfenvError
from afenv.oci import builders
from afenv.oci.builders import find_builder
from afenv.oci.registries import BUILT_IN, GROUP, find_registry


@pytest.mark.parametrize("target", ["oci", "oci-archive", "docker"])
def test_the_built_in_builder_is_found(target):
    assert type(find_builder(target)).__name__ == "OciBuilder"


def test_the_built_in_builders_are_those_of_the_entry_points_with_all_their_targets():
    points = {point.value: point.load() for point in entry_points(group=builders.GROUP)}
    for value, targets in builders.BUILT_IN.items():
        assert sorted(sys.modules[points[value].__module__].TARGETS) == list(targets)
        assert all(type(find_builder(target)) is points[value] for target in targets)


def test_a_target_that_nobody_builds():
    with pytest.raises(AfenvError, match="no builder makes 'tape'; there are: cvmfs, docker, oci,") as caught:
        find_builder("tape")
    assert caught.value.code == "E030"
    for target in str(caught.value).splitlines()[0].split("there are: ")[1].split(", "):
        assert find_builder(target).supports(target)


def test_the_registry_client_is_found():
    assert type(find_registry()).__name__ == "RegistryClient"
    with pytest.raises(AfenvError) as caught:
        find_registry("carrier-pigeon")
    assert caught.value.code == "E030"


def test_the_built_in_registry_is_the_one_of_the_entry_point():
    points = entry_points(group=GROUP)
    assert {point.name: point.value for point in points if point.value.startswith("afenv_")} == BUILT_IN


def test_the_core_loads_no_plugin_by_itself():
    code = (
        "import sys, afenv.oci.image, afenv.oci.layout, afenv.oci.builders, afenv.oci.registries\n"
        "heavy = ('afenv_', 'requests', 'importlib.metadata')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
