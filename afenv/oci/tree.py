"""One digest over a tree of files, the same for an OCI image, a SIF and a folder that hold the same files.

The digest is the SHA-256 of one line per path, sorted by the path's bytes. A line is a JSON array
without spaces, other than ASCII escaped: path, kind, mode, uid, gid, size, SHA-256 of the content or
target of the link, extended attributes. Left out, because a form of distribution may not keep them: the
root folder itself, modification times, and whether equal files are hard links of one another.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable

from afenv.oci.files import Entry


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
