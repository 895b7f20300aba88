"""Parts of a tree that may be invalid: what has another type counts as nothing, as the schema reports it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The mappings of a list, with their positions."""
    return ((index, item) for index, item in enumerate(as_list(value)) if isinstance(item, dict))


def texts(value: Any) -> Iterator[tuple[int, str]]:
    """The texts of a list, with their positions."""
    return ((index, item) for index, item in enumerate(as_list(value)) if isinstance(item, str))
