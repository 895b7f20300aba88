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

PR_SET_KEEPCAPS = 8
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


def main(asked: dict[str, Any]) -> int:
    """Run the request and return the command's exit status."""
    from afenv.errors import AfenvError
    from afenv.oci.read import open_image
    from afenv.run.container import plan_request, request_of, run_image
    from afenv.run.request import Mount
    from afenv.store.content import ContentStore

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
    try:
        plan = plan_request(image, store, request, runtime=asked["runtime"], quiet=True)
        return 0 if asked["prepare"] else run_image(plan)
    except AfenvError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
