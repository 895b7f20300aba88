"""Arrays in .npy and .npz files. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from afenv.compare.arrays import apart
from afenv.compare.kinds import LARGEST, both, library
from afenv.compare.outcome import DIFFERENT, IGNORED, SAME, Content, Part, verdict
from afenv.compare.rules import Limits, Rules

_WHOLE = "(array)"


def compare_numpy(first: Path, second: Path, name: str, rules: Rules) -> Content:
    """Compare two files of numpy, array by array. E783 without numpy."""
    library("numpy")
    one, other = both(_arrays, first, second)
    parts = []
    for key in dict.fromkeys((*one, *other)):
        limits = rules.limits(name, key)
        if limits.ignore:
            parts.append(Part(path=key, kind="array", outcome=IGNORED))
        elif key not in one or key not in other:
            message = f"only in the {'first' if key in one else 'second'}"
            parts.append(Part(path=key, kind="array", outcome=DIFFERENT, reason="missing", message=message))
        else:
            parts.append(_array(key, one[key], other[key], limits))
    wrong = [part for part in parts if part.outcome == DIFFERENT]
    return Content(
        kind="numpy",
        parts=tuple(parts),
        compared=len(parts),
        outcome=verdict(part.outcome for part in parts) if wrong else None,
        reason="contents" if wrong else None,
        message=f"{len(wrong)} of {len(parts)} arrays differ" if wrong else None,
    )


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np

    with path.open("rb") as stream:
        packed = stream.read(4) == b"PK\x03\x04"
    if not packed:
        size = path.stat().st_size
        if size > LARGEST:
            raise ValueError(f"it has more than {LARGEST >> 20} MiB")
        return {_WHOLE: _loaded(np.load(path, mmap_mode="r", allow_pickle=False))}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST:
                raise ValueError(f"its arrays have more than {LARGEST >> 20} MiB")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: _loaded(arrays[key]) for key in arrays}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, KeyError, zlib_error()) as error:
        raise ValueError(str(error)) from None


def zlib_error() -> type[Exception]:
    """What is raised for a damaged member."""
    import zlib

    return zlib.error


def _loaded(array: Any) -> Any:
    if not hasattr(array, "dtype"):
        raise ValueError("it is no array")
    return array


def _array(key: str, one: Any, other: Any, limits: Limits) -> Part:
    if one.shape != other.shape:
        message = f"shapes {_shape(one)} and {_shape(other)}"
        return Part(path=key, kind="array", outcome=DIFFERENT, reason="shape", message=message)
    if one.dtype.names != other.dtype.names:
        message = f"types {one.dtype} and {other.dtype}"
        return Part(path=key, kind="array", outcome=DIFFERENT, reason="types", message=message[:300])
    names = one.dtype.names
    pairs = [(one[name], other[name]) for name in names] if names else [(one, other)]
    found = [apart(a, b, limits) for a, b in pairs]
    total = found[0]
    for each in found[1:]:
        total = total.plus(each)
    if not total.different:
        return Part(path=key, kind="array", outcome=SAME, measures=total.measures())
    message = f"{total.different} of {total.compared} values differ"
    return Part(
        path=key,
        kind="array",
        outcome=DIFFERENT,
        reason="values",
        message=message,
        measures=total.measures(),
    )


def _shape(array: Any) -> str:
    return " × ".join(map(str, array.shape)) or "()"
