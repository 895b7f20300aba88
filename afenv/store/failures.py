"""What a disk's refusal means to the user."""

from __future__ import annotations

import errno
from pathlib import Path

from afenv.errors import AfenvError


def write_error(error: OSError, path: Path) -> AfenvError:
    """The error that a user sees when ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AfenvError("E402", "no space left on the device", place=str(path))
    if error.errno == errno.EFBIG:
        return AfenvError("E402", "the file would be larger than this process may write", place=str(path))
    if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # such as Lustre without -o flock
        remedy = "Set AFENV_CACHE_DIR to a folder on another file system."
        return AfenvError("E403", "the file system has no file locks", place=str(path), remedy=remedy)
    if error.errno == errno.ENOENT:
        remedy = "Make the folder that it is to be in, or choose another one."
        return AfenvError("E403", f"cannot write: {error.strerror}", place=str(path), remedy=remedy)
    return AfenvError("E403", f"cannot write: {error.strerror}", place=str(path))
