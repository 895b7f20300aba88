"""Run one request as another user: a program that the test of all runtimes starts.

Its argument is JSON. It becomes the user that this names and then does what ``afenv run`` does. Of root's
rights it keeps the one to read files, for itself alone, since its own modules may lie where only root looks.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
CLONE_NEWNS = 0x20000
CLONE_NEWUSER = 0x10000000
MS_BIND = 0x1000
MS_REC_PRIVATE = 0x44000
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_READ_SEARCH = 2


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Change users for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_READ_SEARCH
    sets = (ctypes.c_uint32 * 6)(bit, bit, 0, 0, 0, 0)  # effective, permitted, inheritable; twice
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _check(status: int, what: str) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), what)


def forbid_fuse(folder: Path) -> None:
    """As root: give this process and its children a /dev/fuse that is not for ordinary users."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _check(libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "mount")
    device = folder / "fuse"
    device.unlink(missing_ok=True)
    os.mknod(device, 0o020600, os.makedev(10, 229))
    _check(libc.mount(os.fsencode(device), b"/dev/fuse", None, MS_BIND, None), "mount")


def forbid_namespaces() -> None:
    """As an ordinary user: go into a user namespace in which no other can be made."""
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    _check(libc.unshare(CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def main(asked: dict[str, Any]) -> int:
    """Run the request and return the command's exit status."""
    from afenv.errors import AfenvError, catalogue
    from afenv.oci.read import open_image
    from afenv.run.container import plan_request, request_of, run_image
    from afenv.run.request import Mount
    from afenv.run.supervise import supervise
    from afenv.store.content import ContentStore

    if asked["host"] == "no fuse":
        forbid_fuse(Path(asked["store"]).parent)
    if asked["uid"] != os.getuid():
        become(asked["uid"], asked["gid"], asked["groups"])
    os.umask(0o077)  # which must not be seen inside
    with open_image(Path(asked["layout"])) as opened:
        image = opened.image
    request = request_of(
        [os.fsdecode(bytes.fromhex(word)) for word in asked["command"]],
        workdir=Path.cwd(),
        interactive=os.isatty(0),
        env=asked["env"],
        mounts=[Mount(Path(source), target, read_only) for source, target, read_only in asked["mounts"]],
        network=asked["network"],
        entrypoint=asked["entrypoint"],
    )
    store = ContentStore(Path(asked["store"]))
    if asked["host"] == "no namespaces":
        import afenv.oci.unpack
        import afenv.run.apptainer
        import afenv.run.namespaces
        import afenv.run.prepared
        import afenv.run.userns
        import afenv.store.trees  # noqa: F401 - the right to read files is lost now

        catalogue()
        forbid_namespaces()
    if asked["grace"]:
        supervise.__kwdefaults__["grace"] = asked["grace"]
    try:
        plan = plan_request(image, store, request, runtime=asked["runtime"], quiet=True)
        return 0 if asked["prepare"] else run_image(plan)
    except AfenvError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
