"""Images of a catalogue in the spawners of JupyterHub.

A hub's configuration makes an :class:`Offering` (a catalogue, a facility's profile, who may use what) and
gives its spawner what this package makes of it:

======================
====================================================================================== KubeSpawner
:func:`profile_list`, and :func:`check_profile` as ``pre_spawn_hook`` DockerSpawner
:func:`allowed_images`, :func:`image_form`, and :func:`use_image` as ``pre_spawn_hook`` processes, batch
jobs   :func:`image_form`, :func:`options_from_form`, and :func:`use_apptainer` as ``pre_spawn_hook``; or
:func:`apptainer_command` for one image
====================== ======================================================================================

Nothing here imports JupyterHub or a spawner before a server starts.
"""

from __future__ import annotations

from afenv_registry.jupyterhub.access import everybody, groups_may
from afenv_registry.jupyterhub.apptainer import apptainer_command, shell_line
from afenv_registry.jupyterhub.choosing import image_form, options_from_form
from afenv_registry.jupyterhub.dockerspawner import allowed_images, image_names, use_image
from afenv_registry.jupyterhub.hardware import Hardware, hardware_of
from afenv_registry.jupyterhub.kubespawner import check_profile, profile_list, profiles_of
from afenv_registry.jupyterhub.offering import Offering
from afenv_registry.jupyterhub.processes import place_of, use_apptainer
from afenv_registry.jupyterhub.source import CatalogueSource, catalogue_source
from afenv_registry.jupyterhub.unlisted import Unlisted, unlisted

__all__ = [
    "CatalogueSource",
    "Hardware",
    "Offering",
    "Unlisted",
    "allowed_images",
    "apptainer_command",
    "catalogue_source",
    "check_profile",
    "everybody",
    "groups_may",
    "hardware_of",
    "image_form",
    "image_names",
    "options_from_form",
    "place_of",
    "profile_list",
    "profiles_of",
    "shell_line",
    "unlisted",
    "use_apptainer",
    "use_image",
]
