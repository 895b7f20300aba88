"""Spawners that start processes or batch jobs, with Apptainer: the hook that sets the command.

It serves LocalProcessSpawner, SystemdSpawner, SudoSpawner and what is like them, whose ``cmd`` it sets, and
the spawners of batchspawner, whose ``batchspawner_singleuser_cmd`` it sets: that program tells the hub the
port, and has to be in the image.

Sources: JupyterHub's reference (``Spawner.cmd``, ``pre_spawn_hook``); batchspawner, ``submit_batch_script``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from afenv.catalogue.record import ImageRecord
from afenv.errors import AfenvError
from afenv_registry.jupyterhub.apptainer import apptainer_command, shell_line
from afenv_registry.jupyterhub.choosing import OPTION, by_name, chosen
from afenv_registry.jupyterhub.offering import Offering
from afenv_registry.jupyterhub.refusal import refusal

BATCH = "batchspawner_singleuser_cmd"


def place_of(image: ImageRecord) -> str:
    """Where Apptainer finds an image: unpacked on CVMFS, a SIF in a registry, or its layers there."""
    unpacked, sif = image.form("cvmfs"), image.form("sif")
    if unpacked is not None and unpacked.path:
        return unpacked.path
    if sif is not None and sif.reference and sif.digest:
        return f"oras://{_repository(sif.reference)}@{sif.digest}"
    return f"docker://{image.key}"


def _repository(reference: str) -> str:
    folder, slash, last = reference.partition("@")[0].rpartition("/")
    return folder + slash + last.partition(":")[0]


def use_apptainer(
    offering: Offering,
    *,
    place: Callable[[ImageRecord], str] = place_of,
    binds: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Callable[[Any], Awaitable[None]]:
    """A ``pre_spawn_hook``: the server of the image that was chosen, or of the best one, runs in Apptainer.

    ``place`` says where images lie, such as in a folder of SIFs. E630 if there is no image for this user,
    E633 for one that is not offered. Other user options are dropped: batchspawner would put them into the
    job's script.
    """
    folders = tuple(binds)
    apptainer_command(
        "/", binds=folders, variables=variables
    )  # E632 when the hub starts, not at the first user

    async def use(spawner: Any) -> None:
        offers = await offering.offers_to(spawner)
        try:
            offer = chosen(spawner.user_options, offers, offering)
            needs = offer.image.needs
            gpu = any(one.gpu is not None for one in offer.hardware)
            batch = hasattr(spawner, BATCH)
            words = apptainer_command(
                place(offer.image),
                command=("batchspawner-singleuser",) if batch else ("jupyterhub-singleuser",),
                gpu=gpu,
                cvmfs=bool(needs.cvmfs),
                binds=folders,
                variables=variables,
            )
        except AfenvError as error:
            raise refusal(error) from None
        name = next(name for name, one in by_name(offers).items() if one is offer)
        spawner.user_options = {OPTION: name}
        if not batch:
            spawner.cmd = words
            return
        setattr(spawner, BATCH, shell_line(words))
        spawner.cmd = ["jupyterhub-singleuser"]
        if gpu:
            _ask_for_gpu(spawner)

    return use


def _ask_for_gpu(spawner: Any) -> None:
    """One GPU from the batch system, unless the operator asks for some already."""
    for name, value in (("req_ngpus", "1"), ("req_gres", "gpu:1")):
        if hasattr(spawner, name) and not getattr(spawner, name):
            setattr(spawner, name, value)
