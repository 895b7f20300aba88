"""Where the specifications lie: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def specs_folder() -> Path:
    """The folder that holds ``errors.toml``, ``manifest/v1`` and the rest of ``specs/``.

    A wheel carries the folder as ``afenv/_specs``; an editable install does not see data that is
    force-included, so there the checkout's own ``specs/`` is used.
    """
    package = Path(__file__).resolve().parent
    inside = package / "_specs"
    return inside if inside.is_dir() else package.parent / "specs"
