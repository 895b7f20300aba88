"""Needs in the JSON form of records, and back. What is a default is left out.

Sizes, forms and the registry are no part of it: a record has them elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from afenv.catalogue.shape import Shape, boolean, fields, integer, listed, text
from afenv.documents.cuda import Version
from afenv.facility.needs import CvmfsNeed, DataNeed, GpuCode, GpuNeed, Needs

LINE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+"
one_line: Shape = text(LINE, "one line of text", 1000)
_numbers = text(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}", "a version such as 12.4")
_code = text(r"(?:sm|compute)_[0-9]{2,4}[af]?", "an architecture such as sm_80")

NEEDS: Shape = fields(
    {},
    {
        "architecture": text(r"[a-z0-9]+", "an architecture such as amd64", 40),
        "level": text("x86-64-v[1-4]", "a level such as x86-64-v3"),
        "level-of": one_line,
        "glibc": _numbers,
        "kernel": _numbers,
        "gpu": fields(
            {},
            {
                "optional": boolean,
                "toolkit": _numbers,
                "least-driver": _numbers,
                "least-cuda": _numbers,
                "full-driver": _numbers,
                "architectures": listed(_numbers),
                "code": listed(_code),
                "files": listed(fields({"path": one_line, "code": listed(_code)}, {})),
                "compatibility": boolean,
            },
        ),
        "cvmfs": listed(
            fields(
                {"name": text(r"[A-Za-z0-9.-]+", "a repository such as sft.cern.ch", 200)},
                {
                    "revision": integer,
                    "root-hash": text(r"[0-9a-f]{40}(?:-[a-z0-9]+)?", "a root hash of 40 hexadecimal digits"),
                },
            )
        ),
        "data": listed(fields({"name": one_line, "uris": listed(one_line)}, {})),
        "network": boolean,
        "jupyterhub": one_line,
        "packages": boolean,
    },
)


def _dotted(numbers: Version) -> str:
    return ".".join(map(str, numbers))


def _version(word: str) -> Version:
    return tuple(map(int, word.split(".")))


def _gpu_tree(gpu: GpuNeed) -> dict[str, Any]:
    tree: dict[str, Any] = {"optional": True} if gpu.optional else {}
    for name in ("toolkit", "least_driver", "least_cuda", "full_driver"):
        value = getattr(gpu, name)
        if value is not None:
            tree[name.replace("_", "-")] = _dotted(value)
    if gpu.architectures:
        tree["architectures"] = [_dotted(one) for one in gpu.architectures]
    if gpu.code is not None:
        tree["code"] = [str(one) for one in gpu.code]
    if gpu.files:
        tree["files"] = [{"path": path, "code": [str(one) for one in code]} for path, code in gpu.files]
    return tree | ({"compatibility": True} if gpu.compatibility else {})


def needs_tree(needs: Needs) -> dict[str, Any]:
    """What a record says that its image needs."""
    tree: dict[str, Any] = {}
    if needs.architecture is not None:
        tree["architecture"] = needs.architecture
    if needs.level is not None:
        tree["level"] = f"x86-64-v{needs.level}"
        if needs.level_of:
            tree["level-of"] = needs.level_of
    for name in ("glibc", "kernel"):
        value = getattr(needs, name)
        if value is not None:
            tree[name] = _dotted(value)
    if needs.gpu is not None:
        tree["gpu"] = _gpu_tree(needs.gpu)
    if needs.cvmfs:
        tree["cvmfs"] = [_repository(one) for one in needs.cvmfs]
    if needs.data:
        tree["data"] = [{"name": one.name, "uris": list(one.uris)} for one in needs.data]
    if needs.network:
        tree["network"] = True
    if needs.jupyterhub is not None:
        tree["jupyterhub"] = needs.jupyterhub
    return tree | ({} if needs.packages else {"packages": False})


def _repository(need: CvmfsNeed) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": need.name}
    if need.revision is not None:
        tree["revision"] = need.revision
    return tree | ({"root-hash": need.root_hash} if need.root_hash else {})


@cache
def code_of(word: str) -> GpuCode:
    """``sm_90a`` as a value."""
    name, _, number = word.partition("_")
    digits = number.rstrip("af")
    return GpuCode(
        kind="cubin" if name == "sm" else "ptx",
        capability=(int(digits[:-1]), int(digits[-1])),
        variant=number[len(digits) :],
    )


def _codes(words: Sequence[str]) -> tuple[GpuCode, ...]:
    return tuple(code_of(word) for word in words)


def gpu_of(tree: Mapping[str, Any]) -> GpuNeed:
    """The GPU need that a valid tree stands for."""
    values: dict[str, Any] = {
        name.replace("-", "_"): _version(tree[name])
        for name in ("toolkit", "least-driver", "least-cuda", "full-driver")
        if name in tree
    }
    return GpuNeed(
        optional=tree.get("optional", False),
        architectures=tuple(_version(one) for one in tree.get("architectures", ())),
        code=_codes(tree["code"]) if "code" in tree else None,
        files=tuple((one["path"], _codes(one["code"])) for one in tree.get("files", ())),
        compatibility=tree.get("compatibility", False),
        **values,
    )


def needs_of_tree(tree: Mapping[str, Any], **more: Any) -> Needs:
    """The needs that a valid tree stands for; ``more`` are fields that the tree does not have."""
    return Needs(
        architecture=tree.get("architecture"),
        level=int(tree["level"][-1]) if "level" in tree else None,
        level_of=tree.get("level-of", ""),
        glibc=_version(tree["glibc"]) if "glibc" in tree else None,
        kernel=_version(tree["kernel"]) if "kernel" in tree else None,
        gpu=gpu_of(tree["gpu"]) if "gpu" in tree else None,
        cvmfs=tuple(
            CvmfsNeed(name=one["name"], revision=one.get("revision"), root_hash=one.get("root-hash"))
            for one in tree.get("cvmfs", ())
        ),
        data=tuple(DataNeed(name=one["name"], uris=tuple(one["uris"])) for one in tree.get("data", ())),
        network=tree.get("network", False),
        jupyterhub=tree.get("jupyterhub"),
        packages=tree.get("packages", True),
        **more,
    )
