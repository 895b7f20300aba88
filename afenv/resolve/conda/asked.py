"""What is asked of conda, whether a manifest or an environment.yml says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaFile:
    """What is asked for; ``pip`` holds requirements, ``pip_files`` those of ``-r``."""

    channels: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    pip_files: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
