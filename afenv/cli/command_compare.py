"""``afenv compare``."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError

if TYPE_CHECKING:
    from afenv.compare.compare import Comparison
    from afenv.documents.compare import CompareRule

STATUS = {"same": 0, "different": 1, "incomparable": 2}
LISTED = 20  # parts of one file


def run(options: Namespace) -> int:
    """Compare, and say what differs."""
    from afenv.workflow.compare import CompareOptions, compare

    folder = options.folder_of_analysis
    found = compare(
        folder,
        folder / options.first,
        folder / options.second,
        CompareOptions(
            manifest=folder / options.manifest if options.manifest else None,
            rules=_rules(options),
            common=options.common,
            quiet=options.quiet,
        ),
    )
    if options.report:
        write_report(found, folder / options.report)
    if options.json:
        print_json(found.as_json())
    else:
        show(found)
        if options.report:
            say(f"report: {folder / options.report}", quiet=options.quiet)
    return STATUS[found.verdict]


def _rules(options: Namespace) -> tuple[CompareRule, ...]:
    from afenv.documents.compare import CompareRule

    for name in ("relative", "absolute"):
        value = getattr(options, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise AfenvError("E030", f"{value} is no tolerance", place=f"--{name}")
    if options.relative is None and options.absolute is None:
        return ()
    return (CompareRule(relative=options.relative, absolute=options.absolute),)


def write_report(found: Comparison, path: Path) -> None:
    """Write the report; at no moment there is half of one."""
    from afenv.compare.report import report
    from afenv.store.content import write_error

    if path.is_dir():
        raise AfenvError("E032", "this is a folder; the report would be a file", place=str(path))
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_text(report(found), encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise write_error(error, path) from error


def show(found: Comparison) -> None:
    """The verdict for people: files that do not agree, what is in them, and the counts."""
    for file in found.files:
        for note in file.notes:
            print(f"note: {file.path}: {note}")
        if file.outcome not in ("different", "incomparable"):
            continue
        print(f"{file.path}: {file.outcome}: {file.content.message}")
        parts = [part for part in file.content.parts if part.outcome in ("different", "incomparable")]
        for part in parts[:LISTED]:
            print(f"  {part.path}: {_words(part)}")
        if len(parts) > LISTED:
            print(f"  … and {len(parts) - LISTED} more; --report and --json have them")
    told = ", ".join(f"{count} {name}" for name, count in found.counts.items() if count)
    print(f"{found.verdict} ({told})")


def _words(part: object) -> str:
    message, first, second = (getattr(part, name) for name in ("message", "first", "second"))
    if message is None:
        message = f"{_value(first)} and {_value(second)}"
    measures = getattr(part, "measures", {})
    more = []
    if measures.get("relative") and getattr(part, "kind", "") != "line":
        more.append(f"apart by {measures['relative']:.3g} (relative)")
    for name, letter in (("chi2", "χ²"), ("ks", "KS")):
        if name in measures:
            more.append(f"{letter} probability {measures[name]['probability']:.3g}")
    return f"{message}{'; ' if more else ''}{', '.join(more)}"


def _value(value: object) -> str:
    return "nothing" if value is None else str(value)
