"""The tables of ``specs/cuda.toml`` as values: toolkits, their drivers, and architectures of GPUs.

Versions are tuples of numbers, so that they compare: a driver ``(550, 54, 14)``, a toolkit ``(12, 4)``, a
compute capability ``(8, 0)``. What the tables do not have is None: not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from afenv.record import record
from afenv.specs import specs_folder

Version = tuple[int, ...]


@record
class Architecture:
    """A family of GPUs: its compute capabilities, the toolkits that have it, the last branch of the driver.

    ``last`` has one number where it stands for a whole major version.
    """

    name: str
    capabilities: tuple[Version, ...]
    first: Version | None = None
    last: Version | None = None
    last_driver: int | None = None

    def ended_before(self, toolkit: Version) -> bool:
        """Whether a toolkit no longer has this architecture."""
        return self.last is not None and toolkit[: len(self.last)] > self.last


@record
class CudaTables:
    """All tables. ``toolkits`` has the driver of each toolkit's first release, ``minor_version`` that of each
    major version with minor-version compatibility."""

    toolkits: Mapping[Version, Version]
    minor_version: Mapping[int, Version]
    architectures: tuple[Architecture, ...]

    def architecture(self, capability: Version) -> Architecture | None:
        """The family of a compute capability; None if it is not in the tables."""
        for found in self.architectures:
            if capability in found.capabilities:
                return found
        return None

    def full_driver(self, toolkit: Version) -> Version | None:
        """The first driver with the full feature set of a toolkit; None if the toolkit is not known."""
        return self.toolkits.get(toolkit[:2])

    def least_driver(self, toolkit: Version) -> Version | None:
        """The first driver on which a toolkit runs, by minor-version compatibility where there is any."""
        return self.minor_version.get(toolkit[0]) or self.full_driver(toolkit)

    def cuda_of_driver(self, driver: Version) -> Version | None:
        """The newest toolkit whose full feature set a driver has; None for one before the tables begin."""
        fitting = [toolkit for toolkit, least in self.toolkits.items() if driver[0] >= least[0]]
        return max(fitting, default=None)


_DIGITS = 9  # of one number that are looked at; no version has as many


def version(text: str) -> Version:
    """``550.54.14`` as numbers; letters and what follows them are left out."""
    found: list[int] = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits[:_DIGITS]))
        if digits != part:
            break
    return tuple(found)


@cache
def cuda_tables() -> CudaTables:
    """The tables of ``specs/cuda.toml``."""
    import tomllib

    with (specs_folder() / "cuda.toml").open("rb") as file:
        tree = tomllib.load(file)
    return CudaTables(
        toolkits={version(name): version(drivers[0]) for name, drivers in tree["toolkits"].items()},
        minor_version={int(name): version(driver) for name, driver in tree["minor-version"].items()},
        architectures=tuple(
            Architecture(
                name=entry["name"],
                capabilities=tuple(version(text) for text in entry["capabilities"]),
                first=version(entry["first"]) if "first" in entry else None,
                last=version(entry["last"]) if "last" in entry else None,
                last_driver=entry.get("last-driver"),
            )
            for entry in tree["architectures"]
        ),
    )


def dotted(numbers: Version, least: int = 2) -> str:
    """Numbers as a version with dots, zeros added up to ``least`` parts."""
    return ".".join(map(str, (*numbers, *(0,) * (least - len(numbers)))))


def driver_text(driver: Version) -> str:
    """A driver as NVIDIA writes it: ``560.28.03``."""
    return ".".join((str(driver[0]), *(f"{part:02}" for part in driver[1:])))
