"""Workspaces of pyhf: what they say does not depend on the order of channels, samples and modifiers.

The form is that of pyhf's schema 1.0.0: channels with samples with modifiers, observations, measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SECTIONS = {"channels", "observations", "measurements"}


def is_workspace(tree: Any) -> bool:
    """Whether a tree is a workspace."""
    return isinstance(tree, dict) and tree.keys() >= _SECTIONS and isinstance(tree["channels"], list)


def by_name(tree: dict[str, Any]) -> dict[str, Any]:
    """The workspace with mappings by name in the place of lists; ValueError if it is none."""
    try:
        found = dict(tree)
        found["channels"] = _named(tree["channels"], "channel", lambda one: one["name"], _channel)
        found["observations"] = _named(tree["observations"], "observation", lambda one: one["name"])
        found["measurements"] = _named(
            tree["measurements"], "measurement", lambda one: one["name"], _measurement
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it is no workspace of pyhf: {error!r}") from None
    return found


def _named(
    entries: Any, what: str, key: Callable[[Any], str], inside: Callable[[Any], Any] = dict
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        name = key(entry)
        if name in found:
            raise ValueError(f"it has two of the {what} {name!r}")
        found[name] = {word: value for word, value in inside(entry).items() if word != "name"}
    return found


def _channel(channel: dict[str, Any]) -> dict[str, Any]:
    return {**channel, "samples": _named(channel["samples"], "sample", lambda one: one["name"], _sample)}


def _sample(sample: dict[str, Any]) -> dict[str, Any]:
    modifiers = _named(sample["modifiers"], "modifier", lambda one: f"{one['type']} {one['name']}")
    return {**sample, "modifiers": modifiers}


def _measurement(measurement: dict[str, Any]) -> dict[str, Any]:
    config = measurement["config"]
    parameters = _named(config.get("parameters", []), "parameter", lambda one: one["name"])
    return {**measurement, "config": {**config, "parameters": parameters}}
