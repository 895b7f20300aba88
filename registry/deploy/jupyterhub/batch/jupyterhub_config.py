"""JupyterHub with batchspawner and Slurm: servers run as jobs, in Apptainer, from the images of a catalogue.

Beside this file: facility.yaml (`afenv facility probe -o facility.yaml`, on a node) and catalogue.pub, the
public key of whoever keeps the catalogue. Needs jupyterhub, batchspawner and afenv in one Python, and
configurable-http-proxy; the images need batchspawner, which tells the hub the port.
"""

import os
from pathlib import Path

import batchspawner  # noqa: F401 -- its handler takes the ports of servers

from afenv_registry.jupyterhub import (
    Offering,
    catalogue_source,
    image_form,
    options_from_form,
    use_apptainer,
)

c = get_config()  # noqa: F821
here = Path(__file__).resolve().parent

offering = Offering(
    catalogue_source(
        os.environ.get("AFENV_CATALOGUE", "registry.example.org/group/catalogue"),
        trust=[here / "catalogue.pub"],
        folder="afenv-catalogue",
    ),
    here / "facility.yaml",
)

c.JupyterHub.spawner_class = "batchspawner.SlurmSpawner"
c.SlurmSpawner.options_form = image_form(offering)
c.SlurmSpawner.options_from_form = options_from_form
c.SlurmSpawner.pre_spawn_hook = use_apptainer(
    offering,
    binds=[],  # folders that every node has, such as "/data:/data:ro"
)
c.SlurmSpawner.req_runtime = "8:00:00"
c.SlurmSpawner.req_memory = "4G"
c.SlurmSpawner.start_timeout = 600

# jobs reach the hub by this machine's name
c.JupyterHub.hub_ip = "0.0.0.0"  # noqa: S104
c.JupyterHub.hub_connect_ip = os.environ.get("HUB_CONNECT_IP", "")
