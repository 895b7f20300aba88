"""An image in a registry as a value, without its layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.model import Image
from afenv.oci.read import image_from

if TYPE_CHECKING:
    from afenv.oci.registries import RemoteImage


def must_name_a_host(target: str) -> None:
    """E001 for what is no file here and names no registry, such as a path with a slip of the pen."""
    host, slash, _ = target.removeprefix("oras://").removeprefix("docker://").partition("/")
    if not slash or host in (".", "..") or not ("." in host or ":" in host or host == "localhost"):
        raise AfenvError(
            "E001",
            "there is no such file or folder",
            place=target,
            remedy="Check the path; an image in a registry is named as HOST[:PORT]/NAME[:TAG].",
        )


def remote_image(remote: RemoteImage) -> Image:
    """The image of a registry's answer; E510 if it is an artifact of another kind."""
    try:
        kind = (remote.document().get("config") or {}).get("mediaType")
        if kind != media.SIF_CONFIG:
            return image_from(
                remote.config, remote.manifest, remote.reference.partition("@")[0], Path(remote.reference)
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise AfenvError("E510", f"this is not an image: {why}", place=remote.reference) from None
    raise AfenvError(
        "E510",
        "this is a SIF, whose signatures are inside",
        place=remote.reference,
        remedy="Pull it, and check it with `apptainer verify`.",
    )
