"""Who may use what: images and hardware for members of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from afenv.catalogue.record import ImageRecord
from afenv_registry.jupyterhub.hardware import Hardware

Allow = Callable[[Any, ImageRecord | None, Hardware], bool]
"""Whether the user of a spawner may start an image (None: one that is not listed) on some hardware."""


def everybody(spawner: Any, image: ImageRecord | None, hardware: Hardware) -> bool:
    """Every user may use everything."""
    return True


def groups_may(
    *,
    images: Mapping[str, Iterable[str]] | None = None,
    hardware: Mapping[str, Iterable[str]] | None = None,
) -> Allow:
    """A rule by the groups of JupyterHub that a user is in.

    ``images`` maps patterns of names (``dimuon``, ``atlas-*``) or repositories
    (``registry.example.org/atlas/*``) to groups, ``hardware`` patterns of keys. What no pattern fits is for
    everybody; of what several fit, a user has to be in a group of each.
    """
    of_images = {pattern: frozenset(groups) for pattern, groups in (images or {}).items()}
    of_hardware = {pattern: frozenset(groups) for pattern, groups in (hardware or {}).items()}

    def allow(spawner: Any, image: ImageRecord | None, chosen: Hardware) -> bool:
        mine = {group.name for group in spawner.user.groups}
        names = (image.name, image.title, image.repository) if image is not None else ()
        wanted = [
            groups for pattern, groups in of_images.items() if any(fnmatchcase(n, pattern) for n in names)
        ]
        wanted += [groups for pattern, groups in of_hardware.items() if fnmatchcase(chosen.key, pattern)]
        return all(mine & groups for groups in wanted)

    return allow
