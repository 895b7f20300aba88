"""One digest over a tree of files, the same for an OCI image, a SIF and a folder that hold the same files.

The digest is the SHA-256 of one line per path, sorted by the path's bytes. A line is a JSON array
without spaces, other than ASCII escaped: path, kind, mode, uid, gid, size, SHA-256 of the content or
target of the link, extended attributes. Left out, because a form of distribution may not keep them: the
root folder itself, modification times, and whether equal files are hard links of one another.

Apptainer's runtimes need files of their own in an image, and every runtime puts some over the image's.
:func:`portable` leaves them out, by one rule for all forms:

- ``.singularity.d`` with everything in it, and symbolic links at the top that lead into it;
- ``etc/hosts`` and ``etc/resolv.conf``, which runtimes replace by the host's;
- ``.cvmfscatalog`` and ``.cvmfsautocatalog`` in any folder, by which CVMFS knows a catalogue of its own;
- of the mount points ``dev``, ``etc``, ``home``, ``proc``, ``root``, ``sys``, ``tmp``, ``var`` and
  ``var/tmp`` those in which nothing is, apart from what this rule leaves out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping

from afenv.oci.files import Entry

RUNTIME_FOLDER = ".singularity.d"
CATALOGUES = (".cvmfscatalog", ".cvmfsautocatalog")
MOUNTED_FILES = ("etc/hosts", "etc/resolv.conf")
MOUNT_POINTS = ("var/tmp", "dev", "etc", "home", "proc", "root", "sys", "tmp", "var")  # the inner first


def tree_line(entry: Entry) -> bytes:
    """The line of one path."""
    value = [
        entry.path,
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        entry.sha256 or entry.target,
        [list(pair) for pair in entry.xattrs],
    ]
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def tree_digest(entries: Iterable[Entry]) -> str:
    """The digest of a tree; ``entries`` in any order, with the contents hashed."""
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: os.fsencode(entry.path)):
        digest.update(tree_line(entry))
    return "sha256:" + digest.hexdigest()


def portable(files: Mapping[str, Entry]) -> dict[str, Entry]:
    """The files of an image without what runtimes add or replace; see the module's text."""
    found = {path: entry for path, entry in files.items() if not _of_runtime(path, entry)}
    filled = {path.rpartition("/")[0] for path in found}
    for path in MOUNT_POINTS:
        if path in found and found[path].kind == "d" and path not in filled:
            del found[path]
            filled = {path.rpartition("/")[0] for path in found}
    return found


def _of_runtime(path: str, entry: Entry) -> bool:
    if path in MOUNTED_FILES or path == RUNTIME_FOLDER or path.startswith(RUNTIME_FOLDER + "/"):
        return True
    if path.rpartition("/")[2] in CATALOGUES:
        return True
    return entry.kind == "l" and "/" not in path and entry.target.lstrip("/").startswith(RUNTIME_FOLDER + "/")
