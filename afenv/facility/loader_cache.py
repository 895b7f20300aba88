"""The libraries that programs of this host find."""

from __future__ import annotations

import subprocess


def loader_cache() -> str:
    """What ``ldconfig -p`` prints: a library a line, with its path; nothing where there is no ldconfig."""
    try:
        return subprocess.run(
            ("/sbin/ldconfig", "-p"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    except OSError:
        return ""
