"""JupyterHub with DockerSpawner: users choose among the images of a catalogue that run on this machine.

Beside this file: facility.yaml (`afenv facility probe -o facility.yaml`) and catalogue.pub, the public key of
whoever keeps the catalogue. Needs jupyterhub, dockerspawner and afenv in one Python, and
configurable-http-proxy.
"""

import os
from pathlib import Path

from afenv_registry.jupyterhub import (
    Offering,
    allowed_images,
    catalogue_source,
    image_form,
    options_from_form,
    use_image,
)

c = get_config()  # noqa: F821
here = Path(__file__).resolve().parent

offering = Offering(
    catalogue_source(
        os.environ.get("AFENV_CATALOGUE", "registry.example.org/group/catalogue"),
        trust=[here / "catalogue.pub"],
        folder="afenv-catalogue",  # below the hub's own folder: the last good copy
    ),
    here / "facility.yaml",
)

c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.DockerSpawner.allowed_images = allowed_images(offering)
c.DockerSpawner.options_form = image_form(offering)
c.DockerSpawner.options_from_form = options_from_form
c.DockerSpawner.pre_spawn_hook = use_image(offering)
c.DockerSpawner.cmd = ["jupyterhub-singleuser"]
c.DockerSpawner.remove = True
c.DockerSpawner.http_timeout = 120  # the first start reads everything from disk

# users keep what is in their home folder, which is where notebooks are; the code of an image stays as it is
c.DockerSpawner.notebook_dir = "~"
c.DockerSpawner.volumes = {"jupyterhub-{username}": "/home/analyst"}

# containers reach the hub by the address of their network's gateway
c.DockerSpawner.network_name = os.environ.get("HUB_NETWORK", "jupyterhub")
c.DockerSpawner.use_internal_ip = True
c.JupyterHub.hub_ip = os.environ.get("HUB_IP", "172.18.0.1")
