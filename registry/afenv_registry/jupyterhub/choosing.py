"""One image out of a list, for spawners whose forms show names: the form, and what comes back from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from afenv.errors import AfenvError
from afenv_registry.jupyterhub.labels import escaped, plain
from afenv_registry.jupyterhub.offering import Offering
from afenv_registry.jupyterhub.offers import Offer

OPTION = "image"


def by_name(offers: Sequence[Offer]) -> dict[str, Offer]:
    """The offers by the names that users see, the best first; of two with one name the second has its digest
    in it."""
    found: dict[str, Offer] = {}
    for offer in offers:
        name = plain(offer.title) or offer.key
        if name in found:
            name = f"{name} ({offer.image.digest.partition(':')[2][:12]})"
        found[name] = offer
    return found


def chosen(options: Any, offers: Sequence[Offer], offering: Offering) -> Offer:
    """The offer that user options choose, the best one without options; E630 if there is none, E633."""
    names = by_name(offers)
    if not names:
        raise offering.nothing()
    asked = options.get(OPTION) if isinstance(options, Mapping) else None
    if not asked:
        return next(iter(names.values()))
    if not isinstance(asked, str) or asked not in names:
        shown = repr(plain(asked[:80])) if isinstance(asked, str) else "that was sent"
        raise AfenvError("E633", f"the image {shown} is not offered here")
    return names[asked]


def image_form(offering: Offering) -> Callable[[Any], Awaitable[str]]:
    """What ``options_form`` takes: a list of images, asked for anew each time; no form if there is no
    choice."""

    async def form(spawner: Any) -> str:
        return form_of(by_name(await offering.offers_to(spawner)))

    return form


def form_of(names: Mapping[str, Offer]) -> str:
    """The form as HTML; empty for fewer than two images. Names are plain, remarks are escaped. Pure."""
    if len(names) < 2:
        return ""
    options = "".join(
        f'<option value="{name}" title="{escaped("; ".join(offer.remarks))}">{name}'
        f"{' (degraded)' if offer.remarks else ''}</option>"
        for name, offer in names.items()
    )
    return (
        f'<label for="{OPTION}">Image</label>'
        f'<select class="form-control" id="{OPTION}" name="{OPTION}" required autofocus>{options}</select>'
    )


def options_from_form(form: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What ``options_from_form`` takes: the image that was chosen, and nothing else that was sent."""
    found = form.get(OPTION)
    return {OPTION: found[0]} if found else {}
