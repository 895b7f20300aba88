"""The plan of layers: stable, within the budget, from the lock alone."""

from __future__ import annotations

import dataclasses
import random

import pytest

from afenv.documents.lock import (
    LockedCode,
    LockedConda,
    LockedDeb,
    LockedEnvironment,
    LockedFile,
    LockedPython,
    LockedWheel,
)
from afenv.errors import AfenvError
from afenv.layers.plan import LIMIT, layer_source, plan_layers

PYTHON = LockedPython(version="3.11.2", executable="/p", site_packages="/s", scripts="/b")


def file(size):
    return LockedFile(urls=("https://example.org/x",), size=size, sha256=f"{size:064x}")


def deb(name, size, version="1"):
    return LockedDeb(name=name, version=version, architecture="amd64", source=name, file=file(size))


def wheel(name, size, version="1"):
    return LockedWheel(name=name, version=version, file=file(size))


def code(into):
    return LockedCode(into=into, tree="0" * 40, swhid="swh:1:dir:" + "0" * 40)


def environment(debs=100, wheels=100, **changes):
    return LockedEnvironment(
        **{
            "request": "sha256:" + "0" * 64,
            "platform": "linux/amd64",
            "as_of": "2026-01-01T00:00:00Z",
            "debs": tuple(deb(f"deb-{number:03}", 1000 + number) for number in range(debs)),
            "wheels": tuple(wheel(f"wheel-{number:03}", 5000 + number) for number in range(wheels)),
            "python": PYTHON,
            **changes,
        }
    )


def test_shape():
    planned = plan_layers(environment(), [code("/analysis"), code("/more")])
    kinds = [layer.kind for layer in planned]
    assert kinds == ["debian"] * 20 + ["system"] + ["pypi"] * 68 + ["code"] * 2
    assert [layer.name for layer in planned[:17]] == [
        *(f"debian:deb-{number:03}=1" for number in range(84, 100)),
        "debian:group-0",
    ]
    assert planned[21].name == "pypi:wheel-040==1"
    assert [layer.name for layer in planned[-10:]] == [
        *(f"pypi:group-{number}" for number in range(8)),
        "code:/analysis",
        "code:/more",
    ]
    assert layer_source(planned[0]) == "debian:deb-084=1"
    assert layer_source(planned[16]).startswith("debian:group-0: deb-0")


def test_each_package_is_in_one_layer():
    locked = environment(300, 300)
    planned = plan_layers(locked, [])
    assert sorted(deb.name for layer in planned for deb in layer.debs) == [deb.name for deb in locked.debs]
    names = sorted(wheel.name for layer in planned for wheel in layer.wheels)
    assert names == [wheel.name for wheel in locked.wheels]
    for layer in planned:
        assert list(layer.debs) == sorted(layer.debs, key=lambda one: one.name)
        assert list(layer.wheels) == sorted(layer.wheels, key=lambda one: one.name)


def test_order_of_the_lock_does_not_matter():
    locked = environment()
    mixed = random.Random(1)
    debs, wheels = list(locked.debs), list(locked.wheels)
    mixed.shuffle(debs)
    mixed.shuffle(wheels)
    assert plan_layers(locked, []) == plan_layers(
        dataclasses.replace(locked, debs=tuple(debs), wheels=tuple(wheels)), []
    )


def test_a_bump_of_a_small_package_changes_one_layer():
    before = environment()
    bumped = tuple(wheel("wheel-003", 4321, "2") if one.name == "wheel-003" else one for one in before.wheels)
    one, two = plan_layers(before, []), plan_layers(dataclasses.replace(before, wheels=bumped), [])
    assert len([pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]) == 1


def test_a_new_small_package_changes_one_layer():
    before = environment()
    more = (*before.wheels, wheel("wheel-new", 10))
    one, two = plan_layers(before, []), plan_layers(dataclasses.replace(before, wheels=more), [])
    assert len([pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]]) == 1


def test_groups_are_those_of_assembly_version_1():
    """A change here changes every image: it needs a new assembly version."""
    planned = plan_layers(environment(30, 80), [])
    groups = {layer.name: [one.name for one in layer.debs or layer.wheels] for layer in planned}
    assert groups["debian:group-0"] == ["deb-004", "deb-010"]
    assert groups["pypi:group-0"] == ["wheel-001", "wheel-013"]


def test_little():
    assert plan_layers(environment(0, 0), []) == ()
    assert [layer.name for layer in plan_layers(environment(1, 1), [])] == [
        "debian:deb-000=1",
        "system",
        "pypi:wheel-000==1",
    ]


def test_budget():
    assert len(plan_layers(environment(2000, 2000), [code(f"/c{n}") for n in range(11)])) == LIMIT
    with pytest.raises(AfenvError, match="E405"):
        plan_layers(environment(2000, 2000), [code(f"/c{n}") for n in range(12)])


def conda(name, size):
    return LockedConda(
        name=name,
        version="1",
        build="0",
        build_number=0,
        channel="conda-forge",
        subdir="noarch",
        file=file(size),
    )


def test_conda_packages_take_room_from_wheels():
    packages = tuple(conda(f"c{number:03}", 9000 + number) for number in range(300))
    planned = plan_layers(environment(2000, 2000, conda=packages), [code(f"/c{n}") for n in range(10)])
    kinds = [layer.kind for layer in planned]
    assert kinds == [
        *["debian"] * 20,
        "system",
        *["conda"] * 56,
        "conda-environment",
        *["pypi"] * 12,
        *["code"] * 10,
    ]
    assert len(planned) == LIMIT
    held = [package.name for layer in planned for package in layer.conda]
    assert sorted(held) == [package.name for package in packages]
    assert planned[21].name == "conda:c252=1"
    assert layer_source(planned[69]).startswith("conda:group-0: c0")


def test_the_plan_of_one_conda_package():
    planned = plan_layers(environment(0, 1, conda=(conda("x", 1),)), [])
    assert [layer.name for layer in planned] == ["conda:x=1", "conda:environment", "pypi:wheel-000==1"]
