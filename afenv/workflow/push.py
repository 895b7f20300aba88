"""Sending an image that was built to a registry, with what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from afenv.oci.model import Blobs, Image
from afenv.oci.read import open_image
from afenv.oci.registries import find_registry

if TYPE_CHECKING:
    from afenv.attest.sign import Signer
    from afenv.oci.attached import Attachment


def push_layout(
    path: Path,
    reference: str,
    *,
    quiet: bool = False,
    attach: bool = True,
    signer: Signer | None = None,
    mount_from: str | None = None,
) -> str:
    """Push an image layout or archive to a registry and return the manifest's digest.

    What the layout carries with it is attached there, unless ``attach`` is False; with ``signer`` the image
    and these documents are signed.
    """
    with open_image(path) as opened:
        attachments: Sequence[Attachment] = ()
        if attach and opened.index:
            from afenv.oci.attached import read_attachments

            attachments = read_attachments(
                opened.index, opened.blobs, opened.image.manifest_digest, str(path)
            )
        return publish(
            opened.image,
            opened.blobs,
            reference,
            attachments,
            quiet=quiet,
            signer=signer,
            mount_from=mount_from,
        )


def publish(
    image: Image,
    blobs: Blobs,
    reference: str,
    attachments: Sequence[Attachment] = (),
    *,
    quiet: bool = False,
    signer: Signer | None = None,
    mount_from: str | None = None,
) -> str:
    """Push an image, attach these documents and the signatures of ``signer``; the manifest's digest.

    What the registry has already is neither sent nor attached again.
    """
    registry = find_registry()
    digest = registry.push(image, blobs, reference, quiet=quiet, mount_from=mount_from)
    if signer is not None:
        from afenv.attest.sign import sign_image

        attachments = [*attachments, *sign_image(image, attachments, signer)]
    if attachments:
        from afenv.oci.referrers import attach

        with registry.repository(reference, quiet=quiet) as repository:
            attach(repository, image.manifest_descriptor(), attachments)
    return digest
