"""Signing a SIF with Apptainer's own command and keyring, so that ``apptainer verify`` accepts it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from afenv.errors import AfenvError
from afenv.oci.sif import read_sif
from afenv_builders.apptainer.programs import apptainer_command, call

_KEY = re.compile(r"^(\d+)\)\s.*?Fingerprint:\s+([0-9A-F]+)", re.MULTILINE | re.DOTALL)


def key_number(listing: str, fingerprint: str) -> int:
    """The number of the secret key in ``apptainer key list --secret``; E030 if not exactly one fits.

    ``fingerprint`` may be its last digits, at least 8.
    """
    wanted = fingerprint.replace(" ", "").upper().removeprefix("0X")
    if not re.fullmatch(r"[0-9A-F]{8,}", wanted):
        raise AfenvError("E030", f"{fingerprint!r} is not a key's fingerprint")
    keys = [(int(number), known) for number, known in _KEY.findall(listing)]
    fitting = [number for number, known in keys if known.endswith(wanted)]
    if len(fitting) != 1:
        have = ", ".join(known for _, known in keys) or "none"
        raise AfenvError(
            "E030",
            f"{'no' if not fitting else 'more than one'} secret key fits {fingerprint}; there are: {have}",
            remedy="`apptainer key list --secret` shows them; `apptainer key import FILE` adds one.",
        )
    return fitting[0]


def sign(path: Path, fingerprint: str) -> None:
    """Sign all of a SIF with a secret PGP key of Apptainer's keyring.

    Apptainer asks for the key's passphrase on the terminal. E501 without Apptainer, E030 for a key that
    is not there, E502 if it fails.
    """
    command = apptainer_command()
    if command is None:
        raise AfenvError("E501", "a SIF is signed with apptainer, and there is none on this host")
    listing = call([*command, "key", "list", "--secret"], "apptainer key list")
    number = key_number(listing, fingerprint)
    status = subprocess.run([*command, "sign", "--keyidx", str(number), str(path)], check=False).returncode
    if status != 0 or not is_signed_by(path, fingerprint):
        raise AfenvError("E502", "apptainer sign failed; its words are above this message")


def is_signed_by(path: Path, fingerprint: str) -> bool:
    """Whether the SIF carries a signature by that key; ``apptainer verify`` tells whether it is good."""
    wanted = fingerprint.replace(" ", "").upper().removeprefix("0X")
    return any(one.fingerprint.endswith(wanted) for one in read_sif(path).signatures())
