"""What is asked of a runtime, whichever it is: values and pure functions.

Every runtime gives a command the same surroundings, so what may differ between them is kept out of here:

- the host's folder is there at the same path and is the working directory; it is writable;
- the command runs as the calling user and group, so what it writes belongs to that user;
- of the host's environment nothing comes along; the image's variables hold, then :data:`HOME`, the user's
  name and ``LANG``, then those that the caller adds;
- ``HOME``, ``/tmp`` and ``/var/tmp`` are empty, writable, and gone afterwards, as is whatever else is
  written into the image; the umask is 022;
- the network and the name of the host are those of the host, unless there is to be no network;
- the process is alone in its process namespace: nothing that it started survives it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError

HOME = "/run/home"
USER = "analyst"
UMASK = 0o022
ACTIVATION = "/bin/afenv-activate"  # what afenv.layers.conda_activation calls WRAPPER
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host that the container sees at ``target``.

    ``follow`` lets file systems that the host mounts below the source later on appear there too.
    """

    source: Path
    target: str
    read_only: bool = False
    follow: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """What is to run, and in which surroundings.

    ``command`` empty means the image's own. Without ``entrypoint`` only that part of the image's entry point
    is kept which activates the environment. ``workdir`` is absolute. ``uid`` and ``gid`` are those of the
    calling user, ``groups`` the other groups of that user, ``hostname`` the name of the host. ``cpus`` and
    ``memory`` (bytes) are limits, which engines alone keep; 0 sets none. ``term`` is the terminal's kind
    where one is asked for.
    """

    command: tuple[str, ...]
    workdir: Path
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    hostname: str = "localhost"
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    interactive: bool = False
    term: str = ""
    gpu: bool = False
    network: bool = True
    entrypoint: bool = True
    cpus: int = 0
    memory: int = 0

    def all_mounts(self) -> tuple[Mount, ...]:
        """The working directory and the mounts asked for, outer ones before those inside them."""
        here = str(self.workdir)
        given = any(mount.target == here for mount in self.mounts)
        mounts = self.mounts if given else (Mount(self.workdir, here), *self.mounts)
        return tuple(sorted(mounts, key=lambda mount: mount.target.rstrip("/").count("/")))

    def added_variables(self) -> dict[str, str]:
        """The variables that come on top of the image's."""
        term = {"TERM": self.term} if self.interactive and self.term else {}
        return {"HOME": HOME, "USER": USER, "LOGNAME": USER, **term, **self.env}


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as the runtime knows it, by name or path, and mounts that go with it."""

    image: str
    mounts: tuple[Mount, ...] = ()


def image_variables(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables of an image's configuration (OCI image-spec, config.md: ``config.Env``)."""
    pairs = (entry.partition("=") for entry in config.get("Env") or ())
    return {name: value for name, equals, value in pairs if equals and name}


def all_variables(config: Mapping[str, Any], request: RunRequest) -> dict[str, str]:
    """Every variable of the command, for runtimes that do not read the image's configuration."""
    return image_variables(config) | request.added_variables()


def entrypoint(config: Mapping[str, Any], request: RunRequest) -> tuple[str, ...]:
    """The words that stand before the command."""
    found = tuple(config.get("Entrypoint") or ())
    if request.entrypoint:
        return found
    return found[:1] if activates(config) else ()


def activates(config: Mapping[str, Any]) -> bool:
    """Whether the image's entry point begins with what activates a conda environment."""
    found = config.get("Entrypoint") or ("",)
    return str(found[0]).endswith(ACTIVATION)


def check_utf8(runtime: str, request: RunRequest) -> None:
    """E030 for what a runtime that keeps its requests as JSON would change: text that is not UTF-8."""
    paths = [path for mount in request.all_mounts() for path in (str(mount.source), mount.target)]
    for text in (*request.command, *request.env.values(), *paths):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise AfenvError(
                "E030",
                f"{runtime} cannot pass {text!r} on, which is not UTF-8",
                remedy="Rename it, or use --runtime userns.",
            ) from None


def whole_command(config: Mapping[str, Any], request: RunRequest) -> tuple[str, ...]:
    """Entry point and command, as engines put them together; E030 if there is nothing to run."""
    found = (*entrypoint(config, request), *(request.command or config.get("Cmd") or ()))
    if not found:
        raise AfenvError("E030", "the image has no command of its own; give one after --")
    return found


def csv_line(fields: Sequence[str]) -> str:
    """Fields as one line of CSV, which is how engines and Apptainer read ``--mount``."""
    return ",".join(
        '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text for text in fields
    )


def parse_bind(text: str) -> Mount:
    """``SRC[:DST[:ro|rw]]`` of ``--bind``; a backslash before a colon keeps it in a path.

    The source is made absolute and must exist (E001); a target must be absolute and not ``/`` (E030).
    """
    parts = [part.replace("\\:", ":") for part in re.split(r"(?<!\\):", text)]
    if len(parts) > 3 or not parts[0] or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise AfenvError("E030", f"{text!r} is not SRC[:DST[:ro]]", place="--bind")
    source = Path(parts[0]).expanduser().absolute()
    if not source.exists():
        raise AfenvError("E001", "there is no such file or folder to bind", place=str(source))
    target = parts[1] if len(parts) > 1 and parts[1] else str(source)
    target = "/" + target.strip("/") if target.startswith("/") else target
    if not target.startswith("/") or target == "/" or ".." in target.split("/"):
        raise AfenvError("E030", f"{target!r} is not an absolute path below / in the image", place="--bind")
    return Mount(source, target, read_only=parts[-1] == "ro" and len(parts) == 3)


def parse_variable(text: str, host: Mapping[str, str]) -> tuple[str, str]:
    """``NAME=VALUE`` of ``--env``; ``NAME`` alone takes the value that it has in ``host``. E030."""
    name, equals, value = text.partition("=")
    if not _NAME.match(name):
        raise AfenvError("E030", f"{name!r} is not the name of a variable", place="--env")
    if equals:
        return name, value
    if name not in host:
        raise AfenvError("E030", f"{name} has no value here; write {name}=VALUE", place="--env")
    return name, host[name]
