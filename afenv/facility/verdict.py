"""Will an image run at a facility, and if not, why. Pure: needs and profile in, reasons out.

Every reason names the rule that it comes from. What a rule needs and the profile or the image does not say is
``unknown``: it makes no verdict, and is listed.
"""

from __future__ import annotations

from typing import Any, Literal

from afenv.documents.facility import FacilityProfile
from afenv.facility.needs import Needs
from afenv.facility.reason import RANK, Reason
from afenv.facility.rules_gpu import gpu_reasons
from afenv.facility.rules_machine import machine_reasons
from afenv.facility.rules_place import place_reasons
from afenv.facility.rules_runtime import runtime_reasons
from afenv.record import record


@record
class Verdict:
    """The answer for one image and one facility; ``runtime`` is the one to be used there."""

    image: str
    facility: str
    reasons: tuple[Reason, ...]
    runtime: str | None = None

    @property
    def outcome(self) -> Literal["runs", "degraded", "cannot"]:
        """The worst of the reasons; what is not known does not count."""
        worst = max((RANK[reason.outcome] for reason in self.reasons), default=0)
        return "cannot" if worst == 3 else "degraded" if worst == 2 else "runs"

    @property
    def unknown(self) -> tuple[Reason, ...]:
        """What is not known and would decide."""
        return tuple(reason for reason in self.reasons if reason.outcome == "unknown")

    def as_json(self) -> dict[str, Any]:
        """The object that ``afenv check --json`` prints."""
        return {
            "image": self.image,
            "facility": self.facility,
            "outcome": self.outcome,
            "certain": not self.unknown,
            "runtime": self.runtime,
            "reasons": [reason.as_json() for reason in self.reasons],
        }


def verdict(needs: Needs, facility: FacilityProfile) -> Verdict:
    """Whether what is needed is there; the reasons are sorted, the worst first."""
    runtime, found = runtime_reasons(needs, facility)
    reasons = [
        *machine_reasons(needs, facility),
        *found,
        *gpu_reasons(needs, facility),
        *place_reasons(needs, facility),
    ]
    reasons.sort(key=lambda reason: -RANK[reason.outcome])
    return Verdict(image=needs.name, facility=facility.name, reasons=tuple(reasons), runtime=runtime)
