"""What a user can ask for besides an image: processors, memory, and a GPU of the facility's kinds. Pure.

A choice of hardware knows which GPU stands behind it, so that an image can be judged for it: a facility is
seen as a job with this hardware sees it. For Kubernetes it is a node selector and limits of resources; the
labels are those of NVIDIA's GPU feature discovery (``specs/facility/v1/spec.md``, 4), the resource that of
NVIDIA's device plugin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from afenv.documents.facility import FacilityProfile, Gpu
from afenv.errors import AfenvError
from afenv.record import field, record, replace
from afenv_registry.jupyterhub.labels import slug

NVIDIA = "nvidia.com/gpu"
_LABEL = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z"
)  # Kubernetes, "Labels and selectors"
_MEMORY = re.compile(r"[0-9]+(?:\.[0-9]+)?[KMGT]?\Z")  # JupyterHub, ByteSpecification


@record
class Hardware:
    """One choice: ``gpu`` is the kind that comes with it, None for none; ``memory`` is such as ``4G``.

    ``resource`` is what Kubernetes calls a GPU, ``count`` how many a server gets.
    """

    key: str
    title: str
    gpu: Gpu | None = None
    count: int = 1
    cpus: float | None = None
    memory: str | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict, hash=False)
    resource: str = NVIDIA

    def seen_by(self, facility: FacilityProfile) -> FacilityProfile:
        """The facility as a server with this hardware sees it."""
        return replace(facility, gpus=(self.gpu,) if self.gpu is not None else ())

    def overrides(self) -> dict[str, Any]:
        """The settings of KubeSpawner that give a server this hardware.

        Without a GPU, one that is set for all servers is taken away (None removes a key).
        """
        number = str(self.count) if self.gpu is not None else None
        found: dict[str, Any] = {"extra_resource_limits": {self.resource: number}}
        if number is not None:
            found["extra_resource_guarantees"] = {self.resource: number}
        if self.cpus is not None:
            found |= {"cpu_limit": self.cpus, "cpu_guarantee": self.cpus}
        if self.memory is not None:
            found |= {"mem_limit": self.memory, "mem_guarantee": self.memory}
        if self.node_selector:
            found["node_selector"] = dict(self.node_selector)
        return found


def hardware_of(
    facility: FacilityProfile, *, cpus: float | None = None, memory: str | None = None
) -> tuple[Hardware, ...]:
    """The choices that a facility's profile gives: no GPU, and each of its kinds of GPU.

    Kinds that no label can tell apart (neither a model nor a compute capability) are left out.
    """
    found = [Hardware(key="cpu", title="No GPU", cpus=cpus, memory=memory)]
    for gpu in facility.gpus or ():
        selector = _selector(gpu)
        if not selector:
            continue
        title = gpu.model or f"GPU of compute capability {gpu.compute_capability}"
        key = slug(title)
        if key not in {one.key for one in found}:
            found.append(
                Hardware(key=key, title=title, gpu=gpu, cpus=cpus, memory=memory, node_selector=selector)
            )
    return tuple(found)


def _selector(gpu: Gpu) -> dict[str, str]:
    product = (gpu.model or "").replace(" ", "-")
    if _LABEL.match(product):
        return {f"{NVIDIA}.product": product}
    if gpu.compute_capability is None:
        return {}
    major, _, minor = gpu.compute_capability.partition(".")
    return {f"{NVIDIA}.compute.major": major, f"{NVIDIA}.compute.minor": minor}


def check_hardware(hardware: Sequence[Hardware]) -> tuple[Hardware, ...]:
    """The choices, if they can be offered; E632 for a key that is none or twice, and for bad amounts."""
    if not hardware:
        raise AfenvError("E632", "there is no hardware to choose", place="hardware")
    seen: set[str] = set()
    for one in hardware:
        place = f"hardware {one.key!r}"
        if one.key != slug(one.key):
            message = "a key has small letters, digits and single hyphens"
            raise AfenvError("E632", message, place=place, remedy=f"Call it {slug(one.key)!r}.")
        if one.key in seen:
            raise AfenvError("E632", "the key is there twice", place=place)
        if one.count < 1 or (one.cpus is not None and one.cpus <= 0):
            raise AfenvError("E632", "an amount is not above 0", place=place)
        if one.memory is not None and not _MEMORY.match(one.memory):
            raise AfenvError("E632", f"{one.memory!r} is not a size such as 4G", place=place)
        seen.add(one.key)
    return tuple(hardware)
