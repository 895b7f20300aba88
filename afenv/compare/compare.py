"""The comparison of two sides: file by file, first by checksum, then by meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from afenv import __version__
from afenv.compare.kinds import compare_content, kind_of
from afenv.compare.outcome import (
    DIFFERENT,
    IDENTICAL,
    IGNORED,
    INCOMPARABLE,
    PARTS_KEPT,
    SAME,
    Content,
    Part,
    verdict,
)
from afenv.compare.rules import Rules
from afenv.compare.sides import ResultFile, Side
from afenv.digest import hex_of, sha256_file
from afenv.errors import AfenvError
from afenv.record import record, values_of

FORMAT_VERSION = 1
OUTCOMES = (IDENTICAL, SAME, DIFFERENT, INCOMPARABLE, IGNORED)


@record
class ComparedFile:
    """What was found of one file; ``first`` and ``second`` are sizes and checksums, or None."""

    path: str
    outcome: str
    content: Content
    first: Mapping[str, Any] | None
    second: Mapping[str, Any] | None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The file as the verdict has it: parts that agree come last, and are the first to be left out."""
        content = self.content
        found: dict[str, Any] = {"path": self.path, "kind": content.kind, "outcome": self.outcome}
        for name in ("reason", "message"):
            if getattr(content, name) is not None:
                found[name] = getattr(content, name)
        for name in ("first", "second"):
            if getattr(self, name) is not None:
                found[name] = dict(getattr(self, name))
        if self.notes:
            found["notes"] = list(self.notes)
        if content.compared:
            found["compared"] = content.compared
            parts = sorted(content.parts, key=lambda part: part.outcome not in (DIFFERENT, INCOMPARABLE))
            found["parts"] = [part.as_json() for part in parts[:PARTS_KEPT]]
        return found


@record
class Comparison:
    """A whole comparison."""

    first: Side
    second: Side
    files: tuple[ComparedFile, ...]
    rules: Rules
    manifest: str | None = None

    @property
    def verdict(self) -> str:
        """``same``, ``different`` or ``incomparable``."""
        return verdict(file.outcome for file in self.files)

    @property
    def counts(self) -> dict[str, int]:
        """How many files have each outcome."""
        return {name: sum(file.outcome == name for file in self.files) for name in OUTCOMES}

    def as_json(self) -> dict[str, Any]:
        """The verdict, in the form of specs/comparison/v1."""
        found: dict[str, Any] = {
            "afenv-comparison": FORMAT_VERSION,
            "verdict": self.verdict,
            "afenv": __version__,
            "first": self.first.as_json(),
            "second": self.second.as_json(),
            "counts": self.counts,
            "rules": [_rule(rule) for rule in self.rules.rules],
            "files": [file.as_json() for file in self.files],
        }
        if self.manifest is not None:
            found["manifest"] = self.manifest
        return found


def _rule(rule: Any) -> dict[str, Any]:
    said = {name: value for name, value in values_of(rule).items() if value is not None}
    if "lines" in said:
        said["ignore-lines"] = list(said.pop("lines"))
    return said


def compare_sides(
    first: Side,
    second: Side,
    rules: Rules,
    *,
    common: bool = False,
    reference: bool = False,
    manifest: str | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Comparison:
    """Compare all files of two sides; with ``common`` those of both, with ``reference`` those of the second.

    E781 if there is nothing to compare. ``advance`` is told the bytes that are done.
    """
    paths = sorted({*first.files, *second.files})
    if common:
        paths = [path for path in paths if path in first.files and path in second.files]
    elif reference:
        paths = sorted(second.files)
    for side in (first, second):
        if not side.files:
            raise AfenvError("E781", "there are no results", place=side.place)
    if not paths:
        raise AfenvError("E781", "no result of one has the path of one of the other", place=second.place)
    files = []
    for path in paths:
        one, other = first.files.get(path), second.files.get(path)
        files.append(_file(path, one, other, rules))
        advance(sum(file.size for file in (one, other) if file is not None))
    return Comparison(first=first, second=second, files=tuple(files), rules=rules, manifest=manifest)


def _file(path: str, one: ResultFile | None, other: ResultFile | None, rules: Rules) -> ComparedFile:
    limits = rules.limits(path)
    kind = limits.kind or kind_of(path)
    sums = [_checked(file) if file is not None and not limits.ignore else file for file in (one, other)]
    notes = tuple(
        f"{which} is not what the record of its run says: it was changed afterwards"
        for which, file in zip(("the first", "the second"), sums, strict=True)
        if file is not None and file.stated and file.sha256 and file.stated != file.sha256
    )
    if limits.ignore:
        outcome, content = IGNORED, Content(kind=kind)
    elif one is None or other is None:
        message = f"only in the {'second' if one is None else 'first'}"
        outcome = DIFFERENT
        content = Content(kind=kind, outcome=DIFFERENT, reason="missing", message=message)
    elif sums[0] is not None and sums[1] is not None and sums[0].sha256 == sums[1].sha256:
        outcome, content = IDENTICAL, Content(kind=kind)
    else:
        content = compare_content(kind, one.bring(), other.bring(), path, rules)
        outcome = content.outcome or SAME
    return ComparedFile(
        path=path,
        outcome=outcome,
        content=content,
        first=_facts(sums[0]),
        second=_facts(sums[1]),
        notes=notes,
    )


def _checked(file: ResultFile) -> ResultFile:
    """The file with its checksum."""
    from afenv.record import replace

    if file.sha256 is not None:
        return file
    path = file.bring()
    try:
        return replace(file, sha256=hex_of(sha256_file(path)))
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None


def _facts(file: ResultFile | None) -> dict[str, Any] | None:
    if file is None:
        return None
    return {"size": file.size, **({"sha256": file.sha256} if file.sha256 else {})}


def differences(comparison: Comparison) -> Iterator[tuple[ComparedFile, Part | None]]:
    """What does not agree: files, and then the parts of each."""
    for file in comparison.files:
        if file.outcome not in (DIFFERENT, INCOMPARABLE):
            continue
        yield file, None
        for part in file.content.parts:
            if part.outcome in (DIFFERENT, INCOMPARABLE):
                yield file, part
