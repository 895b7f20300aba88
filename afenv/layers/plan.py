"""Which packages share a layer.

Runtimes stop at about 125 layers, so large packages get a layer of their own and the others share a
fixed number of layers, chosen by a hash of the *name*: a new version of a package stays in its layer,
and images with mostly the same packages share most layers. The numbers belong to the assembly version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from afenv.documents.cvmfs import LockedCvmfsPart
from afenv.documents.lock import LockedCode, LockedConda, LockedDeb, LockedEnvironment, LockedWheel
from afenv.errors import AfenvError
from afenv.layers.model import PlannedLayer

LIMIT = 100  # layers of our own
TOTAL = 120  # layers together with those of a base image
SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)  # of the numbers below, where a base image leaves less room

DEBS_ALONE, DEB_GROUPS = 16, 4
WHEELS_ALONE, WHEEL_GROUPS = 60, 8
CONDA_ALONE, CONDA_GROUPS = 48, 8
CONDA_WHEELS_ALONE, CONDA_WHEEL_GROUPS = 8, 4  # wheels beside conda packages

CVMFS_ALONE, CVMFS_GROUPS = 24, 8
CVMFS_LARGE = 1 << 20  # bytes of a part of CVMFS from which on it is alone

Package = TypeVar("Package", LockedDeb, LockedConda, LockedWheel)


def plan_layers(environment: LockedEnvironment, code: Sequence[LockedCode]) -> tuple[PlannedLayer, ...]:
    """The layers of an environment, lowest first; from the lock alone.

    Debian packages come first, then the files that their scripts would have made, then parts of CVMFS, then
    conda packages and the files of their environment, then wheels, then code; within a kind packages of their
    own by name, then groups. On a base image with many layers, and beside parts of CVMFS where all would be
    too many, fewer packages are alone. E405 if there are more
    than 100, or with those of the base more than 120.
    """
    if environment.base is None:
        embeds = any(one.parts for one in environment.cvmfs)
        for share in SHARES if embeds else SHARES[:1]:
            layers = _plan(environment, code, share)
            if len(layers) <= LIMIT:
                break
        if len(layers) > LIMIT:
            raise AfenvError("E405", f"{len(layers)} layers would be needed; the code has {len(code)} parts")
        return layers
    below = len(environment.base.layers)
    for share in SHARES:
        layers = _plan(environment, code, share)
        if len(layers) <= min(LIMIT, TOTAL - below):
            return layers
    raise AfenvError(
        "E405",
        f"the base image has {below} layers, and {len(layers)} more would be needed; {TOTAL} can be used",
        place=environment.base.reference,
        remedy="Choose a base with fewer layers.",
    )


def _plan(
    environment: LockedEnvironment, code: Sequence[LockedCode], part: float
) -> tuple[PlannedLayer, ...]:
    """The layers; ``part`` of the usual number of packages are alone, and of the groups."""

    def share(alone: int, groups: int) -> tuple[int, int]:
        return int(alone * part), max(1, int(groups * part))

    layers: list[PlannedLayer] = []
    if environment.debs:
        alone, groups = _divide(environment.debs, *share(DEBS_ALONE, DEB_GROUPS))
        layers += [
            PlannedLayer(name=f"debian:{deb.name}={deb.version}", kind="debian", debs=(deb,)) for deb in alone
        ]
        layers += [
            PlannedLayer(name=f"debian:group-{number}", kind="debian", debs=debs) for number, debs in groups
        ]
    if environment.debs or needs_account(environment):
        layers.append(PlannedLayer(name="system", kind="system"))
    layers += _cvmfs_layers(environment)
    for_wheels = share(WHEELS_ALONE, WHEEL_GROUPS)
    if environment.conda:
        for_wheels = share(CONDA_WHEELS_ALONE, CONDA_WHEEL_GROUPS)
        conda_alone, conda_groups = _divide(environment.conda, *share(CONDA_ALONE, CONDA_GROUPS))
        layers += [
            PlannedLayer(name=f"conda:{package.name}={package.version}", kind="conda", conda=(package,))
            for package in conda_alone
        ]
        layers += [
            PlannedLayer(name=f"conda:group-{number}", kind="conda", conda=packages)
            for number, packages in conda_groups
        ]
        layers.append(PlannedLayer(name="conda:environment", kind="conda-environment"))
    wheels_alone, wheel_groups = _divide(environment.wheels, *for_wheels)
    layers += [
        PlannedLayer(name=f"pypi:{wheel.name}=={wheel.version}", kind="pypi", wheels=(wheel,))
        for wheel in wheels_alone
    ]
    layers += [
        PlannedLayer(name=f"pypi:group-{number}", kind="pypi", wheels=wheels)
        for number, wheels in wheel_groups
    ]
    layers += [PlannedLayer(name=f"code:{one.into}", kind="code", code=one) for one in code]
    return tuple(layers)


def cvmfs_parts(environment: LockedEnvironment) -> tuple[LockedCvmfsPart, ...]:
    """The parts of CVMFS that are embedded, sorted; of one that two entries have, each form once."""
    found = {(part.path, part.listing): part for one in environment.cvmfs for part in one.parts}
    return tuple(found[key] for key in sorted(found))


def _cvmfs_layers(environment: LockedEnvironment) -> list[PlannedLayer]:
    """Large parts in layers of their own, the others in groups by a hash of their folder's name.

    Both depend on the part alone, as long as not too many are large: so environments with other parts as well
    share these layers.
    """
    parts = cvmfs_parts(environment)
    by_size = sorted(
        (part for part in parts if part.size >= CVMFS_LARGE), key=lambda part: (-part.size, part.path)
    )
    alone = set(by_size[:CVMFS_ALONE])
    layers = [
        PlannedLayer(name=f"cvmfs:{part.path}", kind="cvmfs", cvmfs=(part,))
        for part in parts
        if part in alone
    ]
    shared: dict[int, list[LockedCvmfsPart]] = {}
    for part in parts:
        if part not in alone:
            shared.setdefault(_group(part.path, CVMFS_GROUPS), []).append(part)
    layers += [
        PlannedLayer(name=f"cvmfs:group-{number}", kind="cvmfs", cvmfs=tuple(shared[number]))
        for number in sorted(shared)
    ]
    return layers


def needs_account(environment: LockedEnvironment) -> bool:
    """Whether a base image lacks an account for our user; from the lock alone."""
    base = environment.base
    ours = environment.builder is None  # an image that another tool made has its own accounts
    return ours and base is not None and base.user is None and base.home is None


def layer_source(layer: PlannedLayer) -> str:
    """What a layer holds, for people."""
    if layer.cvmfs:
        alone = "group-" not in layer.name
        return layer.name if alone else f"{layer.name}: {', '.join(part.path for part in layer.cvmfs)}"
    packages: Iterable[LockedDeb | LockedConda | LockedWheel] = layer.debs or layer.conda or layer.wheels
    names = [package.name for package in packages]
    return (
        layer.name if len(names) < 2 and "group-" not in layer.name else f"{layer.name}: {', '.join(names)}"
    )


def _divide(
    packages: Sequence[Package], alone: int, groups: int
) -> tuple[list[Package], list[tuple[int, tuple[Package, ...]]]]:
    """The largest packages by archive size, and the others in groups that are not empty; all by name."""
    by_size = sorted(packages, key=lambda package: (-package.file.size, package.name))
    shared: dict[int, list[Package]] = {}
    for package in sorted(by_size[alone:], key=lambda package: package.name):
        shared.setdefault(_group(package.name, groups), []).append(package)
    first = sorted(by_size[:alone], key=lambda package: package.name)
    return first, [(number, tuple(shared[number])) for number in sorted(shared)]


def _group(name: str, groups: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % groups
