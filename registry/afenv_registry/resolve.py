"""From a reference to one image: by way of an index, for a platform, with everything small checked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from afenv.errors import AfenvError
from afenv.oci.graph import INDEXES, check_descriptor, checked_member, descriptors, is_index
from afenv.oci.registries import RemoteImage, RemoteManifest
from afenv.record import replace
from afenv_registry.answers import printable
from afenv_registry.repository import Repository

DEPTH = 3  # indexes inside indexes
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}
DEFAULT_VARIANT = {"arm64": "v8", "arm": "v7"}


def own_platform() -> str:
    """The platform of images that run here without emulation."""
    machine = os.uname().machine
    return f"linux/{ARCHITECTURES.get(machine, machine)}"


def resolve(repository: Repository, *, platform: str | None = None) -> RemoteImage:
    """The image that the repository's reference names: see :class:`afenv.oci.registries.Registry`."""
    reference = repository.reference
    first = repository.get_manifest(reference.digest or reference.tag)
    found, index = first, None
    if is_index(first):
        index = first
        found = _through(repository, first, platform or own_platform(), 0)
    image = _complete(repository, found, index)
    if platform is not None and index is None:
        _check_platform(image, platform, str(reference))
    return image


def member(repository: Repository, descriptor: Mapping[str, Any]) -> RemoteManifest:
    """The manifest that a descriptor of an index names, checked."""
    return checked_member(repository.get_manifest(descriptor["digest"]).content, descriptor)


def _through(repository: Repository, index: RemoteManifest, platform: str, depth: int) -> RemoteManifest:
    if depth > DEPTH:
        raise AfenvError("E602", "its indexes are nested too deeply", place=str(repository.reference))
    entries = [one for one in descriptors(index, "manifests") if _text(one, "os") != "unknown"]
    chosen = choose(entries, platform)
    if chosen is None:
        for entry in entries:  # an index may be divided further
            if entry.get("mediaType") in INDEXES:
                try:
                    return _through(repository, member(repository, entry), platform, depth + 1)
                except AfenvError as error:
                    if error.code != "E604":
                        raise
        there = ", ".join(sorted({"/".join(_names(one)) for one in entries})) or "nothing"
        raise AfenvError(
            "E604",
            f"there is no image for {platform}; there is: {printable(there)}",
            place=str(repository.reference),
        )
    found = member(repository, chosen)
    return _through(repository, found, platform, depth + 1) if is_index(found) else found


def _text(descriptor: dict[str, Any], key: str) -> str:
    return str((descriptor.get("platform") or {}).get(key) or "")


def _names(descriptor: dict[str, Any]) -> Iterator[str]:
    for key in ("os", "architecture", "variant"):
        if text := _text(descriptor, key):
            yield text


def choose(entries: list[dict[str, Any]], platform: str) -> dict[str, Any] | None:
    """The entry of an index for a platform ``os/architecture[/variant]``; the first of those that fit best.

    An entry without a platform is taken if it is the only one.
    """
    if len(entries) == 1 and not entries[0].get("platform"):
        return entries[0]
    parts = platform.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise AfenvError("E030", f"{platform!r} is not a platform such as linux/amd64")
    system, architecture, variant = *parts[:2], parts[2] if len(parts) == 3 else ""
    usual = DEFAULT_VARIANT.get(architecture, "")

    def rank(entry: dict[str, Any]) -> int:
        found = _text(entry, "variant")
        if variant:
            return 2 if found == variant else 1 if not found and variant == usual else 0
        return 3 if not found else 2 if found == usual else 1

    fitting = [
        one for one in entries if _text(one, "os") == system and _text(one, "architecture") == architecture
    ]
    best = max(fitting, key=rank, default=None)
    return best if best is not None and rank(best) > 0 else None


def _complete(repository: Repository, found: RemoteManifest, index: RemoteManifest | None) -> RemoteImage:
    place = str(repository.reference)
    config = found.document().get("config")
    if found.document().get("schemaVersion") == 1 or config is None:
        raise AfenvError("E602", "its manifest is of a kind that is not supported", place=place)
    check_descriptor(config, place)
    descriptors(found, "layers")
    content = repository.get_blob(config["digest"])
    if len(content) != config["size"]:
        raise AfenvError("E302", f"its config has {len(content)} bytes, not {config['size']}", place=place)
    exact = replace(repository.reference, digest=found.digest)
    return RemoteImage(
        reference=str(exact),
        media_type=found.media_type,
        manifest=found.content,
        config=content,
        index=index,
    )


def _check_platform(image: RemoteImage, platform: str, place: str) -> None:
    own = image.platform()
    parts = platform.split("/")
    wanted = dict(zip(("os", "architecture", "variant"), parts, strict=False))
    differing = {key: own[key] for key in wanted if key in own and own[key] != wanted[key]}
    if own and differing:
        names = "/".join(own[key] for key in ("os", "architecture", "variant") if key in own)
        raise AfenvError(
            "E604", f"there is no image for {platform}; there is: {printable(names)}", place=place
        )


def parse_config(image: RemoteImage) -> dict[str, Any]:
    """The config as a JSON object; E602 if it is none."""
    try:
        value = json.loads(image.config)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AfenvError("E602", "its config is not a JSON object", place=image.reference)
    return value
