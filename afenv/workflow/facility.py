"""What this machine offers, as a facility's profile: what is asked of its runtimes, files and registries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from afenv.documents.facility import FacilityProfile, FacilityRuntime, Place, Registry
from afenv.errors import AfenvError
from afenv.facility.host import (
    ARCHITECTURES,
    free_space,
    host_glibc,
    read_cpu,
    read_cvmfs,
    read_kernel,
)
from afenv.facility.host_gpu import read_gpus
from afenv.facility.labels import Imported, profile_of_nodes
from afenv.settings import Settings

PATIENCE = 20.0  # seconds for a program that is asked for its version
REGISTRY_PATIENCE = 5.0  # seconds for a registry to answer
_VERSION = re.compile(r"(\d+(?:\.\d+)+)")
_NODES = "Give what `kubectl get nodes -o json` prints, or a mapping of labels."


def probe(settings: Settings, *, name: str | None = None, registries: Sequence[str] = ()) -> FacilityProfile:
    """The profile of this machine; ``registries`` are asked besides those that are configured.

    Nothing is asked of the network with ``settings.offline``.
    """
    uname = os.uname()
    gpus = read_gpus()
    namespaces = user_namespaces()
    with ThreadPoolExecutor(8) as pool:
        hosts = [] if settings.offline else sorted({*configured_registries(settings), *registries})
        answers = pool.map(reachable, hosts)
        runtimes = [one for one in pool.map(lambda name: probe_runtime(name, bool(gpus)), NAMES) if one]
        found = tuple(
            Registry(host=host, reachable=answer) for host, answer in zip(hosts, answers, strict=True)
        )
    return FacilityProfile(
        name=name or uname.nodename or "this machine",
        probed=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        architecture=ARCHITECTURES.get(uname.machine),
        cpu=read_cpu(_text("/proc/cpuinfo"), len(os.sched_getaffinity(0))),
        kernel=read_kernel(),
        glibc=host_glibc(),
        user_namespaces=namespaces,
        runtimes=tuple(runtimes),
        cvmfs=read_cvmfs(_text("/proc/mounts")),
        gpus=gpus,
        registries=found or None,
        storage=_places(settings) or None,
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def user_namespaces() -> bool | None:
    """Whether this user can make user namespaces; None if nothing can be tried."""
    import shutil

    from afenv.run.namespaces import check_user_namespaces

    if shutil.which("unshare") is None:
        return None
    try:
        check_user_namespaces("a user namespace", ("--user",))
    except AfenvError:
        return False
    return True


NAMES = ("docker", "podman", "apptainer", "userns")


def probe_runtime(name: str, gpus: bool) -> FacilityRuntime | None:
    """A runtime of this machine that works, with its version; None if there is none of that name."""
    from afenv.run.choose import Host

    runtime: Any = Host()[name]
    if isinstance(runtime, AfenvError):
        return None
    if name == "userns":
        return FacilityRuntime(
            name=name,
            version=_version((*runtime.bwrap, "--version")),
            rootless=not runtime.root,
            gpu=gpus or None,
        )
    if name == "docker":
        number = _version((*runtime.command, "version", "--format", "{{.Server.Version}}"))
    else:
        number = _version((*runtime.command, "--version"))
    own = Path(runtime.command[0]).name
    return FacilityRuntime(
        name="singularity" if own == "singularity" else name,
        version=number,
        rootless=_is_rootless(name, runtime),
        gpu=_shows_gpus(name, runtime.command) if gpus else None,
    )


def _is_rootless(name: str, runtime: Any) -> bool:
    """Whether the runtime needs user namespaces: Apptainer does unless it has root's rights, or is root's."""
    if name == "apptainer":
        from afenv.run.namespaces import is_set_user_id

        return os.geteuid() != 0 and not is_set_user_id()
    return bool(runtime.rootless)


def _shows_gpus(name: str, command: Sequence[str]) -> bool | None:
    """Whether the runtime is set up for GPUs: Docker has NVIDIA's runtime, Podman its CDI files."""
    if name == "docker":
        said = _said((*command, "info", "--format", "{{json .Runtimes}}"))
        return "nvidia" in said if said else None
    if name == "podman":
        places = (Path("/etc/cdi"), Path("/var/run/cdi"))
        return any(list(place.glob("nvidia*")) for place in places if place.is_dir())
    return True if name == "apptainer" else None  # --nv needs the driver only


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _version(command: Sequence[str]) -> str | None:
    match = _VERSION.search(_said(command))
    return match[1] if match else None


