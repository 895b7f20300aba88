"""Kubernetes nodes as a facility's profile: labels of NVIDIA's GPU feature discovery, and what nodes say.

The labels are those that GPU feature discovery (of NVIDIA's k8s-device-plugin) calls generated labels; the
table of ``specs/facility/v1/spec.md`` says what maps to what. Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from afenv.documents.facility import FacilityProfile, FacilityRuntime, Gpu, Kernel
from afenv.record import record

PREFIX = "nvidia.com/"
_ARCHITECTURES = ("amd64", "arm64", "ppc64le", "riscv64", "s390x")
_RUNTIMES = {"containerd": "containerd", "cri-o": "cri-o", "docker": "docker"}


@record
class Imported:
    """A profile, and what of the labels could not be understood."""

    profile: FacilityProfile
    remarks: tuple[str, ...] = ()


class _Labels:
    """The labels of a node, each understood or remarked on."""

    def __init__(self, labels: Mapping[str, str], remarks: list[str]) -> None:
        self.labels = {key: str(value) for key, value in labels.items()}
        self.remarks = remarks

    def take(self, name: str, pattern: str) -> str | None:
        value = self.labels.get(name)
        if value is None:
            return None
        if re.fullmatch(pattern, value):
            return value
        self.remarks.append(f"{name} is {value!r}, which is not understood")
        return None

    def number(self, name: str) -> int | None:
        value = self.take(name, r"\d+")
        return int(value) if value else None

    def joined(self, *names: str) -> str | None:
        """Several numbers as a version, as far as there are any; None without the first two."""
        found = []
        for name in names:
            value = self.take(PREFIX + name, r"\d+")
            if value is None:
                break
            found.append(value)
        return ".".join(found) if len(found) >= 2 else None

    def version(self, full: str, *ways: Sequence[str]) -> str | None:
        """A version by its one label, else by the parts that other labels have."""
        found = self.take(PREFIX + full, r"\d+(\.\d+){1,2}")
        for way in ways:
            found = found or self.joined(*way)
        return found


def gpu_of_labels(labels: Mapping[str, str]) -> tuple[Gpu | None, tuple[str, ...]]:
    """The kind of GPU that a node's labels describe, None if it has none; and remarks.

    With several kinds on a node, GPU feature discovery labels the first one only.
    """
    remarks: list[str] = []
    known = _Labels(labels, remarks)
    present = known.take(f"{PREFIX}gpu.present", "true|false")
    if present == "false" or not any(name.startswith(f"{PREFIX}gpu.") for name in labels):
        return None, tuple(remarks)
    count = known.number(f"{PREFIX}gpu.count")
    if count == 0:
        return None, tuple(remarks)
    product = labels.get(f"{PREFIX}gpu.product")
    driver = known.version(
        "cuda.driver-version.full",
        ("cuda.driver-version.major", "cuda.driver-version.minor", "cuda.driver-version.revision"),
        ("cuda.driver.major", "cuda.driver.minor", "cuda.driver.rev"),
    )
    cuda = known.version(
        "cuda.runtime-version.full",
        ("cuda.runtime-version.major", "cuda.runtime-version.minor"),
        ("cuda.runtime.major", "cuda.runtime.minor"),
    )
    found = Gpu(
        model=product.replace("-", " ") if product else None,
        compute_capability=known.joined("gpu.compute.major", "gpu.compute.minor"),
        driver=driver,
        cuda=".".join(cuda.split(".")[:2]) if cuda else None,
        memory=known.number(f"{PREFIX}gpu.memory") or None,
        count=count,
    )
    if found.compute_capability is None:
        remarks.append("no label tells the compute capability")
    if found.driver is None:
        remarks.append("no label tells the driver")
    return found, tuple(remarks)


def profile_of_nodes(name: str, nodes: Sequence[Mapping[str, Any]]) -> Imported:
    """The profile of some nodes, as the Kubernetes API describes each (its ``metadata`` and ``status``).

    A mapping of labels alone will do as a node. What nodes differ in, but for their GPUs, is left out and
    remarked on. Without any label of NVIDIA's it is not known whether there are GPUs.
    """
    remarks: list[str] = []
    gpus: list[Gpu] = []
    seen: dict[str, set[Any]] = {"architecture": set(), "kernel": set(), "runtime": set()}
    for node in nodes:
        labels = _labels(node)
        gpu, said = gpu_of_labels(labels)
        remarks += [text for text in said if text not in remarks]
        gpus += [gpu] if gpu else []
        info = _mapping(_mapping(node.get("status")).get("nodeInfo")) if "metadata" in node else {}
        architecture = labels.get("kubernetes.io/arch") or info.get("architecture")
        kernel = labels.get("feature.node.kubernetes.io/kernel-version.full") or info.get("kernelVersion")
        seen["architecture"].add(architecture if architecture in _ARCHITECTURES else None)
        seen["kernel"].add(kernel if re.match(r"\d+\.\d+\S*\Z", str(kernel)) else None)
        seen["runtime"].add(_runtime(str(info.get("containerRuntimeVersion", ""))))
    common: dict[str, Any] = {}
    for key, values in seen.items():
        common[key] = values.copy().pop() if len(values) == 1 else None
        if len(values) > 1:
            remarks.append(f"the nodes differ in their {key}, which is left out")
    runtime = common["runtime"]
    # kinds first seen first; counts are of one node, so nodes of one kind do not add up
    kinds = tuple(dict.fromkeys(gpus))
    told = any(name.startswith(PREFIX) for node in nodes for name in _labels(node))
    return Imported(
        profile=FacilityProfile(
            name=name,
            architecture=common["architecture"],
            kernel=Kernel(release=common["kernel"]) if common["kernel"] else None,
            runtimes=(runtime,) if runtime else None,
            gpus=kinds if told else None,
        ),
        remarks=tuple(remarks),
    )


def _labels(node: Mapping[str, Any]) -> Mapping[str, str]:
    if "metadata" in node:
        node = _mapping(_mapping(node["metadata"]).get("labels"))
    return {
        str(name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in node.items()
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _runtime(text: str) -> FacilityRuntime | None:
    kind, _, number = text.partition("://")
    if kind not in _RUNTIMES or not re.fullmatch(r"\d+(\.\d+)+([.+~a-z-][0-9A-Za-z.+~-]*)?", number):
        return None
    return FacilityRuntime(name=_RUNTIMES[kind], version=number)
