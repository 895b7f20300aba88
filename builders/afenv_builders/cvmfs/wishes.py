"""Handing images to DUCC: a wish list that pins each by its digest (DUCC's recipe, version 1).

What else stands in the list stays, comments included.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.model import Image
from afenv.oci.publishing import Publication, Target
from afenv.store.content import write_error

FORMAT = "$(scheme)://$(registry)/$(repository):$(tag)"
_READ = (media.LAYER_GZIP, media.DOCKER_LAYER_GZIP)  # the layers that DUCC unpacks


def wish(image: Image, name: str, target: Target) -> Publication:
    """Put the image on the list; one that has its name is replaced. The image must be in that registry.

    E538 for an image that DUCC does not convert and for a list that is none or another repository's.
    """
    for layer in image.layers:
        if layer.media_type not in _READ:
            raise AfenvError("E538", f"DUCC reads gzip layers only, and {layer.digest} is {layer.media_type}")
    platform = image.platform()
    if platform.get("architecture") not in ("amd64", "arm64"):
        raise AfenvError("E538", f"DUCC does not convert images for {platform.get('architecture')}")
    entry = f"https://{name}@{image.manifest_digest}"
    changed = _put(entry, name, target)
    return Publication(
        name=name, image_id=image.image_id, target=target, changed=changed, added=(), shared=()
    )


def _put(entry: str, name: str, target: Target) -> bool:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    value = _read(yaml, target)
    wishes = value["input"]
    if entry in wishes:
        return False
    places = [at for at, one in enumerate(wishes) if _name(one) == name]
    if places:
        wishes[places[0]] = entry
        for at in reversed(places[1:]):
            del wishes[at]
    else:
        wishes.append(entry)
    text = io.StringIO()
    yaml.dump(value, text)
    _write(target.place, text.getvalue())
    return True


def _read(yaml: Any, target: Target) -> Any:
    from ruamel.yaml.error import YAMLError

    place = target.place
    user = target.user or "afenv"
    try:
        value = yaml.load(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        repository = target.repository
        return {
            "version": 1,
            "user": user,
            "cvmfs_repo": repository,
            "output_format": FORMAT,
            "input": [],
        }
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(place)) from None
    except (YAMLError, ValueError) as error:
        raise AfenvError(
            "E538", f"this is no wish list: {str(error).splitlines()[0]}", place=str(place)
        ) from None
    inputs = value.get("input") if isinstance(value, dict) else None
    if not isinstance(inputs, list) or value.get("version") != 1:
        raise AfenvError("E538", "this is no wish list of DUCC, version 1", place=str(place))
    if value.get("cvmfs_repo") != target.repository:
        message = f"this wish list is for {value.get('cvmfs_repo')}, not for {target.repository}"
        raise AfenvError("E538", message, place=str(place))
    return value


def _name(entry: Any) -> str:
    """A wish without scheme and digest."""
    return str(entry).partition("://")[2].partition("@")[0]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise write_error(error, path) from error
