"""Repositories in the form that repo2docker knows, built by repo2docker itself and a Docker engine."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv_builders.recipes.docker import engine, run_command, save

USER, UID = "jovyan", 1000  # those of mybinder.org, which such repositories are written for


class Repo2dockerRecipes:
    """Lets repo2docker choose a build pack and build."""

    def build(
        self, folder: Path, options: Mapping[str, Any], archive: Path, say: Callable[[str], None]
    ) -> str:
        """As :class:`afenv.oci.recipes.RecipeBuilder` has it.

        repo2docker ends its process when it fails and works in the current folder: it gets a process of
        its own. ``AFENV_REPO2DOCKER_BASE`` names another base image than repo2docker's.
        """
        try:
            version = importlib.metadata.version("jupyter-repo2docker")
        except importlib.metadata.PackageNotFoundError:
            raise AfenvError("E415", "the Python package jupyter-repo2docker is not installed") from None
        if run_command(["docker", "buildx", "version"], {}, lambda line: None) != 0:
            raise AfenvError(
                "E415",
                "repo2docker needs the command docker with its plugin buildx",
                remedy="Install the plugin (the package docker-buildx of Debian and Ubuntu, "
                "docker-buildx-plugin of Docker), or describe the environment with `base`.",
            )
        client = engine()
        name = f"afenv-repo2docker-{uuid.uuid4().hex[:12]}"
        task = {"folder": str(folder), "image": name, "user": USER, "uid": UID} | {
            "platform": str(options["platform"])
        }
        try:
            words = [sys.executable, "-m", "afenv_builders.recipes.repo2docker_child", json.dumps(task)]
            status = run_command(words, {}, say)
            if status != 0:
                raise AfenvError("E416", f"repo2docker ended with status {status}")
            save(client, name, archive)
        finally:
            _forget(client, name)
            client.close()
        return version


def _forget(client: Any, name: str) -> None:
    import docker

    try:
        client.api.remove_image(name, noprune=True)
    except docker.errors.DockerException:
        return  # there is none, or it is in use: it stays under its name
