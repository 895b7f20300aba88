"""What an image takes over of its base's config, as ``FROM`` of a Dockerfile does; pure functions.

Sources: config.md of the OCI image specification 1.1, and Docker's description of ``FROM``, ``ENTRYPOINT``
and ``CMD``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afenv.documents.lock import LockedBase

# Taken over as they are. ``Healthcheck`` and ``Shell`` are Docker's own; ``OnBuild`` is for Dockerfiles.
TAKEN_OVER = ("ExposedPorts", "Volumes", "StopSignal", "Healthcheck", "Shell")


def settings_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that says how it runs."""
    value = config.get("config")
    return value if isinstance(value, dict) else {}


def variables_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables of a config."""
    pairs = (str(text).partition("=") for text in settings_of(config).get("Env") or ())
    return {name: value for name, equals, value in pairs if equals}


def taken_over(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an image has from its base and does not change."""
    settings = settings_of(config)
    return {key: settings[key] for key in TAKEN_OVER if settings.get(key)}


def labels_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a config."""
    labels = settings_of(config).get("Labels")
    return {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}


def merged_path(ours: Sequence[str], base: str | None, system: Sequence[str]) -> list[str]:
    """The folders of ``PATH``: our own first, then those of the base, or of every system."""
    below = base.split(":") if base else list(system)
    return [*(folder for folder in ours if folder not in system and folder not in below), *below]


def history_of(config: Mapping[str, Any], base: LockedBase) -> list[dict[str, Any]]:
    """The history of the base; made up where it has none that tells of its layers."""
    entries = [dict(entry) for entry in config.get("history") or () if isinstance(entry, dict)]
    if sum(not entry.get("empty_layer") for entry in entries) == len(base.layers):
        return entries
    return [{"created_by": f"layer of {base.reference}"} for _ in base.layers]
