"""Running a command in an image, as a person at the host expects it.

The host's folder is there at the same path and is the working directory; the command runs as the
calling user, so what it writes belongs to that user; standard streams, signals and the exit status pass
through.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.engines import Engine, find_runtime
from afenv.run.load import load_from_store
from afenv.run.supervise import supervise
from afenv.store.content import ContentStore

HOME = "/run/home"
EVENT_PAUSE = 0.2  # seconds
SELINUX = Path("/sys/fs/selinux/enforce")
PODMAN_INITS = ("/usr/libexec/podman/catatonit", "/usr/lib/podman/catatonit", "/usr/bin/catatonit")

__all__ = ["Mount", "RunPlan", "find_runtime", "plan_run", "run_image"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host that the container sees at ``target``."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What will be run: the engine, its options, the image and the command (empty: the image's own).

    ``image_id`` is the digest by which the engine knows the image.
    """

    engine: Engine
    image_id: str
    options: tuple[str, ...]
    command: tuple[str, ...]

    @property
    def command_line(self) -> tuple[str, ...]:
        """The engine's whole command line."""
        return (*self.engine.command, "run", *self.options, hex_of(self.image_id), *self.command)


def plan_run(
    image: Image,
    store: ContentStore,
    command: Sequence[str],
    *,
    workdir: Path,
    runtime: str | None = None,
    interactive: bool = False,
    mounts: Sequence[Mount] = (),
    env: Mapping[str, str] | None = None,
    load: bool = True,
    quiet: bool = False,
) -> RunPlan:
    """Choose an engine, load the image into it if it is not there, and say what will be run.

    ``interactive`` asks for a terminal. Without ``load`` nothing is changed, which is for showing the
    command line. Errors: those of :func:`~afenv.run.engines.find_runtime`, E502 if the image cannot be
    loaded, E001 and E030 for a working directory that cannot be used.
    """
    folder = workdir.absolute()
    if not folder.is_dir():
        raise AfenvError("E001", "there is no such folder", place=str(folder))
    if folder.parent == folder:
        raise AfenvError("E030", "the root folder cannot be the working directory; change into another one")
    engine = find_runtime(runtime)
    loaded = load_from_store(engine, image, store, quiet=quiet) if load else image.image_id
    return RunPlan(
        engine=engine,
        image_id=loaded,
        options=tuple(_options(engine, folder, interactive, mounts, env or {})),
        command=tuple(command),
    )


def _mount(mount: Mount) -> str:
    parts = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    if mount.read_only:
        parts.append("readonly=true")
    # both engines read this option as one line of CSV
    return ",".join(
        '"' + part.replace('"', '""') + '"' if any(c in part for c in ',"\n') else part for part in parts
    )


def _options(
    engine: Engine, folder: Path, interactive: bool, mounts: Sequence[Mount], env: Mapping[str, str]
) -> list[str]:
    options = ["--rm", "--interactive"]
    if interactive:
        options.append("--tty")
    options += _identity(engine)
    options += _init(engine)
    if SELINUX.exists():
        options += ["--security-opt", "label=disable"]
    options += ["--tmpfs", f"{HOME}:rw,exec,mode=1777"]
    for mount in (Mount(folder, str(folder)), *mounts):
        options += ["--mount", _mount(mount)]
    options += ["--workdir", str(folder)]
    variables = {"HOME": HOME, "USER": "analyst", "LOGNAME": "analyst"}
    if interactive and os.environ.get("TERM"):
        variables["TERM"] = os.environ["TERM"]
    for name, value in sorted((variables | dict(env)).items()):
        options += ["--env", f"{name}={value}"]
    return options


def _identity(engine: Engine) -> list[str]:
    """Options under which files that the container writes belong to the calling user."""
    own = f"{os.getuid()}:{os.getgid()}"
    if engine.name == "podman":
        return ["--userns", "keep-id", "--user", own] if engine.rootless else ["--user", own, *_limits()]
    return ["--user", "0:0" if engine.rootless else own]


def _limits() -> list[str]:
    """Podman's default limits, within those of this process.

    As root Podman asks for more than this process has; in a container without the right to raise limits
    nothing would start.
    """
    import resource

    options = []
    for name, number, default in (
        ("nofile", resource.RLIMIT_NOFILE, 1 << 20),
        ("nproc", resource.RLIMIT_NPROC, 1 << 15),
    ):
        _, hard = resource.getrlimit(number)
        value = default if hard == resource.RLIM_INFINITY else min(hard, default)
        options += ["--ulimit", f"{name}={value}:{value}"]
    return options


def _init(engine: Engine) -> list[str]:
    """Options for a small process 1, if there is one; without it SIGTERM does not end every command."""
    if engine.name == "docker":
        return ["--init"] if shutil.which("docker-init") else []
    if any(Path(path).exists() for path in PODMAN_INITS):
        return ["--init"]
    tini = shutil.which("tini-static")  # it runs in any image
    return ["--init", "--init-path", tini] if tini else []


def run_image(plan: RunPlan) -> int:
    """Run the plan and return the command's exit status (128 + n after signal n).

    E502 if the engine could not start a container; its own words are on standard error by then.
    """
    with tempfile.TemporaryDirectory(prefix="afenv-run-") as folder:
        identity = Path(folder) / "container"
        command = plan.command_line
        at = len(plan.engine.command) + 1
        status = supervise(
            (*command[:at], "--cidfile", str(identity), *command[at:]),
            kill=lambda: _kill(plan.engine, identity),
        )
        if status == 125 and not _was_started(plan.engine, identity):
            raise AfenvError(
                "E502", f"{plan.engine.name} could not start a container; its message is above this one"
            )
        return status


def _container(identity: Path) -> str | None:
    try:
        return identity.read_text().strip() or None
    except OSError:
        return None


def _kill(engine: Engine, identity: Path) -> None:
    container = _container(identity)
    if container:
        engine.call("kill", container)


def _was_started(engine: Engine, identity: Path) -> bool:
    """Whether the container ran, so that 125 is the command's own exit status and not the engine's."""
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
