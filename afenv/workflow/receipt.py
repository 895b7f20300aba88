"""Receipts: what ``afenv build`` said last time, and the state of all files that this depends on.

A build in which nothing changed is answered from its receipt, so it costs little more than the start of
Python; nothing that is slow to import is imported here. As in git's index, size, times and inode of a file
stand for its content, and a file that was changed in the last two seconds makes no receipt. Anything
unexpected means: no receipt, build as usual.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import afenv
from afenv.resolve.code_fingerprint import RACY, quick_fingerprint

FOLDER = ".afenv"


def _path(folder: Path, environment: str | None, allow_dirty: bool) -> Path:
    question = [afenv.__version__, environment, allow_dirty, os.environ.get("SOURCE_DATE_EPOCH")]
    name = sha256(json.dumps(question).encode()).hexdigest()[:16]
    return folder / FOLDER / f"receipt-{name}.json"


def _state(path: str) -> list[int]:
    status = os.stat(path)  # noqa: PTH116 - a hundred of them
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _files(folder: str) -> Iterable[str]:
    for place, _, names in os.walk(folder):
        yield from (f"{place}/{name}" for name in names)


def save_receipt(
    folder: Path,
    environment: str | None,
    allow_dirty: bool,
    *,
    documents: Iterable[Path],
    code: Mapping[Path, frozenset[bytes]],
    layouts: Iterable[Path],
    built: list[dict[str, Any]],
) -> None:
    """Remember what a build of the project in ``folder`` gave.

    ``documents`` are the manifest, the lock and what they refer to; ``code`` the code folders, each with
    the folders in it that git ignores; ``layouts`` the image layouts that were written.
    """
    newest_allowed = time.time_ns() - RACY
    inputs = [os.path.realpath(path) for path in documents]
    if any(os.stat(path).st_ctime_ns > newest_allowed for path in inputs):  # noqa: PTH116
        return
    trees = [
        [os.path.realpath(place), sorted(map(os.fsdecode, pruned)), quick_fingerprint(place, pruned)]
        for place, pruned in code.items()
    ]
    if any(fingerprint is None for _, _, fingerprint in trees):
        return
    outputs = {place: list(_files(place)) for place in map(os.path.realpath, layouts)}
    files = [*inputs, *(name for names in outputs.values() for name in names)]
    value = {
        "files": [[path, _state(path)] for path in files],
        "trees": trees,
        "layouts": [[place, len(names)] for place, names in outputs.items()],
        "built": built,
    }
    path = _path(folder, environment, allow_dirty)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def known_result(folder: Path, environment: str | None, allow_dirty: bool) -> list[dict[str, Any]] | None:
    """What the last build gave, if none of the files that it depends on has changed; else None."""
    try:
        value = json.loads(_path(folder.absolute(), environment, allow_dirty).read_bytes())
        unchanged = (
            all(_state(path) == state for path, state in value["files"])
            and all(len(list(_files(layout))) == count for layout, count in value["layouts"])
            and all(
                quick_fingerprint(Path(place), frozenset(map(os.fsencode, pruned))) == fingerprint
                for place, pruned, fingerprint in value["trees"]
            )
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    built: list[dict[str, Any]] = value["built"]
    return built if unchanged else None
