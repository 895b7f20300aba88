"""Conda packages: from match specifications to exact archives, by py-rattler or conda-lock.

The answer depends on the specifications, the channels, the time that is locked as of, and virtual packages
that follow from the manifest: not on the host's own system.
"""

from afenv.resolve.conda.resolver import CondaResult, resolve_conda

__all__ = ["CondaResult", "resolve_conda"]
