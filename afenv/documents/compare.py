"""How results are compared: the manifest's section ``compare``. The norm is specs/manifest/v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afenv.record import record

KINDS = ("root", "json", "pyhf", "yaml", "csv", "numpy", "image", "notebook", "text", "bytes")


@record
class CompareRule:
    """What holds for some results; where several rules fit, the last one that says something decides.

    ``files`` and ``parts`` are patterns: of paths of results, and of what is inside (histograms, branches,
    keys). ``relative`` and ``absolute`` are tolerances of numbers. ``chi2`` and ``ks`` are the least
    probabilities with which distributions that are not equal still count as the same. ``pixels`` is the share
    of pixels that may differ by more than ``shade`` (of 255). ``lines`` are patterns of lines of text that do
    not count.
    """

    files: str | None = None
    parts: str | None = None
    kind: str | None = None
    ignore: bool | None = None
    relative: float | None = None
    absolute: float | None = None
    chi2: float | None = None
    ks: float | None = None
    pixels: float | None = None
    shade: int | None = None
    lines: tuple[str, ...] | None = None


def compare_rule(tree: Mapping[str, Any]) -> CompareRule:
    """The rule that a valid tree stands for."""
    values = dict(tree)
    if "ignore-lines" in values:
        values["lines"] = tuple(values.pop("ignore-lines"))
    return CompareRule(**values)
