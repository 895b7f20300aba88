"""``afenv select``: the images of a catalogue that run at a facility, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from afenv.catalogue.rank import Candidate, Ranking
from afenv.catalogue.record_tree import record_tree
from afenv.facility.reason import Reason
from afenv.progress import counted, human_size
from afenv.record import replace

SHOWN = 20  # images in a text, unless all are asked for
MARKS = {"cannot": "✗", "degraded": "!", "unknown": "?", "runs": "·"}


def strictly(found: Ranking) -> Ranking:
    """The ranking without the images of which something that decides is not known."""
    certain = tuple(one for one in found.candidates if one.certain)
    unsure = tuple(one for one in found.candidates if not one.certain)
    return replace(found, candidates=certain, rest=(*found.rest, *unsure))


def as_json(found: Ranking, catalogue_digest: str, *, every: bool) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    chosen = (
        [(one, 0) for one in found.candidates] if every else [(one, more) for one, more in found.newest()]
    )
    value: dict[str, Any] = {
        "facility": found.facility,
        "catalogue": catalogue_digest,
        "candidates": [_candidate(one) | ({"older": more} if more else {}) for one, more in chosen],
        "cannot": len(found.rest),
        "others": found.others,
    }
    if every:
        value["rest"] = [_candidate(one) for one in found.rest]
    return value


def _candidate(one: Candidate) -> dict[str, Any]:
    verdict = one.verdict.as_json()
    return {
        "reference": one.record.exact,
        "outcome": verdict["outcome"],
        "certain": verdict["certain"],
        "runtime": verdict["runtime"],
        "reasons": verdict["reasons"],
        "record": record_tree(one.record),
    }


def plain(text: str) -> str:
    """A text as a terminal may show it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def as_text(found: Ranking, *, every: bool) -> Iterator[str]:
    """The ranking for people, line by line."""
    count, total = len(found.candidates), len(found.candidates) + len(found.rest)
    run = "runs" if count == 1 else "run"
    yield f"{count} of {counted(total, 'image')} {run} at {found.facility}" + (":" if count else "")
    newest = list(found.newest())
    chosen = [(one, 0) for one in found.candidates] if every else newest[:SHOWN]
    for one, more in chosen:
        yield from _lines(one, more)
    if len(newest) > len(chosen):
        yield f"  and {counted(len(newest) - len(chosen), 'more name')}; --all lists them"
    if not found.rest:
        return
    if every or len(found.rest) <= 3:
        yield f"{len(found.rest)} cannot:"
        for one in found.rest:
            yield from _lines(one, 0)
        return
    yield f"{len(found.rest)} cannot; --all says why of each"


def _lines(one: Candidate, more: int) -> Iterator[str]:
    record, verdict = one.record, one.verdict
    words = [record.version or "", human_size(one.size) if one.size is not None else "", one.created[:10]]
    how = f"with {verdict.runtime}" if verdict.runtime and verdict.outcome != "cannot" else ""
    state = "" if verdict.outcome == "cannot" or one.certain else "as far as is known"
    degraded = "degraded" if verdict.outcome == "degraded" else ""
    about = ", ".join(filter(None, (*words, how, degraded, state)))
    yield plain(f"  {record.title}  {about}" + (f"; {more} older" if more else ""))
    yield plain(f"      {record.exact}")
    for reason in verdict.reasons:
        yield from _reason(reason)


def _reason(reason: Reason) -> Iterator[str]:
    yield plain(f"      {MARKS[reason.outcome]} {reason.message} [{reason.rule}]")
    if reason.remedy and reason.outcome != "unknown":
        yield plain(f"          {reason.remedy}")
