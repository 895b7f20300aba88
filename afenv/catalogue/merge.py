"""Changes of a catalogue, and how catalogues that were changed apart become one. Pure.

Merging is commutative, associative and idempotent: of each record the later word counts. That is what lets
any number of writers share a registry, which cannot compare and set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from afenv.catalogue.file import Catalogue, make_catalogue
from afenv.catalogue.record import ImageRecord
from afenv.catalogue.record_tree import dump_record
from afenv.record import field, record, replace

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@record
class Contents:
    """What is in a catalogue: records and removals by identity; ``more`` are keys that are not known."""

    name: str
    records: Mapping[str, ImageRecord] = field(default_factory=dict)
    removed: Mapping[str, str] = field(default_factory=dict)
    serial: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def same(self, other: Contents) -> bool:
        """Whether records and removals are the same."""
        return self.records == other.records and dict(self.removed) == dict(other.removed)

    def file(self, serial: int) -> Catalogue:
        """The contents as a catalogue that is not signed yet."""
        return make_catalogue(
            self.name, self.records.values(), serial=serial, removed=self.removed, more=self.more
        )


def contents_of(catalogue: Catalogue) -> Contents:
    """The contents of a catalogue, each record checked; E622."""
    return Contents(
        name=catalogue.name,
        records={one.key: one for one in catalogue.records()},
        removed=dict(catalogue.removed),
        serial=catalogue.serial,
        more=catalogue.more,
    )


def merged(first: Contents, *others: Contents) -> Contents:
    """What several catalogues of one origin say together."""
    for other in others:
        first = _merged(first, other)
    return first


def _merged(a: Contents, b: Contents) -> Contents:
    removed = dict(a.removed)
    for key, time in b.removed.items():
        removed[key] = max(time, removed.get(key, ""))
    records: dict[str, ImageRecord] = {}
    for key in {**a.records, **b.records}:
        one, other = a.records.get(key), b.records.get(key)
        later = one if other is None else other if one is None else _later(one, other)
        assert later is not None
        if removed.get(key, "") < later.added:
            records[key] = later
            removed.pop(key, None)
    newer, older = (a, b) if (a.serial, a.name) >= (b.serial, b.name) else (b, a)
    return Contents(
        name=newer.name,
        records=records,
        removed=removed,
        serial=newer.serial,
        more={**older.more, **newer.more},
    )


def _later(one: ImageRecord, other: ImageRecord) -> ImageRecord:
    if one == other:
        return one
    return max(one, other, key=lambda record: (record.added, dump_record(record)))


def now() -> str:
    """The time, in the form of records."""
    return datetime.now(UTC).strftime(_FORMAT)


def _after(time: str, *others: str) -> str:
    """The time, or if one of the others is as late, one second after the last of them."""
    last = max(others, default="")
    if time > last:
        return time
    return (datetime.strptime(last, _FORMAT).replace(tzinfo=UTC) + timedelta(seconds=1)).strftime(_FORMAT)


def with_records(contents: Contents, records: Iterable[ImageRecord], time: str) -> Contents:
    """The contents with these records, in the place of older ones of the same image."""
    kept, removed = dict(contents.records), dict(contents.removed)
    for one in records:
        old = kept.get(one.key)
        words = [old.added] if old is not None else []
        words += [removed.pop(one.key)] if one.key in removed else []
        new = replace(one, added=_after(time, *words))
        if old is None or replace(new, added=old.added) != old:
            kept[one.key] = new
    return replace(contents, records=kept, removed=removed)


def without_records(contents: Contents, keys: Iterable[str], time: str) -> Contents:
    """The contents without the records of these identities; that they were removed is kept."""
    kept, removed = dict(contents.records), dict(contents.removed)
    for key in keys:
        old = kept.pop(key, None)
        if old is not None:
            removed[key] = _after(time, old.added)
    return replace(contents, records=kept, removed=removed)