def configured_registries(settings: Settings) -> Iterable[str]:
    """The registries that this user's settings name: mirrors, AFENV_PLAIN_HTTP, Docker's credentials."""
    for _, target in settings.mirrors:
        if target.startswith("oci://"):
            yield target.removeprefix("oci://").split("/")[0]
    yield from os.environ.get("AFENV_PLAIN_HTTP", "").split()
    if os.environ.get("AFENV_REGISTRY_HOST"):
        yield os.environ["AFENV_REGISTRY_HOST"]
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path("~/.docker").expanduser())
    try:
        auths = json.loads((folder / "config.json").read_bytes()).get("auths") or {}
    except (OSError, ValueError, AttributeError):
        return
    for entry in auths:
        host = str(entry).removeprefix("https://").removeprefix("http://").split("/")[0]
        yield "docker.io" if host == "index.docker.io" else host


def reachable(host: str) -> bool:
    """Whether a registry answers at all; that it asks for credentials is an answer."""
    import requests

    address = "registry-1.docker.io" if host == "docker.io" else host
    plain = host in os.environ.get("AFENV_PLAIN_HTTP", "").split() or host.split(":")[0] in (
        "localhost",
        "127.0.0.1",
    )
    try:
        answer = requests.get(
            f"{'http' if plain else 'https'}://{address}/v2/",
            timeout=REGISTRY_PATIENCE,
            allow_redirects=False,
            verify=os.environ.get("AFENV_CA_BUNDLE") or True,
        )
    except (requests.RequestException, ValueError):
        return False
    return answer.status_code in (200, 401, 403)


def _places(settings: Settings) -> tuple[Place, ...]:
    import tempfile

    scratch = Path(os.environ.get("TMPDIR") or tempfile.gettempdir()).absolute()
    found = (free_space(settings.cache_folder, "images"), free_space(scratch, "scratch"))
    return tuple(place for place in found if place)


def read_nodes(data: bytes, place: str) -> list[dict[str, Any]]:
    """The nodes in YAML or JSON: a list of nodes as ``kubectl get nodes -o json`` prints it, one, or labels.

    E002 if it is neither, E011 if it is something else.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        value = json.loads(data)
    except ValueError:
        try:
            value = YAML(typ="safe", pure=True).load(data)
        except (YAMLError, ValueError, RecursionError) as error:
            line = str(error).splitlines()[0]
            raise AfenvError("E002", f"neither JSON nor YAML: {line}", place=place) from None
    if isinstance(value, dict) and isinstance(value.get("items"), list):
        value = value["items"]
    nodes = value if isinstance(value, list) else [value]
    if not nodes or not all(isinstance(node, dict) and node for node in nodes):
        raise AfenvError("E011", "expected nodes or labels", place=place, remedy=_NODES)
    return nodes


def import_labels(path: Path, name: str | None = None) -> Imported:
    """The profile of the Kubernetes nodes in a file (``-`` is standard input); E001, E002, E011."""
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    name = name or (path.stem if str(path) != "-" else "") or "kubernetes"
    found = profile_of_nodes(name, read_nodes(data, str(path)))
    if found == Imported(profile=FacilityProfile(name=name)):
        raise AfenvError("E011", "no label in it says anything of a machine", place=str(path), remedy=_NODES)
    return found
