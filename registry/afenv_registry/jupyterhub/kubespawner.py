"""The profiles of KubeSpawner: image and hardware chosen separately.

KubeSpawner lets each option of a profile be chosen freely, so a profile holds the images that fit *the
same* hardware: whatever is chosen in it, the image runs on it. Images that need no GPU, those that need
one, and those for some of the GPUs only, make profiles of their own. Images that are not listed have one
too.

Sources: KubeSpawner's reference (``profile_list``, ``profile_options``, ``unlisted_choice``,
``kubespawner_override``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from afenv.errors import AfenvError
from afenv_registry.jupyterhub.hardware import Hardware
from afenv_registry.jupyterhub.labels import escaped, plain, slug
from afenv_registry.jupyterhub.offering import Offering
from afenv_registry.jupyterhub.offers import Offer
from afenv_registry.jupyterhub.refusal import refusal
from afenv_registry.jupyterhub.unlisted import Unlisted

ANOTHER = "another-image"  # the profile for images that are not listed
NOTHING = "no-image"  # the profile that says why there is nothing

Profile = dict[str, Any]


def profile_list(offering: Offering) -> Callable[[Any], Awaitable[list[Profile]]]:
    """What KubeSpawner's ``profile_list`` takes: the profiles for the user of a spawner.

    There is always at least one: KubeSpawner without profiles starts its default image. If there is nothing
    to choose, the profile says why, and refuses to start (E630).
    """

    async def profiles(spawner: Any) -> list[Profile]:
        offers = await offering.offers_to(spawner)
        found = profiles_of(offers, offering.unlisted, offering.unlisted_hardware(spawner))
        return found or [_nothing(offering.nothing())]

    return profiles


def profiles_of(
    offers: Sequence[Offer], unlisted: Unlisted | None = None, unlisted_hardware: Sequence[Hardware] = ()
) -> list[Profile]:
    """The profiles of some offers, that of the best one first; pure."""
    groups: dict[tuple[Hardware, ...], list[Offer]] = {}
    for offer in offers:
        groups.setdefault(offer.hardware, []).append(offer)
    titles = {hardware: _kind(hardware) for hardware in groups}
    found: list[Profile] = []
    for hardware, some in groups.items():
        title = titles[hardware]
        if list(titles.values()).count(title) > 1:  # told apart by what they have
            title += f": {', '.join(one.title for one in hardware if one.gpu is not None)}"
        found.append(
            {
                "slug": slug(*(one.key for one in hardware)),
                "display_name": escaped(title),
                "description": escaped(_described(some)),
                "profile_options": {
                    "image": {"display_name": "Image", "choices": _images(some)},
                    "hardware": _hardware(hardware),
                },
            }
        )
    if unlisted is not None and unlisted_hardware:
        found.append(_another(unlisted, unlisted_hardware))
    if found:
        found[0]["default"] = True
    return found


def _kind(hardware: Sequence[Hardware]) -> str:
    kinds = {one.gpu is not None for one in hardware}
    return "With or without a GPU" if len(kinds) == 2 else "With a GPU" if True in kinds else "Without a GPU"


def _described(offers: Sequence[Offer]) -> str:
    names = ", ".join(dict.fromkeys(offer.image.title for offer in offers))
    return f"{len(offers)} images: {names}" if len(offers) > 1 else names


def _images(offers: Sequence[Offer]) -> dict[str, Any]:
    return {
        offer.key: {
            "display_name": escaped(offer.title + (" (degraded)" if offer.remarks else "")),
            **({"default": True} if index == 0 else {}),
            "kubespawner_override": {"image": offer.image.key},
        }
        for index, offer in enumerate(offers)
    }


def _hardware(hardware: Sequence[Hardware]) -> dict[str, Any]:
    choices = {
        one.key: {
            "display_name": escaped(one.title),
            **({"default": True} if index == 0 else {}),
            "kubespawner_override": one.overrides(),
        }
        for index, one in enumerate(hardware)
    }
    return {"display_name": "Hardware", "choices": choices}


def _another(rule: Unlisted, hardware: Sequence[Hardware]) -> Profile:
    def checked(spawner: Any) -> str:
        """The image of the form, by the rule in Python; KubeSpawner asks when it starts the server."""
        try:
            return rule.check(_options(spawner).get("image--unlisted-choice"))
        except AfenvError as error:
            raise refusal(error) from None

    return {
        "slug": ANOTHER,
        "display_name": "Another image",
        "description": escaped(rule.message),
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {},
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Name of the image",
                    "display_name_in_choices": "as follows",
                    "validation_regex": rule.regex,
                    "validation_message": escaped(rule.message),
                    "kubespawner_override": {"image": checked},
                },
            },
            "hardware": _hardware(hardware),
        },
    }


def _nothing(error: AfenvError) -> Profile:
    def refuse(spawner: Any) -> str:
        raise refusal(error)

    return {
        "slug": NOTHING,
        "display_name": "No image can be started",
        "description": escaped(error.problems[0].message),
        "default": True,
        "kubespawner_override": {"image": refuse},
    }


def _options(spawner: Any) -> Mapping[str, Any]:
    found = spawner.user_options
    return found if isinstance(found, Mapping) else {}


def check_profile(offering: Offering) -> Callable[[Any], Awaitable[None]]:
    """A ``pre_spawn_hook`` that refuses what no form offers, in words; KubeSpawner alone fails at it.

    User options that come through JupyterHub's API can be anything. E631 for an image outside the rule,
    E633 for a profile, an image or hardware that this user is not offered.
    """
    profiles = profile_list(offering)

    async def check(spawner: Any) -> None:
        found = await profiles(spawner)
        try:
            check_options(_options(spawner), found, offering.unlisted)
        except AfenvError as error:
            raise refusal(error) from None

    return check


def check_options(
    options: Mapping[str, Any], profiles: Sequence[Profile], rule: Unlisted | None = None
) -> None:
    """Whether user options choose among some profiles; E631, E633. Pure.

    A server that is started without options gets the first of everything.
    """
    name = options.get("profile") or profiles[0]["slug"]
    profile = next((one for one in profiles if one["slug"] == name), None)
    if profile is None:
        raise _unknown("profile", name)
    for option, offered in profile.get("profile_options", {}).items():
        named = options.get(f"{option}--unlisted-choice")
        if "unlisted_choice" in offered:
            if rule is None or not named:
                raise AfenvError("E633", "no image is named")
            rule.check(named)
            continue
        if named:
            raise _unknown(option, named)
        chosen = options.get(option)
        if chosen and (not isinstance(chosen, str) or chosen not in offered["choices"]):
            raise _unknown(option, chosen)


def _unknown(what: str, value: Any) -> AfenvError:
    shown = repr(plain(value[:80])) if isinstance(value, str) else "that was sent"
    return AfenvError("E633", f"the {what} {shown} is not offered here")
