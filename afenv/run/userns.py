"""Running in a plain user namespace: an unpacked image, an overlay over it, and bubblewrap.

This needs no daemon, no set-user-ID program and no configuration; only a kernel (5.11 or newer) that lets
users make user namespaces, ``unshare`` of util-linux and ``bwrap``. An overlay in memory takes what is
written into the image.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.command_errors import why_not_started
from afenv.run.namespaces import check_user_namespaces
from afenv.run.request import HOME, UMASK, USER, Prepared, RunRequest, all_variables, whole_command
from afenv.run.supervise import supervise
from afenv.store.content import ContentStore

# $1 is the unpacked image, $2 the scratch folder, $3 an option of the overlay, $4 and $5 are user and group;
# the rest is run. The image is bound to a name without colons and commas, which the options of an overlay
# could not hold. The user gets a line in the overlay's /etc/passwd, which must not be a link to elsewhere.
OVERLAY = f"""\
set -e
cd "$2"
mkdir -p tmp var home over
chmod 1777 tmp var
mount -t tmpfs -o mode=755 tmpfs over
mkdir over/image over/upper over/work over/root
chmod 755 over/*
mount --bind "$1" over/image
mount -t overlay -o "$3lowerdir=over/image,upperdir=over/upper,workdir=over/work" overlay over/root
add() {{
    [ -f "$1" ] && [ ! -L "$1" ] && [ ! -L "${{1%/*}}" ] || return 0
    grep -q "^[^:]*:[^:]*:$2:" "$1" && return 0
    if grep -q "^{USER}:" "$1"; then echo "user$3"; else echo "{USER}$3"; fi >>"$1"
}}
add over/root/etc/passwd "$4" ":x:$4:$5::{HOME}:/bin/sh"
add over/root/etc/group "$5" ":x:$5:"
shift 5
exec "$@"
"""

# What Docker leaves to root in a container.
ROOT_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UserNamespace:
    """The two programs, and whether root runs them (then no user namespace is needed)."""

    unshare: str
    bwrap: tuple[str, ...]
    root: bool
    name: Literal["userns"] = "userns"


def find() -> UserNamespace:
    """bubblewrap and unshare, if they are there (E501) and namespaces can be made (E502).

    ``AFENV_BWRAP`` may name the command that starts bubblewrap.
    """
    given = os.environ.get("AFENV_BWRAP")
    bwrap = tuple(shlex.split(given)) if given else tuple(filter(None, [shutil.which("bwrap")]))
    unshare = shutil.which("unshare")
    if not bwrap or not unshare:
        raise AfenvError("E501", f"there is no {'unshare' if bwrap else 'bwrap (bubblewrap)'} on this host")
    found = UserNamespace(unshare=unshare, bwrap=bwrap, root=os.geteuid() == 0)
    check_user_namespaces("userns", _outer(found)[1:-1])
    return found


def prepare(
    runtime: UserNamespace, image: Image, store: ContentStore, request: RunRequest, *, load: bool, quiet: bool
) -> Prepared:
    """The unpacked image, in the cache; made if it is not there."""
    from afenv.run.prepared import root_of

    return Prepared(str(root_of(image, store, quiet=quiet)))


def launch(
    runtime: UserNamespace, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> tuple[str, ...]:
    """The whole command line."""
    return _launch(runtime, image, config, request, scratch, ())


def _launch(
    runtime: UserNamespace,
    image: str,
    config: Mapping[str, Any],
    request: RunRequest,
    scratch: str,
    more: tuple[str, ...],
) -> tuple[str, ...]:
    return (
        *_outer(runtime),
        *("/bin/sh", "-c", OVERLAY, "sh", image, scratch, "" if runtime.root else "userxattr,"),
        *(str(request.uid), str(request.gid)),
        *(*runtime.bwrap, *more, *options(runtime, config, request), "--"),
        *whole_command(config, request),
    )


def _outer(runtime: UserNamespace) -> tuple[str, ...]:
    user = () if runtime.root else ("--user", "--map-root-user")
    return (runtime.unshare, *user, "--mount", "--propagation", "slave", "--")


def options(runtime: UserNamespace, config: Mapping[str, Any], request: RunRequest) -> tuple[str, ...]:
    """The options of bubblewrap; paths of the host that are relative are in the scratch folder."""
    found = ["--bind", "over/root", "/"]
    if runtime.root:
        for name in ROOT_CAPABILITIES:
            found += ["--cap-add", f"CAP_{name}"]
    else:
        found += ["--unshare-user", "--uid", str(request.uid), "--gid", str(request.gid)]
    found += ["--unshare-pid", "--unshare-ipc", "--die-with-parent"]
    if not request.network:
        found.append("--unshare-net")
    found += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/sys", "/sys"]
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        found += ["--ro-bind-try", name, name]
    found += ["--bind", "tmp", "/tmp", "--bind", "var", "/var/tmp", "--bind", "home", HOME]  # noqa: S108
    if request.gpu:
        from afenv.run.gpu import driver_files

        for path, target in driver_files().items():
            found += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, target]
    for mount in request.all_mounts():
        found += ["--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target]
    found += ["--chdir", str(request.workdir), "--clearenv"]
    variables = all_variables(config, request)
    if request.gpu:
        from afenv.run.gpu import LIBRARIES

        before = variables.get("LD_LIBRARY_PATH")
        variables["LD_LIBRARY_PATH"] = f"{before}:{LIBRARIES}" if before else LIBRARIES
    for name, value in sorted(variables.items()):
        found += ["--setenv", name, value]
    return tuple(found)


def run(
    runtime: UserNamespace, image: str, config: Mapping[str, Any], request: RunRequest, scratch: str
) -> int:
    """Run the request and return the command's exit status (128 + n after signal n).

    E502 if no container could be made, E503 and E504 if the command could not be started.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    said = bytearray()

    def send(number: int) -> bool:
        _read(reader, said)
        command = _command_process(said)
        if command is None:
            return False
        with contextlib.suppress(OSError):
            os.kill(command, number)
        return True

    words = _launch(runtime, image, config, request, scratch, ("--json-status-fd", str(writer)))
    try:
        status = supervise(words, send=send, pass_fds=(writer,), umask=UMASK)
        _read(reader, said)
    finally:
        os.close(reader)
        os.close(writer)
    if b'"exit-code"' in said or status >= 128:
        return status
    variables = all_variables(config, request)
    name = whole_command(config, request)[0]
    reason = why_not_started(Path(image), request.all_mounts(), name, variables, request.workdir)
    raise reason or AfenvError("E502", "bubblewrap could not start it; its message is above this one")


def _read(reader: int, said: bytearray) -> None:
    with contextlib.suppress(BlockingIOError):
        while data := os.read(reader, 4096):
            said += data


def _command_process(said: bytearray) -> int | None:
    """The command's process, which is the child of the first process in the namespace."""
    for line in said.splitlines():
        with contextlib.suppress(ValueError, OSError, KeyError, IndexError):
            first = int(json.loads(line)["child-pid"])
            children = Path(f"/proc/{first}/task/{first}/children").read_text()
            return int(children.split()[0])
    return None
