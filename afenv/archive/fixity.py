"""Whether a bag is what was written: every file, and every byte between the files.

A file has two digests, and the manifests have two themselves, so what is damaged can be named: if one
algorithm contradicts a file and the other does not, it is the manifest that has changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from afenv.archive import tags
from afenv.archive.framing import FRAMINGS
from afenv.archive.names import ALGORITHMS, DECLARATION, MANIFESTS, PAYLOAD, TAG_MANIFESTS
from afenv.archive.parts import PartsIndex
from afenv.archive.source import BagSource, FileBag
from afenv.archive.sums import Sums, digests
from afenv.errors import AfenvError, Problem
from afenv.record import record

SMALL = 256 << 20  # bytes; a tag file larger than this is refused


@record
class Fixity:
    """What was found: everything that is wrong, and the digests of each file that could be read."""

    problems: tuple[Problem, ...]
    sums: Mapping[str, Sums]


def read_small(source: BagSource, path: str, limit: int = SMALL) -> bytes:
    """The content of a small file; E722 if it is not there, E725 if it is too large."""
    if source.files.get(path, 0) > limit:
        raise AfenvError("E725", f"{path} is larger than {limit >> 20} MiB", place=source.place)
    with source.open(path) as file:
        return file.read(limit + 1)


def check_declaration(source: BagSource) -> None:
    """E726 for a newer BagIt, E720 for what is none."""
    data = read_small(source, DECLARATION, 4096)
    found = re.match(rb"BagIt-Version: ?(\d{1,4})\.(\d{1,4})\r?\n", data)
    if found is None:
        raise AfenvError("E720", "its bagit.txt does not say which version", place=source.place)
    if (int(found[1]), int(found[2])) > (1, 0):
        version = f"{int(found[1])}.{int(found[2])}"
        raise AfenvError("E726", f"the bag is in BagIt {version}, newer than 1.0", place=source.place)


def total_bytes(source: BagSource) -> int:
    """The bytes that :func:`check_fixity` will read."""
    algorithms = 3 if isinstance(source, FileBag) and FRAMINGS[source.form]().checksum else 2
    total = algorithms * sum(source.files.values())
    return total + (source.size if isinstance(source, FileBag) and source.parts is not None else 0)


def check_fixity(source: BagSource, advance: Callable[[int], object] = lambda _: None) -> Fixity:
    """Read everything, and tell what is wrong; see the module's text. E720, E726 for what is no such bag."""
    check_declaration(source)
    with_crc = isinstance(source, FileBag) and FRAMINGS[source.form]().checksum
    algorithms = (*ALGORITHMS, *(("crc32",) if with_crc else ()))
    tasks = [(path, one) for path in source.files for one in algorithms]
    found = digests(
        ((_opener(source, path), algorithm, source.files[path]) for path, algorithm in tasks), advance
    )
    values: dict[str, dict[str, str]] = {path: {} for path in source.files}
    problems: list[Problem] = []
    for (path, algorithm), digest in zip(tasks, found, strict=True):
        if isinstance(digest, str):
            values[path][algorithm] = digest
        elif isinstance(digest, AfenvError):
            problems += [one for one in digest.problems if one not in problems]
        elif algorithm == ALGORITHMS[0]:
            reason = digest.strerror or str(digest)
            problems.append(Problem("E721", f"{path} cannot be read: {reason}", source.place))
    sums = {
        path: Sums(sha256=one["sha256"], sha512=one["sha512"], size=source.files[path])
        for path, one in values.items()
        if len(one) == len(algorithms)
    }
    problems += _compared(source, sums)
    if isinstance(source, FileBag):
        if source.parts is not None:
            absent = {one.place for one in problems if one.code == "E730"}
            problems += [
                one for one in _part_problems(source, source.parts, advance) if one.place not in absent
            ]
        if not any(problem.code == "E730" for problem in problems):
            crcs = {path: int(one.get("crc32", "0"), 16) for path, one in values.items()}
            problems += _framing_problems(source, crcs)
    return Fixity(problems=tuple(problems), sums=sums)


def _opener(source: BagSource, path: str) -> Callable[[], BinaryIO]:
    return lambda: source.open(path)


