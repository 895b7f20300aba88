"""Credentials that other tools have saved: Docker's ``config.json``, Podman's and skopeo's ``auth.json``.

The formats are those of docker's config file and of containers-auth.json(5). The first file that knows
the registry decides.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError

HUB = "https://index.docker.io/v1/"
HELPER_PATIENCE = 30.0  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """A user name and password, or a token: one that is exchanged for others, or one that is used itself."""

    user: str = ""
    password: str = ""
    identity_token: str = ""
    token: str = ""

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


def credential_files() -> Iterator[Path]:
    """The files that may hold credentials, in the order in which they are asked."""
    environment = os.environ
    if environment.get("REGISTRY_AUTH_FILE"):
        yield Path(environment["REGISTRY_AUTH_FILE"])
    if environment.get("XDG_RUNTIME_DIR"):
        yield Path(environment["XDG_RUNTIME_DIR"]) / "containers" / "auth.json"
    configuration = environment.get("XDG_CONFIG_HOME") or "~/.config"
    yield Path(configuration).expanduser() / "containers" / "auth.json"
    docker = environment.get("DOCKER_CONFIG") or "~/.docker"
    yield Path(docker).expanduser() / "config.json"


def _keys(host: str, repository: str) -> list[str]:
    """The keys under which credentials may stand, the most particular first."""
    parts = repository.split("/")
    namespaced = [f"{host}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]
    keys = [*namespaced, host, f"https://{host}", f"https://{host}/", f"http://{host}"]
    if host in ("docker.io", "registry-1.docker.io", "index.docker.io"):
        keys += [HUB, "docker.io", "index.docker.io"]
    return keys


def _from_entry(entry: Any, file: Path, key: str) -> Credentials | None:
    if not isinstance(entry, dict):
        return None
    if entry.get("identitytoken"):
        return Credentials(identity_token=str(entry["identitytoken"]))
    if entry.get("username"):
        return Credentials(user=str(entry["username"]), password=str(entry.get("password", "")))
    if not entry.get("auth"):
        return None
    try:
        user, _, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise AfenvError("E601", f"the entry for {key} is not base64", place=str(file)) from None
    return Credentials(user=user, password=password.rstrip("\0"))


def _from_helper(helper: str, key: str) -> Credentials | None:
    import subprocess

    try:
        result = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=key,
            capture_output=True,
            text=True,
            check=False,
            timeout=HELPER_PATIENCE,
        )
        found = json.loads(result.stdout) if result.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    user, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if not secret:
        return None
    return (
        Credentials(identity_token=secret) if user == "<token>" else Credentials(user=user, password=secret)
    )


def find_credentials(host: str, repository: str) -> Credentials | None:
    """The saved credentials for a repository; None if there are none. E601 for a damaged file."""
    keys = _keys(host, repository)
    for file in credential_files():
        try:
            document = json.loads(file.read_bytes())
        except OSError:
            continue
        except ValueError as error:
            raise AfenvError(
                "E601", f"this file of credentials is damaged: {error}", place=str(file)
            ) from None
        if not isinstance(document, dict):
            continue
        entries = document.get("auths") or {}
        helpers = document.get("credHelpers") or {}
        for key in keys:
            helper = helpers.get(key) or (document.get("credsStore") if key in entries else None)
            found = _from_helper(str(helper), key) if helper else None
            found = found or _from_entry(entries.get(key), file, key)
            if found:
                return found
    return None
