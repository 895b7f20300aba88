"""Whether user namespaces can be made here, and whether Apptainer can do without."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from afenv.errors import AfenvError
from afenv.run import remedies

_SET_USER_ID = (
    *("/usr/libexec/apptainer/bin/starter-suid", "/usr/lib/x86_64-linux-gnu/apptainer/bin/starter-suid"),
    *("/usr/libexec/singularity/bin/starter-suid", "/usr/lib/x86_64-linux-gnu/singularity/bin/starter-suid"),
)


def check_user_namespaces(name: str, options: Sequence[str]) -> None:
    """E502 if ``unshare`` with these options fails: ``name`` cannot work then."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return
    tried = subprocess.run(
        (unshare, *options, "--", "true"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        reason, remedy = remedies.why_no_user_namespaces(tried.stderr.strip())
        raise AfenvError("E502", f"{name} does not work: {reason}", remedy=remedy)


def is_set_user_id(paths: Sequence[str] = _SET_USER_ID) -> bool:
    """Whether there is an Apptainer that gets root's rights by its owner and mode."""
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            continue
        if status.st_uid == 0 and status.st_mode & 0o4000:
            return True
    return False