def _open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def _compared(source: BagSource, sums: Mapping[str, Sums]) -> Iterator[Problem]:
    wanted: dict[str, dict[str, str]] = {}
    damaged: set[str] = set()
    for name, algorithm in zip((*TAG_MANIFESTS, *MANIFESTS), ALGORITHMS * 2, strict=True):
        if name not in source.files:
            damaged.add(name)
            yield Problem("E722", f"the bag lacks {name}", source.place)
            continue
        try:
            data = read_small(source, name)
            wanted[name] = tags.parse_manifest(data, algorithm, f"{source.place}, {name}")
        except AfenvError as error:
            damaged.add(name)
            yield from error.problems
            continue
        if name in TAG_MANIFESTS and data != tags.dump_manifest(wanted[name]):
            damaged.add(name)
            yield Problem("E721", f"{name} is not as it was written", source.place)
    tagged = {name for name in source.files if not name.startswith(PAYLOAD) and name not in TAG_MANIFESTS}
    payload = {name for name in source.files if name.startswith(PAYLOAD)}
    for names, present in ((TAG_MANIFESTS, tagged), (MANIFESTS, payload)):
        usable = [name for name in names if name not in damaged]
        for problem, about in _differences(source, sums, wanted, usable, present):
            damaged.add(about)
            yield problem


def _differences(
    source: BagSource,
    sums: Mapping[str, Sums],
    wanted: Mapping[str, Mapping[str, str]],
    manifests: list[str],
    present: set[str],
) -> Iterator[tuple[Problem, str]]:
    """The problems of some files, each with the file that it is about."""
    algorithm = {name: name.removesuffix(".txt").rpartition("-")[2] for name in manifests}
    if not manifests:
        return
    named = set[str]().union(*(wanted[name] for name in manifests))
    missing, extra = named - present, present - named
    by_digest = {getattr(sums[path], algorithm[manifests[0]]): path for path in extra if path in sums}
    for path in sorted(missing):
        moved = by_digest.get(wanted[manifests[0]].get(path, ""))
        text = f"; {moved} has its content: it was renamed" if moved else ""
        yield Problem("E722", f"the bag lacks {path}{text}", source.place), path
    for path in sorted(extra):
        yield Problem("E723", f"{path} does not belong to the bag", source.place), path
    for path in sorted(named & present & sums.keys()):
        wrong = [name for name in manifests if wanted[name].get(path) != getattr(sums[path], algorithm[name])]
        if len(wrong) == len(manifests):
            text = f"{path} has another content than was written ({sums[path].size} bytes now)"
            yield Problem("E721", text, source.place), path
        else:
            for name in wrong:
                text = f"{name} says something else of {path} than {_other(manifests, name)}"
                yield Problem("E721", text, source.place), name


def _other(manifests: list[str], name: str) -> str:
    return next(one for one in manifests if one != name)


def _framing_problems(source: FileBag, crcs: Mapping[str, int]) -> Iterator[Problem]:
    """The first byte between the files that is not what belongs there."""
    framing = FRAMINGS[source.form]()
    at = 0
    last = "the beginning"
    with source.whole() as file:

        def differs(expected: bytes) -> bool:
            nonlocal at
            file.seek(at)
            same = file.read(len(expected)) == expected
            at += len(expected)
            return not same

        for path, offset, size in source.members:
            if differs(framing.before(f"{source.name}/{path}", size)) or at != offset:
                yield _framing(source, at, f"the header of {path}")
                return
            at += size
            if differs(framing.after(crcs.get(path, 0))):
                yield _framing(source, at, f"what follows {path}")
                return
            last = path
        if differs(framing.end()) or at != source.size:
            yield _framing(source, at, f"what follows {last}, the last file")


def _framing(source: FileBag, at: int, what: str) -> Problem:
    text = f"{what}, before byte {at}, is not as it was written"
    return Problem("E724", text, source.place)


def _part_problems(source: FileBag, index: PartsIndex, advance: Callable[[int], object]) -> Iterator[Problem]:
    folder = source.paths[0].parent
    for (name, size, sha256), path in zip(index.parts, source.paths[1:], strict=True):
        try:
            found = path.stat().st_size
        except OSError as error:
            yield Problem("E730", f"this part cannot be read: {error.strerror}", str(path))
            continue
        if found != size:
            yield Problem("E730", f"expected {size} bytes, found {found}", str(path))
            continue
        (digest,) = digests([(partial(_open_file, path), "sha256", size)], advance)
        if digest != sha256:
            yield Problem("E721", f"the part {name} has another content", str(folder))
    canonical = PartsIndex(
        name=source.name, form=source.form, parts=index.parts, members=tuple(source.members)
    )
    if source.paths[0].read_bytes() != canonical.dump():
        yield Problem("E721", "the index of the parts is not as it was written", str(source.paths[0]))
