"""Which images of a catalogue run at a facility, the best first, and why the others do not. Pure.

The verdict is that of :mod:`afenv.facility.verdict`. To rank thousands, its rules are asked once for each
different need (the tables of the catalogue's index), which gives the outcome; the whole verdict, with its
reasons, is made for an image when somebody looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from afenv.catalogue.file import NONE, Catalogue, make_catalogue
from afenv.catalogue.needs_tree import gpu_of, needs_of_tree
from afenv.catalogue.record import STATES, ImageRecord
from afenv.documents.cuda import version
from afenv.documents.facility import FacilityProfile
from afenv.errors import AfenvError
from afenv.facility.needs import GpuNeed, Needs
from afenv.facility.reason import RANK, Reason
from afenv.facility.rules_gpu import gpu_reasons
from afenv.facility.rules_machine import machine_reasons
from afenv.facility.rules_place import data_reasons, place_reasons
from afenv.facility.rules_runtime import MOST_LAYERS, runtime_reasons
from afenv.facility.verdict import Verdict, verdict
from afenv.record import record, replace

GONE = ("vanished", "changed")
BITS = {"runs": 0, "unknown": 1, "degraded": 2, "cannot": 4}  # of what was said of an image
TABLES = ("machine", "gpu", "place", "data")
FEW_LAYERS = min(MOST_LAYERS.values())  # so many are taken everywhere
_REFRESH = "Push the image again, or take the record out: `afenv catalogue remove`."


@record
class Wanted:
    """What is looked for.

    ``name`` is that of the analysis, with ``:ENVIRONMENT`` if it is not the default one, or a pattern with
    ``*``; ``gpu`` is ``any`` (only images that use one), ``none`` (the job will have none), or a kind of the
    facility's GPUs: a compute capability, or a part of the model's name. ``network``: the job needs it.
    """

    name: str | None = None
    environment: str | None = None
    gpu: str | None = None
    network: bool = False

    def fits(self, name: str, environment: str) -> bool:
        """Whether an image of that name and environment is looked for."""
        if self.environment is not None and environment != self.environment:
            return False
        if self.name is None or self.name in (name, f"{name}:{environment}"):
            return True
        pattern = self.name
        return any(one in pattern for one in "*?[") and (
            fnmatchcase(name, pattern) or fnmatchcase(f"{name}:{environment}", pattern)
        )


class Candidate:
    """An image of the catalogue at the facility; record and verdict are made when they are asked for."""

    __slots__ = ("_judge", "_record", "_verdict", "bits", "catalogue", "row")

    def __init__(self, catalogue: Catalogue, row: int, bits: int, judge: _Judge) -> None:
        self.catalogue = catalogue
        self.row = row
        self.bits = bits
        self._judge = judge
        self._record: ImageRecord | None = None
        self._verdict: Verdict | None = None

    @property
    def outcome(self) -> Literal["runs", "degraded", "cannot"]:
        """That of the verdict."""
        return "cannot" if self.bits & 4 else "degraded" if self.bits & 2 else "runs"

    @property
    def certain(self) -> bool:
        """Whether nothing that decides is unknown."""
        return not self.bits & 1

    @property
    def record(self) -> ImageRecord:
        """What the catalogue says of the image; E622 if that is damaged."""
        if self._record is None:
            self._record = self.catalogue.record(self.row)
        return self._record

    @property
    def verdict(self) -> Verdict:
        """The whole verdict, with its reasons."""
        if self._verdict is None:
            self._verdict = self._judge.whole(self.record)
        return self._verdict

    @property
    def title(self) -> str:
        """Name and environment, as :attr:`ImageRecord.title` has them."""
        index = self.catalogue.index
        name, environment = index["name"][self.row], index["environment"][self.row]
        return str(name if environment == "default" else f"{name}:{environment}")

    @property
    def created(self) -> str:
        """When the image was made, or else added."""
        return str(self.catalogue.index["created"][self.row])

    @property
    def size(self) -> int | None:
        """Bytes as transferred; None if that is not known."""
        size: int = self.catalogue.index["size"][self.row]
        return None if size == NONE else size


@record
class Ranking:
    """The images that run at a facility, the best first; and the ``rest``, which cannot."""

    facility: str
    candidates: tuple[Candidate, ...]
    rest: tuple[Candidate, ...]
    others: int = 0  # images of the catalogue that were not looked for

    @property
    def best(self) -> Candidate | None:
        """The image to use, if there is one."""
        return self.candidates[0] if self.candidates else None

    def newest(self) -> Iterator[tuple[Candidate, int]]:
        """The best of each name and environment, and how many more of it run."""
        counts: dict[str, int] = {}
        first: dict[str, Candidate] = {}
        for one in self.candidates:
            title = one.title
            counts[title] = counts.get(title, -1) + 1
            first.setdefault(title, one)
        return ((one, counts[title]) for title, one in first.items())

    def why_not(self) -> dict[str, int]:
        """How many of the rest each rule refuses; an image counts for each rule that refuses it."""
        counts: dict[str, int] = {}
        for one in self.rest:
            for rule in {reason.rule for reason in one.verdict.reasons if reason.outcome == "cannot"}:
                counts[rule] = counts.get(rule, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def rank(
    catalogue: Catalogue | Iterable[ImageRecord], facility: FacilityProfile, wanted: Wanted | None = None
) -> Ranking:
    """The images that are wanted, ranked for a facility.

    First those that run for certain, then those that run as far as is known, then those that run degraded;
    among these the newest first, and of two the smaller. E624 if no image has the name that is wanted, E030
    for a GPU that the facility does not have.
    """
    if not isinstance(catalogue, Catalogue):
        catalogue = make_catalogue("records", catalogue)
    wanted = wanted or Wanted()
    judge = _Judge(catalogue, with_gpu(facility, wanted.gpu), wanted.network)
    index = catalogue.index
    names, environments, gpus = index["name"], index["environment"], index["gpu"]
    only_gpu = wanted.gpu not in (None, "none")
    everything = wanted.name is None and wanted.environment is None
    rows = [row for row in range(catalogue.count) if everything or wanted.fits(names[row], environments[row])]
    if not rows and not everything:
        raise _unknown(wanted, catalogue)
    found = judge.candidates([row for row in rows if gpus[row] != NONE] if only_gpu else rows)
    running = [one for one in found if not one.bits & 4]
    sizes = index["size"]
    running.sort(key=lambda one: (sizes[one.row], one.row))
    created = index["created"]
    running.sort(key=lambda one: created[one.row], reverse=True)
    running.sort(key=lambda one: (one.outcome == "degraded", not one.certain))
    return Ranking(
        facility=facility.name,
        candidates=tuple(running),
        rest=tuple(one for one in found if one.bits & 4),
        others=catalogue.count - len(found),
    )


def with_gpu(facility: FacilityProfile, kind: str | None) -> FacilityProfile:
    """The facility as a job with that kind of GPU sees it; E030 if it has none of that kind."""
    if kind in (None, "any"):
        return facility
    if kind == "none":
        return replace(facility, gpus=())

    def plain(text: str) -> str:
        return text.lower().replace("-", " ")

    assert kind is not None
    fitting = tuple(
        gpu
        for gpu in facility.gpus or ()
        if kind == gpu.compute_capability or (gpu.model and plain(kind) in plain(gpu.model))
    )
    if not fitting:
        there = [
            gpu.model or gpu.compute_capability or "one that is not known" for gpu in facility.gpus or ()
        ]
        has = ", ".join(there) if facility.gpus is not None else "which GPUs it has is not known"
        raise AfenvError("E030", f"{facility.name} has no GPU {kind!r}; {has or 'it has none'}")
    return replace(facility, gpus=fitting)


def _unknown(wanted: Wanted, catalogue: Catalogue) -> AfenvError:
    from afenv.documents.suggest import did_you_mean

    what = wanted.name or "image"
    what += f" with the environment {wanted.environment}" if wanted.environment else ""
    hint = did_you_mean(wanted.name, set(catalogue.index["name"])) if wanted.name else ""
    return AfenvError("E624", f"there is no {what}{hint}", place=catalogue.place)


def state_reasons(state: str | None, found: str | None = None) -> list[Reason]:
    """What the last look at the registry means for the image."""
    if state == "vanished":
        message = "the image was no longer in its registry when it was last looked for"
        return [Reason(rule="catalogue.vanished", outcome="cannot", message=message, remedy=_REFRESH)]
    if state == "changed":
        message = "its registry gave another content than the digest says"
        remedy = "Do not use it; tell whoever runs the registry."
        return [Reason(rule="catalogue.changed", outcome="cannot", message=message, remedy=remedy)]
    if state == "moved":
        message = f"its tag names {found or 'another image'} now; this one is there by its digest"
        return [Reason(rule="catalogue.moved", outcome="runs", message=message)]
    if state == "unreached":
        message = "its registry did not answer when it was last asked"
        return [Reason(rule="catalogue.unreached", outcome="unknown", message=message)]
    return []


class _Judge:
    """The rules, asked once for each different need."""

    def __init__(self, catalogue: Catalogue, facility: FacilityProfile, network: bool) -> None:
        self.catalogue = catalogue
        self.facility = facility
        self.network = network
        self.column = catalogue.index
        self.glibc = [entry.get("glibc") for entry in catalogue.tables["machine"]]
        self.unpacked_at = [entry.get("unpacked-at") for entry in catalogue.tables["place"]]
        self.gpus: dict[int, GpuNeed | None] = {NONE: None}
        free = [place.free for place in facility.storage or () if place.purpose == "images"]
        self.room = max((one for one in free if one is not None), default=None)
        self.states = [_summary(state_reasons(state)) for state in (*STATES, None)]  # -1 is the last one

    def whole(self, found: ImageRecord) -> Verdict:
        """The whole verdict of a record."""
        needs = replace(found.needs, network=found.needs.network or self.network)
        made = verdict(needs, self.facility)
        checked = found.checked
        more = state_reasons(checked.state, checked.found) if checked else []
        if not more:
            return made
        reasons = sorted((*more, *made.reasons), key=lambda reason: -RANK[reason.outcome])
        return replace(made, reasons=tuple(reasons))

    def candidates(self, rows: Sequence[int]) -> list[Candidate]:
        """The images of some rows, judged by their outcomes only."""
        column = self.column
        machines, gpus, places, data = (self._answers(table, rows) for table in TABLES)
        kinds = {number: self._kind(number) for number in gpus}
        glibc, unpacked_at, states = self.glibc, self.unpacked_at, self.states
        of_machine, of_gpu, of_place, of_data, carrier, size, unpacked, layers, state = (
            column[name] for name in (*TABLES, "carrier", "size", "unpacked", "layers", "state")
        )
        runtimes: dict[tuple[object, ...], int] = {}
        found = []
        for row in rows:
            machine, gpu, place = of_machine[row], of_gpu[row], of_place[row]
            kind = kinds[gpu]
            # all that a rule about runtimes looks at; the C library together with a GPU only
            key = (
                kind,
                glibc[machine] if kind else None,
                unpacked_at[place],
                carrier[row],
                self._room(size[row], unpacked[row]),
                layers[row] if layers[row] > FEW_LAYERS else NONE,
            )
            bits = runtimes.get(key)
            if bits is None:
                bits = runtimes[key] = _summary(self._runtime(row))
            bits |= machines[machine] | gpus[gpu] | places[place] | data[of_data[row]] | states[state[row]]
            found.append(Candidate(self.catalogue, row, bits, self))
        return found

    def _answers(self, table: str, rows: Sequence[int]) -> dict[int, int]:
        """What the rules say of each entry of a table that some rows need."""
        column = self.column[table]
        numbers = set(column) if len(rows) == len(column) else {column[row] for row in rows}
        return {number: _summary(self._ask(table, number)) for number in numbers}

    def _kind(self, number: int) -> int:
        """Whether an image uses no GPU, needs one, or can do without."""
        need = self._need(number)
        return 0 if need is None else 2 if need.optional else 1

    def _room(self, size: int, unpacked: int) -> int:
        """How much of an image fits: all, its file alone, or nothing; sizes decide nothing beyond this."""
        if size == NONE or self.room is None:
            return NONE if size == NONE else 0
        return 0 if size + max(unpacked, 0) <= self.room else 1 if size <= self.room else 2

    def _ask(self, kind: str, number: int) -> Iterable[Reason]:
        if number == NONE:
            return ()
        entry = self.catalogue.tables[kind][number]
        if kind == "machine":
            return machine_reasons(needs_of_tree(entry, name=""), self.facility)
        if kind == "gpu":
            return gpu_reasons(Needs(name="", gpu=self._need(number)), self.facility)
        if kind == "data":
            return (
                reason for one in entry for reason in data_reasons(one["name"], one["uris"], self.facility)
            )
        needs = needs_of_tree(
            entry, name="", registry=entry.get("registry"), unpacked_at=entry.get("unpacked-at")
        )
        needs = replace(needs, network=True) if self.network else needs
        return place_reasons(needs, self.facility)

    def _table(self, name: str, number: int) -> Mapping[str, Any]:
        entry: Mapping[str, Any] = self.catalogue.tables[name][number]
        return entry

    def _need(self, number: int) -> GpuNeed | None:
        if number not in self.gpus:
            self.gpus[number] = gpu_of(self._table("gpu", number))
        return self.gpus[number]

    def _runtime(self, row: int) -> Iterable[Reason]:
        column = self.column
        glibc, carried = self.glibc[column["machine"][row]], self._table("carrier", column["carrier"][row])

        def known(name: str) -> int | None:
            number: int = column[name][row]
            return None if number == NONE else number

        needs = Needs(
            name="",
            glibc=version(glibc) if glibc else None,
            gpu=self._need(column["gpu"][row]),
            forms=tuple(carried.get("forms", ())),
            compression=tuple(carried.get("compression", ())),
            size=known("size"),
            unpacked=known("unpacked"),
            layers=known("layers"),
            unpacked_at=self.unpacked_at[column["place"][row]],
        )
        return runtime_reasons(needs, self.facility)[1]


def _summary(reasons: Iterable[Reason]) -> int:
    """The outcomes of some reasons, a bit for each that is not ``runs``."""
    bits = 0
    for reason in reasons:
        bits |= BITS[reason.outcome]
    return bits
