"""The verdict on two results, read back. The norm is specs/comparison/v1.

Design goals: a program needs only the first key; whoever reads on finds each difference, its place and its
size; the limits that held are in it, so that the verdict can be judged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from afenv.compare.compare import FORMAT_VERSION, OUTCOMES
from afenv.compare.outcome import verdict
from afenv.errors import AfenvError


def read_verdict(path: Path) -> dict[str, Any]:
    """The verdict in a file; E001 if there is none, E780 if it is no valid one, or contradicts itself."""
    from afenv.documents.schema import check_json

    place = str(path)
    try:
        tree = json.loads(path.read_bytes())
    except OSError as error:
        raise AfenvError("E001", f"cannot read the verdict: {error.strerror}", place=place) from None
    except (ValueError, RecursionError) as error:
        raise AfenvError("E780", f"the verdict is no JSON: {error}", place=place) from None
    version = tree.get("afenv-comparison") if isinstance(tree, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        message = f"expected format version {FORMAT_VERSION}, found {version}"
        raise AfenvError("E780", message, place=place, path="afenv-comparison")
    check_json(tree, "comparison", "E780", place)
    outcomes = [file["outcome"] for file in tree["files"]]
    if tree["verdict"] != verdict(outcomes):
        message = f"the verdict on these files is {verdict(outcomes)}"
        raise AfenvError("E780", message, place=place, path="verdict")
    if tree["counts"] != {name: outcomes.count(name) for name in OUTCOMES}:
        raise AfenvError("E780", "the files are not as many", place=place, path="counts")
    found: dict[str, Any] = tree
    return found
