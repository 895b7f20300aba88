"""Which images a hub offers on which hardware, and why it does not offer the others. Pure.

An image is offered on hardware if selection ranks it for the facility as a server with that hardware sees
it, and

- it is known to carry jupyterhub of the hub's major version: a server of another is started and then fails;
- on hardware with a GPU, it uses one, and that its driver window and its code fit is known;
- the registry had it, with the content that its digest says, when it was last looked for.

``uncertain=True`` also offers what is not known to fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from afenv.catalogue.record import ImageRecord
from afenv.documents.facility import FacilityProfile
from afenv.facility.verdict import Verdict, verdict
from afenv.record import record, replace
from afenv_registry.jupyterhub.hardware import Hardware
from afenv_registry.jupyterhub.labels import slug


class Candidate(Protocol):
    """An image of a catalogue as selection ranks it (:class:`afenv.catalogue.rank.Candidate`)."""

    @property
    def record(self) -> ImageRecord: ...  # pragma: no cover

    @property
    def verdict(self) -> Verdict: ...  # pragma: no cover


Rank = Callable[[FacilityProfile], tuple[Iterable[Candidate], Iterable[Candidate]]]
"""Those that run at a facility, the best first, and the rest."""


@record
class Offer:
    """An image and the hardware on which it is offered; ``remarks`` say what is degraded."""

    image: ImageRecord
    hardware: tuple[Hardware, ...]
    remarks: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What a form sends: the name for people to read, the digest so that it never means another image."""
        return slug(self.image.title, self.image.version or "", self.image.digest.partition(":")[2][:12])

    @property
    def title(self) -> str:
        """Name and version, and the title where there is one."""
        found = " ".join(filter(None, (self.image.title, self.image.version)))
        return f"{found}: {self.image.metadata.title}" if self.image.metadata.title else found


@record
class Refusal:
    """An image that is offered on no hardware, and the first reason."""

    title: str
    reason: str


@record
class Offers:
    """All offers, the best first, and what is not offered."""

    offered: tuple[Offer, ...] = ()
    refused: tuple[Refusal, ...] = ()


def make_offers(
    rank: Rank, facility: FacilityProfile, hardware: Sequence[Hardware], *, uncertain: bool = False
) -> Offers:
    """The offers at a facility, whose profile says the version of its hub."""
    found: dict[str, tuple[Candidate, list[Hardware], list[str]]] = {}
    reasons: dict[str, tuple[str, str]] = {}
    for one in hardware:
        seen = one.seen_by(facility)
        running, rest = rank(seen)
        for candidate in running:
            key = candidate.record.key
            against = _against(candidate, one, seen, uncertain)
            if against is not None:
                reasons.setdefault(key, (candidate.record.title, against))
                continue
            entry = found.setdefault(key, (candidate, [], []))
            entry[1].append(one)
            entry[2].extend(
                reason.message
                for reason in candidate.verdict.reasons
                if reason.outcome == "degraded" and reason.rule != "gpu" and reason.message not in entry[2]
            )
        for candidate in rest:
            why = next(reason for reason in candidate.verdict.reasons if reason.outcome == "cannot")
            reasons.setdefault(candidate.record.key, (candidate.record.title, why.message))
    return Offers(
        offered=tuple(
            Offer(image=candidate.record, hardware=tuple(some), remarks=tuple(remarks))
            for candidate, some, remarks in found.values()
        ),
        refused=tuple(
            Refusal(title=title, reason=why) for key, (title, why) in reasons.items() if key not in found
        ),
    )


def _against(
    candidate: Candidate, hardware: Hardware, facility: FacilityProfile, uncertain: bool
) -> str | None:
    """Why an image that selection would take is not offered on this hardware."""
    needs = candidate.record.needs
    reasons = candidate.verdict.reasons
    if hardware.gpu is not None:
        if needs.gpu is None:
            return "it uses no GPU"
        if needs.gpu.optional:  # it would run without, and leave the GPU idle
            strict = replace(needs, gpu=replace(needs.gpu, optional=False))
            reasons = verdict(strict, facility).reasons
    for reason in reasons:
        if reason.outcome == "cannot":
            return reason.message
        about_gpu = hardware.gpu is not None and reason.rule.startswith(("gpu", "runtime.gpu"))
        if reason.outcome == "unknown" and not uncertain and (about_gpu or reason.rule == "jupyterhub"):
            return reason.message
    return None
