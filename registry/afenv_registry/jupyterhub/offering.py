"""What a hub offers to each of its users: a catalogue, ranked for the facility, filtered by a rule of access.

One :class:`Offering` serves every spawner of a hub. The offers are made anew when the catalogue changes;
for a user they are only filtered.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from afenv.catalogue.file import Catalogue
from afenv.documents.facility import FacilityProfile, Hub
from afenv.errors import AfenvError
from afenv.record import replace
from afenv_registry.jupyterhub.access import Allow, everybody
from afenv_registry.jupyterhub.hardware import Hardware, check_hardware, hardware_of
from afenv_registry.jupyterhub.offers import Offer, Offers, Refusal, make_offers
from afenv_registry.jupyterhub.source import CatalogueSource
from afenv_registry.jupyterhub.unlisted import Unlisted

SHOWN = 3  # refusals in a message

_log = logging.getLogger(__name__)


class Offering:
    """Images and hardware for the users of a hub.

    ``facility`` is a profile or its file. The hub's version is that of the JupyterHub that runs; what the
    profile says of it is for those who ask elsewhere. ``hardware`` is by default what the profile has.
    ``unlisted`` is the rule for images that the catalogue does not list; without one there are none. E632
    for settings that contradict each other, and what reading the profile raises.
    """

    def __init__(
        self,
        source: CatalogueSource,
        facility: FacilityProfile | Path | str,
        *,
        hardware: Sequence[Hardware] | None = None,
        allow: Allow = everybody,
        unlisted: Unlisted | None = None,
        uncertain: bool = False,
        hub_version: str | None = None,
    ) -> None:
        profile = _profile(facility)
        self.source = source
        self.facility = replace(profile, jupyterhub=_hub(profile, hub_version or installed_hub()))
        self.hardware = check_hardware(hardware if hardware is not None else hardware_of(profile))
        self.allow = allow
        self.unlisted = unlisted
        self._uncertain = uncertain
        self._made: tuple[Catalogue, Offers] | None = None
        self._lock = threading.Lock()
        keys = {one.key for one in self.hardware}
        for key in unlisted.hardware if unlisted else ():
            if key not in keys:
                raise AfenvError("E632", f"there is no hardware {key!r}", place="unlisted")

    def all_offers(self, *, wait: bool = True) -> Offers:
        """What is offered to anybody at all; see :meth:`CatalogueSource.current` of ``wait``."""
        catalogue = self.source.current(wait=wait)
        if catalogue is None:
            return Offers()
        with self._lock:
            if self._made is None or self._made[0] is not catalogue:
                self._made = (catalogue, self._make(catalogue))
            return self._made[1]

    def _make(self, catalogue: Catalogue) -> Offers:
        from afenv.catalogue.rank import rank

        def ranked(facility: FacilityProfile) -> Any:
            found = rank(catalogue, facility)
            return found.candidates, found.rest

        try:
            found = make_offers(ranked, self.facility, self.hardware, uncertain=self._uncertain)
        except AfenvError as error:  # a record that is damaged
            _log.error("catalogue %s: %s", catalogue.place, error.problems[0].render())
            return Offers(refused=(Refusal(title="the catalogue", reason=error.problems[0].message),))
        if not found.offered:
            _log.warning("no image can be offered: %s", self.why_none(found))
        return found

    async def offers_to(self, spawner: Any) -> tuple[Offer, ...]:
        """The offers for the user of a spawner, the best first; a registry is waited for in a thread."""
        await asyncio.to_thread(self.all_offers)
        return self.offers_now(spawner)

    def offers_now(self, spawner: Any) -> tuple[Offer, ...]:
        """The same, of what is at hand."""
        found = []
        for offer in self.all_offers(wait=False).offered:
            hardware = tuple(one for one in offer.hardware if self.allow(spawner, offer.image, one))
            if hardware:
                found.append(replace(offer, hardware=hardware))
        return tuple(found)

    def unlisted_hardware(self, spawner: Any) -> tuple[Hardware, ...]:
        """The hardware on which a user may start an image that is not listed; none without a rule."""
        if self.unlisted is None:
            return ()
        wanted = self.unlisted.hardware
        plain = [one for one in self.hardware if one.gpu is None][:1]
        chosen = [one for one in self.hardware if one.key in wanted] if wanted else plain
        return tuple(one for one in chosen if self.allow(spawner, None, one))

    def why_none(self, offers: Offers | None = None) -> str:
        """Why there is nothing to choose, in one sentence."""
        if offers is None:
            offers = self.all_offers(wait=False)
        if self.source.problem is not None and self._made is None:
            return f"the catalogue cannot be had: {self.source.problem.problems[0].message}"
        if offers.offered:
            return "there is no image for this user"
        if not offers.refused:
            return "the catalogue lists no image" if self._made else "the catalogue is being loaded"
        some = "; ".join(f"{one.title}: {one.reason}" for one in offers.refused[:SHOWN])
        more = len(offers.refused) - SHOWN
        return some + (f"; and {more} more" if more > 0 else "")

    def nothing(self) -> AfenvError:
        """E630: there is nothing to choose, and why."""
        return AfenvError("E630", f"no image can be started here: {self.why_none()}")


def _profile(facility: FacilityProfile | Path | str) -> FacilityProfile:
    if isinstance(facility, FacilityProfile):
        return facility
    from afenv.documents.facility_file import read_facility

    return read_facility(Path(facility))


def installed_hub() -> str:
    """The version of the JupyterHub in this Python; E632 if there is none."""
    try:
        return metadata.version("jupyterhub")
    except metadata.PackageNotFoundError:
        raise AfenvError(
            "E632",
            "there is no JupyterHub here, and its version is not given",
            place="hub_version",
            remedy="Install afenv into the hub's Python, or give hub_version.",
        ) from None


def _hub(profile: FacilityProfile, running: str) -> Hub:
    said = profile.jupyterhub.version if profile.jupyterhub is not None else running
    if said.split(".")[0] != running.split(".")[0]:
        _log.warning("%s has a hub %s, and this is %s, which counts", profile.name, said, running)
    return Hub(version=running, only=True)
