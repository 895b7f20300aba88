"""What a system without an operating system needs beside its C library, for conda packages to run.

A shell at ``/bin/sh`` and the certificates are conda's, found by the names of its packages; where conda has
no shell, that of Debian's static busybox takes its place. The order in which names are looked up is the usual
one.
"""

from __future__ import annotations

from collections.abc import Collection

from afenv.documents.lock import LockedEnvironment
from afenv.layers.conda_python import PREFIX

# Conda packages that bring a shell, the preferred one first, and its program.
SHELLS = {"dash": "bin/dash", "bash": "bin/bash", "busybox": "bin/busybox"}
_NSSWITCH = (
    b"passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
)
_BUSYBOX = "usr/bin/busybox"  # of Debian's busybox-static
_BUNDLE = "ssl/cacert.pem"  # of conda's ca-certificates


def minimal_files(owned: Collection[str]) -> dict[str, bytes]:
    """Files, by path; those that a package owns are left to it."""
    found = {"etc/nsswitch.conf": _NSSWITCH}
    return {path: data for path, data in found.items() if path not in owned}


def minimal_links(environment: LockedEnvironment, owned: Collection[str]) -> dict[str, str]:
    """Links, by path, with their targets; those that a package owns are left to it."""
    prefix = (environment.conda_prefix or PREFIX).rstrip("/")
    names = {package.name for package in environment.conda}
    found = {}
    shell = next((program for name, program in SHELLS.items() if name in names), None)
    if shell is not None:
        found["usr/bin/sh"] = f"{prefix}/{shell}"
    elif _BUSYBOX in owned:
        found |= {"usr/bin/sh": "busybox", "usr/bin/env": "busybox"}
    if "bash" in names:
        found["usr/bin/bash"] = f"{prefix}/{SHELLS['bash']}"
    if "coreutils" in names:  # scripts begin with it
        found["usr/bin/env"] = f"{prefix}/bin/env"
    if "ca-certificates" in names:
        for place in ("etc/ssl/certs/ca-certificates.crt", "etc/ssl/cert.pem"):
            found[place] = f"{prefix}/{_BUNDLE}"
    return {path: target for path, target in found.items() if path not in owned}
