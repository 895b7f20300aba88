"""What afenv writes into a SIF beside Apptainer's own metadata: which image it holds, and how it was made.

The object ``afenv.json`` has ``format`` 1; ``image_id``, ``manifest_digest`` and ``reference``; ``config``
and ``manifest``, the texts that these digests are of; ``tool`` and ``compressor``; and ``fallback`` where
the SIF could not be packed straight from the layers. `apptainer` ignores it.
"""

from __future__ import annotations

from pathlib import Path

from afenv import canonical
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.config_form import parsed
from afenv.oci.model import Image
from afenv.oci.read import image_from
from afenv.oci.sif import OUR_RECORD, Sif, read_sif
from afenv.record import record

FORMAT = 1
TREE_RECORD = ".singularity.d/afenv.json"


@record
class SifRecord:
    """The image in a SIF (or bare squashfs), and how it was packed.

    ``tool`` is the program with its version, ``compressor`` that of squashfs with its level, ``fallback``
    the reason why another way was taken, or empty.
    """

    image: Image
    tool: str
    compressor: str
    fallback: str = ""

    def annotations(self) -> dict[str, str]:
        """What a descriptor of the file says."""
        found = {
            media.IMAGE_ID: self.image.image_id,
            media.PACKED_BY: self.tool,
            media.COMPRESSOR: self.compressor,
        }
        return found | ({media.FALLBACK: self.fallback} if self.fallback else {})

    def as_bytes(self) -> bytes:
        """The object as it stands in the SIF."""
        value = {
            "format": FORMAT,
            "image_id": self.image.image_id,
            "manifest_digest": self.image.manifest_digest,
            "reference": self.image.reference,
            "config": self.image.config.decode(),
            "manifest": self.image.manifest.decode(),
            "tool": self.tool,
            "compressor": self.compressor,
        }
        return canonical.compact(value | ({"fallback": self.fallback} if self.fallback else {}))


def sif_record(sif: Sif) -> SifRecord | None:
    """The record of a SIF that afenv made, or None; E510 if it is damaged, E301 if digests do not fit."""
    data = sif.read(OUR_RECORD)
    return None if data is None else parse_record(data, sif.path)


def tree_record(folder: Path) -> SifRecord | None:
    """The record in a folder that afenv made, or None; errors as for :func:`sif_record`."""
    try:
        data = (folder / TREE_RECORD).read_bytes()
    except OSError:
        return None
    return parse_record(data, folder)


def parse_record(data: bytes, place: Path) -> SifRecord:
    """A record from its bytes; E510 if it is damaged, E301 if digests do not fit."""
    try:
        value = parsed(data)
        config, manifest = value["config"].encode(), value["manifest"].encode()
        known = value["image_id"], value["manifest_digest"]
        record = SifRecord(
            image=image_from(config, manifest, value["reference"], place),
            tool=str(value["tool"]),
            compressor=str(value["compressor"]),
            fallback=str(value.get("fallback", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AfenvError("E510", f"its record {OUR_RECORD} is damaged: {error}", place=str(place)) from None
    if known != (sha256_bytes(config), sha256_bytes(manifest)):
        raise AfenvError("E301", f"its record {OUR_RECORD} has another content", place=str(place))
    return record


def holds(path: Path, image: Image) -> SifRecord | None:
    """The record of the SIF at ``path`` if it holds that image; None if not, or if there is no SIF."""
    try:
        record = sif_record(read_sif(path))
    except AfenvError:
        return None
    return record if record is not None and record.image.manifest_digest == image.manifest_digest else None
