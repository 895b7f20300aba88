"""Making keys and signing images, in a layout or in a registry."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.errors import AfenvError

if TYPE_CHECKING:
    from afenv.attest.keys import PrivateKey
    from afenv.attest.sign import Signer
    from afenv.oci.model import Image

VARIABLE = "env:"  # begins the name of a key that is in a variable
PASSWORD = "AFENV_KEY_PASSWORD"  # noqa: S105 - the name of a variable


def key_password(path: Path, *, again: bool = False) -> str | None:
    """The password of a key: from ``AFENV_KEY_PASSWORD``, else asked for where there is a terminal.

    With ``again`` it is asked for twice. E610 if there is nobody to ask.
    """
    if PASSWORD in os.environ:
        return os.environ[PASSWORD] or None
    if not sys.stdin.isatty():
        raise AfenvError("E610", f"its password is needed: set {PASSWORD}", place=str(path))
    from getpass import getpass

    password = getpass(f"password of {path}: ")
    if again and password != getpass("the same again: "):
        raise AfenvError("E610", "the two passwords differ", place=str(path))
    return password


def read_signing_key(path: Path) -> PrivateKey:
    """The private key in a file, with its password if it has one; E001, E610.

    A file of the name ``env:NAME`` is the text of the variable ``NAME``, for CI systems that keep secrets so.
    """
    from afenv.attest.keys import load_private, needs_password

    try:
        if path.name.startswith(VARIABLE):
            path = Path(path.name)
            data = os.environ.get(path.name.removeprefix(VARIABLE), "").encode()
            if not data.strip():
                raise AfenvError("E610", "this variable is empty or not set", place=str(path))
        else:
            data = path.read_bytes()
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    return load_private(data, key_password(path) if needs_password(data) else None, place=str(path))


def file_signer(path: Path) -> Signer:
    """Signs with the private key in a file; E001, E610."""
    from afenv.attest.sign import key_signer

    return key_signer(read_signing_key(path))


def keyless_signer() -> Signer:
    """Signs for who is logged in, by sigstore's public instance; needs the network and ``afenv[keyless]``."""
    from afenv.attest.keyless import sign_keyless
    from afenv.attest.sign import Signer

    return Signer(name="keyless", identity="keyless", sign=sign_keyless)


def make_key(path: Path, *, kind: str, encrypted: bool) -> dict[str, Any]:
    """Write a new key to ``path`` (only for its owner) and its public part beside it, as ``.pub``.

    E032 if one of the files is there already.
    """
    from afenv.attest.keys import generate_key, load_public

    public_path = path.with_suffix(".pub")
    for one in (path, public_path):
        if one.exists():
            raise AfenvError(
                "E032", "there is a file of that name; a key is never overwritten", place=str(one)
            )
    private, public = generate_key(kind, key_password(path, again=True) if encrypted else None)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
        public_path.write_bytes(public)
    except OSError as error:
        from afenv.store.content import write_error

        raise write_error(error, path) from error
    key = load_public(public)
    return {"private": str(path), "public": str(public_path), "identity": key.identity, "kind": kind}


def sign(target: str, folder: Path, signer: Signer, *, quiet: bool = False) -> dict[str, Any]:
    """Sign an image, in a layout (relative to ``folder``) or a registry, and what is attached to it."""
    path = folder / target
    if path.exists():
        from afenv.attest.sign import sign_image
        from afenv.oci.attach_layout import add_to_layout, layout_attachments
        from afenv.oci.read import open_image

        with open_image(path) as opened:
            image = opened.image
        known = layout_attachments(path, image.manifest_digest)
        new = add_to_layout(path, image, sign_image(image, known, signer))
    else:
        image, new = _sign_remote(target, signer, quiet=quiet)
    return {
        "image": target,
        "manifest_digest": image.manifest_digest,
        "signer": signer.identity,
        "signatures": new,
    }


def _sign_remote(reference: str, signer: Signer, *, quiet: bool) -> tuple[Image, int]:
    from afenv.attest.sign import sign_image
    from afenv.oci.referrers import attach, fetch_attachments
    from afenv.oci.registries import find_registry
    from afenv.workflow.remote import must_name_a_host, remote_image

    must_name_a_host(reference)
    registry = find_registry()
    image = remote_image(registry.resolve(reference, quiet=quiet))
    with registry.repository(reference, quiet=quiet) as repository:
        known = fetch_attachments(repository, image.manifest_digest)
        added = attach(repository, image.manifest_descriptor(), sign_image(image, known, signer))
    return image, len(added)
