"""The fields of an image's config and manifest that afenv reads, held to the types that they have to have.

Sources: config.md and manifest.md of the OCI image specification 1.1. What is not read here is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from afenv import canonical
from afenv.documents.json_reader import Damaged, Record, any_text, by_name, integer, json_object, list_of

T = TypeVar("T")


def parsed(data: bytes) -> Any:
    """The JSON value in some bytes; ValueError if it is none, or one that cannot be written again."""
    try:
        value = json.loads(data)
        canonical.compact(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def check_config(value: Any) -> None:
    """ValueError unless the fields of a config have the types that they have to have."""
    try:
        config = Record(value)
        for key in ("architecture", "os", "variant", "created"):
            config.take_or(key, _or_null(any_text), None)
        config.take_or("history", _or_null(list_of(json_object)), None)
        config.take_or("config", _or_null(_check_settings), None)
    except Damaged as damaged:
        raise ValueError(f"{damaged.message}, at {damaged.path} of the config") from None


def _check_settings(value: Any) -> None:
    settings = Record(value)
    for key in ("User", "WorkingDir", "StopSignal"):
        settings.take_or(key, _or_null(any_text), None)
    for key in ("Env", "Entrypoint", "Cmd"):
        settings.take_or(key, _or_null(list_of(any_text)), None)
    settings.take_or("Labels", _or_null(by_name(any_text)), None)


def check_manifest(value: Any) -> None:
    """ValueError unless the descriptors of an image manifest have the types that they have to have."""
    try:
        manifest = Record(value)
        manifest.take_or("mediaType", any_text, "")
        manifest.take_or("annotations", _or_null(by_name(any_text)), None)
        manifest.take("config", _check_descriptor)
        manifest.take("layers", list_of(_check_descriptor))
    except Damaged as damaged:
        raise ValueError(f"{damaged.message}, at {damaged.path} of the manifest") from None


def _check_descriptor(value: Any) -> None:
    descriptor = Record(value)
    descriptor.take("digest", any_text)
    descriptor.take_or("mediaType", any_text, "")
    descriptor.take_or("size", integer(0), 0)
    descriptor.take_or("annotations", _or_null(by_name(any_text)), None)


def _or_null(convert: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """The reader of a field that may be null, as Go writes what it does not have."""
    return lambda value: None if value is None else convert(value)
