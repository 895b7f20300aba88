"""Running with Docker or Podman: the engine's command line, and what its end means."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.command_errors import SHELL_CHECK, no_command, not_executable
from afenv.run.engines import Engine
from afenv.run.request import HOME, USER, Mount, Prepared, RunRequest, check_utf8, csv_line, entrypoint
from afenv.run.supervise import supervise
from afenv.store.content import ContentStore

EVENT_PAUSE = 0.2  # seconds
SELINUX = Path("/sys/fs/selinux/enforce")
PODMAN_INITS = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit")
GPUS = {"docker": ("--gpus", "all"), "podman": ("--device", "nvidia.com/gpu=all")}


def prepare(
    engine: Engine, image: Image, store: ContentStore, request: RunRequest, *, load: bool, quiet: bool
) -> Prepared:
    """Load the image into the engine if it is not there; the digest by which the engine knows it.

    Docker's user gets a line in the image's ``/etc/passwd``; root has one, and Podman adds it itself.
    """
    if not load:
        return Prepared(image.manifest_digest if engine.containerd else image.image_id)
    from afenv.run.load import load_from_store

    loaded = load_from_store(engine, image, store, quiet=quiet)
    if engine.name == "podman" or engine.rootless or request.uid == 0:
        return Prepared(loaded)
    from afenv.run.accounts import account_mounts

    return Prepared(loaded, account_mounts(engine, image, hex_of(loaded), store, request.uid, request.gid))


def launch(
    engine: Engine, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> tuple[str, ...]:
    """The engine's whole command line; the engine itself reads ``config``, and needs no ``scratch``."""
    check_utf8(engine.name, request)
    words = (*engine.command, "run", *options(engine, request))
    if request.entrypoint:
        return (*words, hex_of(image), *request.command)
    kept = entrypoint(config, request)
    return (*words, "--entrypoint", kept[0] if kept else "", hex_of(image), *request.command)


def options(engine: Engine, request: RunRequest) -> tuple[str, ...]:
    """The options of the engine's ``run``."""
    found = ["--rm", "--interactive", "--log-driver", "none"]
    if request.interactive:
        found.append("--tty")
    found += _identity(engine, request)
    found += _init(engine)
    if SELINUX.exists():
        found += ["--security-opt", "label=disable"]
    if request.network:
        found += ["--network", "host"]
    else:
        found += ["--network", "none", "--hostname", request.hostname]
    if engine.name == "podman":
        found.append("--http-proxy=false")  # the host's settings of proxies would come along
    if request.cpus:
        found += ["--cpus", str(request.cpus)]
    if request.memory:
        found += ["--memory", str(request.memory)]
    if request.gpu:
        found += GPUS[engine.name]
    found += ["--tmpfs", f"{HOME}:rw,exec,mode=1777"]
    for mount in request.all_mounts():
        found += ["--mount", _mount(mount)]
    found += ["--workdir", str(request.workdir)]
    for name, value in sorted(request.added_variables().items()):
        found += ["--env", f"{name}={value}"]
    return tuple(found)


def _mount(mount: Mount) -> str:
    parts = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    if mount.read_only:
        parts.append("readonly=true")
    if mount.follow:
        parts.append("bind-propagation=rslave")
    return csv_line(parts)


def _identity(engine: Engine, request: RunRequest) -> list[str]:
    """Options under which files that the container writes belong to the calling user."""
    own = f"{request.uid}:{request.gid}"
    if engine.name == "podman":
        found = ["--userns", "keep-id", "--user", own] if engine.rootless else ["--user", own, *_limits()]
        if ":" in str(request.workdir):  # it would make this the user's home, and the line would not be read
            found += ["--passwd-entry", f"{USER}:*:{own}::{HOME}:/bin/sh"]
        return found
    if engine.rootless:
        return ["--user", "0:0"]
    others = [word for group in request.groups for word in ("--group-add", str(group))]
    return ["--user", own, *others]


def _limits() -> list[str]:
    """Podman's default limits, within those of this process.

    As root Podman asks for more than this process has; in a container without the right to raise limits
    nothing would start.
    """
    import resource

    found = []
    for name, number, default in (
        ("nofile", resource.RLIMIT_NOFILE, 1 << 20),
        ("nproc", resource.RLIMIT_NPROC, 1 << 15),
    ):
        _, hard = resource.getrlimit(number)
        value = default if hard == resource.RLIM_INFINITY else min(hard, default)
        found += ["--ulimit", f"{name}={value}:{value}"]
    return found


def _init(engine: Engine) -> list[str]:
    """Options for a small process 1, if there is one; without it SIGTERM does not end every command."""
    if engine.name == "docker":
        return ["--init"] if shutil.which("docker-init") else []
    if any(Path(path).exists() for path in PODMAN_INITS):
        return ["--init"]
    tini = shutil.which("tini-static")  # it runs in any image
    return ["--init", "--init-path", tini] if tini else []


def run(engine: Engine, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str) -> int:
    """Run the request and return the command's exit status (128 + n after signal n).

    E502 if the engine could not start a container, E503 and E504 if it could not start the command; the
    engine's own words are on standard error by then.
    """
    identity = Path(scratch) / "container"
    words = launch(engine, image, config, request, scratch)
    at = len(engine.command) + 1
    status = supervise(
        (*words[:at], "--cidfile", str(identity), *words[at:]),
        kill=lambda: _signal(engine, identity, signal.SIGKILL),
        # Podman without root passes a signal on, and then ends with a status that is not the command's
        send=partial(_signal, engine, identity) if engine.name == "podman" and engine.rootless else None,
    )
    if status not in (125, 126, 127):
        return status
    if not _was_started(engine, identity):
        name = request.command[0] if request.command else "the image's own"
        if status == 127:
            raise no_command(name)
        if status == 126:
            raise not_executable(name)
        raise AfenvError("E502", f"{engine.name} could not start a container; its message is above this one")
    if status != 125 and request.command and _init(engine):
        _explain(engine, image, config, request, scratch)
    return status


def _explain(
    engine: Engine, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> None:
    """Raise if it was process 1 that did not find the command: ask the image's shell for the command.

    The engine started that process, so it has nothing to say itself.
    """
    name = request.command[0]
    asking = replace(request, command=("/bin/sh", "-c", SHELL_CHECK, "sh", name), interactive=False)
    check = subprocess.run(
        launch(engine, image, config, asking, scratch),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if check.returncode == 127:
        raise no_command(name)
    if check.returncode == 126:
        raise not_executable(name)


def _container(identity: Path) -> str | None:
    try:
        return identity.read_text().strip() or None
    except OSError:
        return None


def _signal(engine: Engine, identity: Path, number: int) -> bool:
    """Send a signal to the command; whether that was possible."""
    container = _container(identity)
    if container is None:
        return False
    return engine.call("kill", "--signal", str(int(number)), container).returncode == 0


def _was_started(engine: Engine, identity: Path) -> bool:
    """Whether the container ran, so that the exit status is the command's own and not the engine's."""
    container = _container(identity)
    if container is None:
        return False
    for _ in range(3):  # an engine under load may write its events down a little later
        events = engine.call(
            *("events", "--since", "24h", "--until", str(int(time.time()) + 1)),
            *("--filter", f"container={container}", "--filter", "event=start", "--format", "{{.ID}}"),
        )
        if container[:12] in events.stdout:
            return True
        time.sleep(EVENT_PAUSE)
    return False
