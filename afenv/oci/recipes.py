"""The port of tools that make a whole image from a folder by a recipe of their own, such as a Dockerfile.

One is found by its name in the entry point group ``afenv.recipes``. What it makes is an image archive,
which :mod:`afenv.oci.importing` brings into the content store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from afenv.errors import AfenvError

GROUP = "afenv.recipes"


class RecipeBuilder(Protocol):
    """What makes an image from a folder."""

    def build(
        self, folder: Path, options: Mapping[str, Any], archive: Path, say: Callable[[str], None]
    ) -> str:
        """Make the image of ``folder``, write it to ``archive``, and return the tool's version.

        ``options`` has ``file``, the recipe's name in the folder, and ``platform``, such as
        ``linux/amd64``. The archive is one that :func:`afenv.oci.read.open_image` reads. ``say`` hears
        what the tool says, line by line. E416 if the recipe fails; E415 if the tool cannot be had; other
        failures are AfenvErrors too.
        """
        ...  # pragma: no cover


def find_recipe_builder(name: str) -> RecipeBuilder:
    """The tool of that name; E415 if there is none."""
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        have = ", ".join(sorted(found)) or "none"
        raise AfenvError("E415", f"nothing here builds with {name!r}; there is: {have}")
    builder: RecipeBuilder = found[name].load()()
    return builder
