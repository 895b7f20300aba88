"""Credentials: from the environment, and those that other tools have saved.

The environment is for CI: ``AFENV_REGISTRY_USER`` and ``AFENV_REGISTRY_PASSWORD`` (or, for a token that is
sent as it is, ``AFENV_REGISTRY_TOKEN``), for the registry that ``AFENV_REGISTRY_HOST`` names; or the same
with the registry in the name, such as ``AFENV_REGISTRY_USER_GHCR_IO``.

Files: Docker's and ORAS's ``config.json``, Podman's and skopeo's ``auth.json``, Apptainer's
``docker-config.json``. The formats are those of docker's config file and of containers-auth.json(5). The
first that knows the registry decides.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.record import record

HUB = "https://index.docker.io/v1/"
HELPER_PATIENCE = 30.0  # seconds


@record
class Credentials:
    """A user name and password, or a token: one that is exchanged for others, or one that is used itself."""

    user: str = ""
    password: str = ""
    identity_token: str = ""
    token: str = ""

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header."""
        return "Basic " + base64.b64encode(as_sent(f"{self.user}:{self.password}")).decode("ascii")


def as_sent(secret: str) -> bytes:
    """The bytes of a password or token, which need not be text in UTF-8; E601 for what is no text at all."""
    try:
        return secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise AfenvError("E601", "the saved user name, password or token is not text") from None


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
    apptainer = environment.get("APPTAINER_CONFIGDIR") or "~/.apptainer"
    yield Path(apptainer).expanduser() / "docker-config.json"


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

    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        return None
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
    except (OSError, ValueError, RecursionError, subprocess.TimeoutExpired):
        return None
    if not isinstance(found, dict):
        return None
    user, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if not secret:
        return None
    return (
        Credentials(identity_token=secret) if user == "<token>" else Credentials(user=user, password=secret)
    )


def _from_environment(host: str) -> Credentials | None:
    environment = os.environ
    suffix = "_" + re.sub(r"[^A-Z0-9]", "_", host.upper())
    suffixes = [suffix, ""] if environment.get("AFENV_REGISTRY_HOST") == host else [suffix]
    for suffix in suffixes:
        if token := environment.get(f"AFENV_REGISTRY_TOKEN{suffix}"):
            return Credentials(token=token)
        if user := environment.get(f"AFENV_REGISTRY_USER{suffix}"):
            return Credentials(user=user, password=environment.get(f"AFENV_REGISTRY_PASSWORD{suffix}", ""))
    return None


def find_credentials(host: str, repository: str) -> Credentials | None:
    """The credentials for a repository; None if there are none. E601 for a damaged file."""
    if found := _from_environment(host):
        return found
    keys = _keys(host, repository)
    for file in credential_files():
        try:
            document = json.loads(file.read_bytes())
        except OSError:
            continue
        except (ValueError, RecursionError) as error:
            raise AfenvError(
                "E601", f"this file of credentials is damaged: {error}", place=str(file)
            ) from None
        if isinstance(document, dict) and (found := _from_document(document, file, keys)):
            return found
    return None


def _from_document(document: dict[str, Any], file: Path, keys: list[str]) -> Credentials | None:
    entries = _mapping(document.get("auths"))
    helpers = _mapping(document.get("credHelpers"))
    store = document.get("credsStore")
    for key in keys:
        helper = helpers.get(key) or (store if key in entries else None)
        found = _from_helper(str(helper), key) if helper else None
        found = found or _from_entry(entries.get(key), file, key)
        if found:
            return found
    if store and not any(key in entries for key in keys):  # it may know what the file does not list
        return _from_helper(str(store), HUB if HUB in keys else next(key for key in keys if "/" not in key))
    return None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
