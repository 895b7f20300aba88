"""What an image says to NVIDIA's container toolkit: variables in its configuration.

Grammar: NVIDIA container toolkit, "Environment variables (OCI spec)": of every ``NVIDIA_REQUIRE_*`` a space
is an or, a comma an and. The requirement is by ``cuda``, the version that the driver supports, not by
``driver``: versions of drivers such as 595.45.04 have leading zeros, which semantic versions do not.
"""

from __future__ import annotations

from afenv.documents.lock import LockedGpu

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
REQUIRE = "NVIDIA_REQUIRE_CUDA"


def nvidia_variables(gpu: LockedGpu | None) -> dict[str, str]:
    """The variables of an environment with this GPU need; none without one.

    An image whose GPU is optional requires nothing, so that it starts where the driver is too old.
    """
    if gpu is None:
        return {}
    found = {VISIBLE: "all", CAPABILITIES: "compute,utility"}
    if gpu.least_cuda is not None and not gpu.optional:
        found[REQUIRE] = f"cuda>={gpu.least_cuda}"
    return found


def on_base(gpu: LockedGpu | None, inherited: dict[str, str]) -> dict[str, str]:
    """The variables of a base image with ours.

    Its own stay, but for the requirement where the lock's packages tell the toolkit.
    """
    ours = nvidia_variables(gpu)
    if gpu is None or gpu.toolkit is None:
        return ours | inherited
    found = ours | inherited
    if REQUIRE in ours:
        found[REQUIRE] = ours[REQUIRE]
    elif gpu.optional:
        found.pop(REQUIRE, None)
    return found
