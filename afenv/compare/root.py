"""ROOT files, read by uproot: object by object, by their names; of several cycles, the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afenv.compare.histogram import Histogram, compare_histograms
from afenv.compare.kinds import both, library
from afenv.compare.numbers import Tree
from afenv.compare.outcome import (
    DIFFERENT,
    IGNORED,
    INCOMPARABLE,
    SAME,
    Content,
    Part,
    Unreadable,
    verdict,
)
from afenv.compare.rules import Limits, Rules
from afenv.compare.trees import compare_trees

TREES = ("TTree", "TNtuple", "TNtupleD", "TChain", "ROOT::RNTuple", "ROOT::Experimental::RNTuple")
_FOLDERS = ("TDirectory", "TDirectoryFile")
# uproot raises nearly anything where a file is damaged
Damaged = Exception


def compare_root(first: Path, second: Path, name: str, rules: Rules) -> Content:
    """Compare two ROOT files. E783 without uproot."""
    library("uproot")
    one, other = both(_opened, first, second)
    with one, other:
        classes = [_classes(file, side) for file, side in ((one, "first"), (other, "second"))]
        parts = list(_parts((one, other), classes, name, rules))
    outcome = verdict(part.outcome for part in parts)
    wrong = [part for part in parts if part.outcome in (DIFFERENT, INCOMPARABLE)]
    return Content(
        kind="root",
        parts=tuple(parts),
        compared=len(parts),
        outcome=outcome if wrong else None,
        reason="contents" if wrong else None,
        message=f"{len(wrong)} of {len(parts)} objects and branches do not agree" if wrong else None,
    )


def _opened(path: Path) -> Any:
    import uproot

    with path.open("rb") as stream:
        if stream.read(4) != b"root":
            raise ValueError("it does not begin as a ROOT file does")
    try:
        opened = uproot.open(path, num_workers=1)
        end = int(opened.file.fEND)
    except MemoryError:
        raise
    except Damaged as error:
        raise ValueError(_words(error)) from None
    size = path.stat().st_size
    if end > size:
        opened.close()
        raise ValueError(f"it was cut: it has {size} bytes and says that it has {end}")
    return opened


def _classes(file: Any, side: str) -> dict[str, str]:
    try:
        found = file.classnames(recursive=True, cycle=False)
    except Damaged as error:
        raise Unreadable(side, _words(error)) from None
    return {name: kind for name, kind in found.items() if kind not in _FOLDERS}


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' if lines else ''}{lines[0][:160] if lines else ''}"


def _parts(files: tuple[Any, Any], classes: list[dict[str, str]], name: str, rules: Rules) -> Iterator[Part]:
    one, other = classes
    for path in dict.fromkeys((*one, *other)):
        limits = rules.limits(name, path)
        kind = one.get(path) or other[path]
        if limits.ignore:
            yield Part(path=path, kind=kind, outcome=IGNORED)
        elif path not in other or path not in one:
            which = "first" if path in one else "second"
            yield Part(
                path=path, kind=kind, outcome=DIFFERENT, reason="missing", message=f"only in the {which}"
            )
        else:
            yield from _objects(path, files, (one[path], other[path]), name, rules)


def _objects(
    path: str, files: tuple[Any, Any], kinds: tuple[str, str], name: str, rules: Rules
) -> Iterator[Part]:
    try:
        one, other = (file[path] for file in files)
        are = [_form(one, kinds[0]), _form(other, kinds[1])]
        if are[0] != are[1] or (are[0] == "object" and kinds[0] != kinds[1]):
            yield _cannot(path, kinds[0], "types", f"{kinds[0]} and {kinds[1]}")
        elif are[0] == "tree":
            yield from compare_trees(path, kinds[0], one, other, lambda part: rules.limits(name, part))
        elif are[0] == "histogram":
            found = (_histogram(one), _histogram(other))
            yield compare_histograms(path, kinds[0], *found, rules.limits(name, path))
        else:
            yield _members(path, kinds[0], one, other, rules.limits(name, path))
    except OverflowError:
        raise
    except Damaged as error:
        yield _cannot(path, kinds[0], "unreadable", _words(error))


def _cannot(path: str, kind: str, reason: str, message: str) -> Part:
    return Part(path=path, kind=kind, outcome=INCOMPARABLE, reason=reason, message=message)


def _form(value: Any, kind: str) -> str:
    if kind in TREES:
        return "tree"
    import uproot

    if isinstance(value, uproot.behaviors.TH1.Histogram | uproot.behaviors.TProfile.Profile):
        return "histogram"
    return "object"


def _histogram(value: Any) -> Histogram:
    import numpy as np
    import uproot

    profile = isinstance(value, uproot.behaviors.TProfile.Profile)
    axes = value.axes
    contents = np.asarray(value.values(flow=True), dtype=np.float64)
    if profile:
        variances = np.asarray(value.errors(flow=True), dtype=np.float64) ** 2
    elif value.weighted:
        variances = np.asarray(value.variances(flow=True), dtype=np.float64)
    else:
        variances = None
    labels = tuple(tuple(map(str, axis.labels() or ())) for axis in axes)
    return Histogram(
        edges=tuple(np.asarray(axis.edges(), dtype=np.float64) for axis in axes),
        values=contents,
        variances=variances,
        profile=profile,
        labels=labels if any(labels) else (),
        title=str(value.title or ""),
        axes=tuple(str(axis.member("fTitle", none_if_missing=True) or "") for axis in axes),
    )


def _members(path: str, kind: str, one: Any, other: Any, limits: Limits) -> Part:
    """Any other object, by its members: a graph, a text, a parameter."""
    content = Tree("object", lambda _: limits).compare(_plain(one), _plain(other))
    if content.outcome is None:
        return Part(path=path, kind=kind, outcome=SAME)
    worst = content.parts[0]
    message = f"{content.message}; the first is {worst.path}: {worst.first} and {worst.second}"
    return Part(path=path, kind=kind, outcome=DIFFERENT, reason="values", message=message[:300])


def _plain(value: Any, depth: int = 0) -> Any:
    """An object of uproot as a tree of values; the bits of TObject, which say where it lay, left out."""
    import numpy as np
    import uproot

    if depth > 50:
        raise RecursionError("it is too deep")
    if isinstance(value, str):  # also TObjString
        return str(value)
    if isinstance(value, uproot.model.Model) and not isinstance(value, uproot.model.UnknownClass):
        members = {}
        for name, member in value.all_members.items():
            if name not in ("fBits", "fUniqueID", "@fUniqueID", "@fBits"):
                members[name] = _plain(member, depth + 1)
        if not members and hasattr(value, "__iter__"):
            return [_plain(one, depth + 1) for one in value]
        return members
    if isinstance(value, uproot.model.UnknownClass):
        raise NotImplementedError(f"the class {value.classname} cannot be read")
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, bool | int | float):
        return value
    if hasattr(value, "__iter__"):
        return [_plain(one, depth + 1) for one in value]
    raise NotImplementedError(f"{type(value).__name__} cannot be compared")
