"""Where the token for a repository comes from: the environment, or the user's keyring. Nowhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence

from afenv.errors import AfenvError

GENERAL = "AFENV_SUBMIT_TOKEN"
SERVICE = "afenv"


def find_token(host: str, variables: Sequence[str]) -> str:
    """The token for a host; E744 if there is none.

    ``variables`` are those of the environment, in order. The keyring is asked for the service ``afenv`` and
    the host as the user name, if the ``keyring`` package is there.
    """
    for name in (GENERAL, *variables):
        token = os.environ.get(name, "").strip()
        if token:
            if not token.isascii() or not token.isprintable() or " " in token:
                raise AfenvError("E744", f"{name} does not hold a token", place=name)
            return token
    kept = _from_keyring(host)
    if kept:
        return kept.strip()
    names = " or ".join((GENERAL, *variables))
    raise AfenvError(
        "E744",
        f"there is no token for {host}",
        remedy=f"Set {names}, or use `keyring set {SERVICE} {host}` (pip install 'afenv[keyring]').",
    )


def _from_keyring(host: str) -> str | None:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    try:
        kept: str | None = keyring.get_password(SERVICE, host)
    except keyring.errors.KeyringError:
        return None
    return kept
