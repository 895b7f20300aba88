"""The images of DockerSpawner: a name for people, the reference by its digest.

DockerSpawner (14) takes what stands behind the last colon of an image for a tag, so that it cannot pull an
image by its digest, and starts its default image if there is at most one to choose. The hook of this module
does both before DockerSpawner looks: it pulls, and sets the image.

Sources: DockerSpawner's reference (``allowed_images``, ``pull_policy``); Docker Engine API,
``/images/create``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from afenv.errors import AfenvError
from afenv_registry.jupyterhub.choosing import by_name, chosen
from afenv_registry.jupyterhub.offering import Offering
from afenv_registry.jupyterhub.offers import Offer
from afenv_registry.jupyterhub.refusal import refusal


def image_names(offers: Sequence[Offer]) -> dict[str, str]:
    """Names to choose from and the references that they stand for, the best first; pure."""
    return {name: offer.image.key for name, offer in by_name(offers).items()}


def allowed_images(offering: Offering) -> Callable[[Any], dict[str, str]]:
    """What DockerSpawner's ``allowed_images`` takes: the images for the user of a spawner, by name.

    DockerSpawner calls it where it cannot wait, so it tells what is at hand.
    """

    def allowed(spawner: Any) -> dict[str, str]:
        return image_names(offering.offers_now(spawner))

    return allowed


def use_image(offering: Offering) -> Callable[[Any], Awaitable[None]]:
    """A ``pre_spawn_hook`` for DockerSpawner: the image that was chosen, or the best one, is pulled and used.

    E630 if there is none for this user, E633 for one that is not offered.
    """

    async def use(spawner: Any) -> None:
        offers = await offering.offers_to(spawner)
        try:
            offer = chosen(spawner.user_options, offers, offering)
        except AfenvError as error:
            raise refusal(error) from None
        spawner.image = offer.image.key
        await _pull(spawner, offer.image.key)
        if any(one.gpu is not None for one in offer.hardware):
            _show_gpus(spawner)

    return use


async def _pull(spawner: Any, reference: str) -> None:
    from docker.errors import NotFound

    if spawner.pull_policy == "skip":
        return
    try:
        await spawner.docker("inspect_image", reference)
    except NotFound:
        if spawner.pull_policy != "never":
            spawner.log.info("pulling %s", reference)
            await spawner.docker("pull", reference)


def _show_gpus(spawner: Any) -> None:
    """All GPUs of the machine, as ``docker run --gpus all`` asks for them."""
    from docker.types import DeviceRequest

    wanted = {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}
    given = spawner.extra_host_config
    spawner.extra_host_config = wanted | (given(spawner) if callable(given) else dict(given))
