"""Where things lie in the layout of unpacked.cern.ch, as DUCC writes it.

::

    REGISTRY/REPOSITORY:TAG -> ../../.flat/XX/CONFIG    the name for people
    .flat/XX/CONFIG/                                    the image's files, by the digest of its config
    .layers/XX/LAYER/layerfs/                           the files of one layer, by the digest of its blob
    .layers/XX/LAYER/.metadata/{layers,origin}.json     what the layer is, and which images have it
    .metadata/REGISTRY/REPOSITORY:TAG/manifest.json     the image manifest

XX are the first two digits of what follows. A file ``.cvmfscatalog`` makes a folder a catalogue of its own.
"""

from __future__ import annotations

import re

from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci.model import Image

FLAT = ".flat"
LAYERS = ".layers"
METADATA = ".metadata"
CATALOGUE = ".cvmfscatalog"
RESERVED = frozenset((b".cvmfscatalog", b".cvmfsautocatalog"))  # names that CVMFS takes for its own
LOCAL = "localhost"  # the registry of images that are in none, as Podman says

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?\Z")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_FQRN = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\Z")
LONGEST = 255  # bytes of a name in a file system


def published_name(reference: str) -> str:
    """``REGISTRY/REPOSITORY:TAG`` of a reference (the tag ``latest`` unless it has one), E530 otherwise.

    The grammar is that of OCI's distribution specification, so that a name can lead nowhere else.
    """
    host, _, rest = reference.partition("/")
    repository, colon, tag = rest.partition(":")
    tag = tag if colon else "latest"
    named = "." in host or ":" in host or host == LOCAL
    if "@" in reference:
        raise AfenvError("E530", f"{reference!r} has a digest; a name on CVMFS has a tag")
    good = named and _HOST.match(host) and _REPOSITORY.match(repository) and _TAG.match(tag)
    name = f"{host}/{repository}:{tag}"
    if not good or ".." in host or max(map(len, name.split("/"))) > LONGEST:
        raise AfenvError("E530", f"{reference!r} is not REGISTRY/REPOSITORY[:TAG]")
    return name


def name_of(image: Image) -> str:
    """The name where none was given: the image's own, in the registry ``localhost`` if it has none."""
    reference = image.reference or "image"
    host = reference.partition("/")[0]
    known = "/" in reference and ("." in host or ":" in host or host == LOCAL)
    return published_name(reference if known else f"{LOCAL}/{reference}")


def repository_name(text: str) -> str:
    """The name of a CVMFS repository, such as ``unpacked.example.org``; E530 if it is none."""
    if not _FQRN.match(text) or "." not in text or ".." in text:
        raise AfenvError("E530", f"{text!r} is not the name of a CVMFS repository, such as sw.example.org")
    return text


def flat_path(image_id: str) -> str:
    """The flat tree of an image."""
    name = hex_of(image_id)
    return f"{FLAT}/{name[:2]}/{name}"


def layer_path(digest: str) -> str:
    """The folder of a layer."""
    name = hex_of(digest)
    return f"{LAYERS}/{name[:2]}/{name}"


def manifest_path(name: str) -> str:
    """The image manifest of a name."""
    return f"{METADATA}/{name}/manifest.json"


def link_target(name: str, image_id: str) -> str:
    """What the symbolic link at a name says."""
    return "../" * name.count("/") + flat_path(image_id)
