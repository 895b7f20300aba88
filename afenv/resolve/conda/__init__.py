"""Conda packages: from match specifications to exact archives, by py-rattler or conda-lock.

The answer depends on the specifications, the channels, the time that is locked as of, and virtual packages
that follow from the manifest: not on the host's own system. The door is
:func:`afenv.resolve.conda.resolver.resolve_conda`. Nothing is imported here: the process that py-rattler runs
in (:mod:`afenv.resolve.conda.child`) is to start fast.
"""
