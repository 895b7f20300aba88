"""What a rule says of one image and one facility, and how answers are ranked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from afenv.record import record

Outcome = Literal["runs", "unknown", "degraded", "cannot"]
RANK: dict[Outcome, int] = {"runs": 0, "unknown": 1, "degraded": 2, "cannot": 3}


@record
class Reason:
    """What a rule found, and what can be done about it."""

    rule: str
    outcome: Outcome
    message: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """The reason as ``--json`` shows it."""
        found = {"rule": self.rule, "outcome": self.outcome, "message": self.message}
        return found | ({"remedy": self.remedy} if self.remedy else {})


def worst(reasons: Iterable[Reason]) -> int:
    """The rank of the worst of some reasons."""
    return max((RANK[reason.outcome] for reason in reasons), default=0)
