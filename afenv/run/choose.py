"""Which runtime runs an image: by what the host has and in which order they are wanted.

The order comes from the command line (``--runtime``), else from ``AFENV_RUNTIME``, else from the facility's
profile that ``AFENV_FACILITY`` names, else it is :data:`ORDER`; the first two are one name or several,
separated by commas. The choice itself is a pure function.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from afenv.errors import AfenvError

if TYPE_CHECKING:
    from afenv.run.apptainer import Apptainer
    from afenv.run.engines import Engine
    from afenv.run.qemu import Qemu
    from afenv.run.userns import UserNamespace

    Runtime = Engine | Apptainer | UserNamespace | Qemu

ORDER = ("docker", "podman", "apptainer", "userns")
_MODULES = {
    "docker": "afenv.run.oci_engine",
    "podman": "afenv.run.oci_engine",
    "apptainer": "afenv.run.apptainer",
    "userns": "afenv.run.userns",
    "qemu": "afenv.run.qemu",  # only where it is asked for
}


def choose(found: Mapping[str, Runtime | AfenvError], preference: Sequence[str]) -> Runtime:
    """The first runtime in the order of ``preference`` that is found; pure.

    ``found`` says of each name what is there, or why it cannot be used. If one alone is wanted, that
    reason is raised; else E501 with all of them.
    """
    reasons = []
    for name in preference:
        runtime = found[name]
        if not isinstance(runtime, AfenvError):
            return runtime
        if len(preference) == 1 or runtime.code not in ("E501", "E502"):
            raise runtime
        reasons.append(runtime.problems[0].message)
    from afenv.run.remedies import host_remedy

    raise AfenvError("E501", "; ".join(reasons), remedy=host_remedy())


class Host(Mapping[str, "Runtime | AfenvError"]):
    """The runtimes of this host; each is looked for when it is asked for."""

    def __getitem__(self, name: str) -> Runtime | AfenvError:
        """What there is of that name, or why it cannot be used."""
        try:
            if name in ("docker", "podman"):
                from afenv.run import engines

                return engines.docker() if name == "docker" else engines.podman()
            runtime: Runtime = import_module(_MODULES[name]).find()
            return runtime
        except AfenvError as error:
            return error

    def __iter__(self) -> Iterator[str]:
        """The names of all runtimes, in their usual order."""
        return iter(ORDER)

    def __len__(self) -> int:
        """How many names there are."""
        return len(ORDER)


def preference(given: str | None = None) -> tuple[str, ...]:
    """The order that is asked for: by ``given``, ``AFENV_RUNTIME``, the facility's profile, or the usual one.

    E030 for what is no runtime, and what reading the profile raises.
    """
    text = given or os.environ.get("AFENV_RUNTIME") or ""
    if not text and os.environ.get("AFENV_FACILITY"):
        return facility_order(os.environ["AFENV_FACILITY"])
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip())) or ORDER
    for name in names:
        if name not in _MODULES:
            raise AfenvError("E030", f"{name!r} is not a runtime; there are: {', '.join(_MODULES)}")
    return names


def facility_order(path: str) -> tuple[str, ...]:
    """The order in which a facility's profile prefers runtimes; the usual one if it does not know them.

    E501 if none of those that it names can be started from here.
    """
    from pathlib import Path

    from afenv.documents.facility_file import read_facility

    profile = read_facility(Path(path))
    if profile.runtimes is None:
        return ORDER
    known = ["apptainer" if one.name == "singularity" else one.name for one in profile.runtimes]
    order = tuple(dict.fromkeys(name for name in known if name in _MODULES))
    if not order:
        message = f"the facility {profile.name} has no runtime that is started from here"
        raise AfenvError("E501", message, place=path, remedy="Name one with --runtime or AFENV_RUNTIME.")
    return order


def find_runtime(name: str | None = None) -> Runtime:
    """The runtime asked for, else the first one that works; see :func:`choose` and :func:`preference`."""
    return choose(Host(), preference(name))


def module_of(runtime: Runtime) -> ModuleType:
    """The module that runs images with it: ``prepare``, ``launch`` and ``run``."""
    return import_module(_MODULES[runtime.name])
