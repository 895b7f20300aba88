"""The other way to a SIF: `apptainer build` from the image's layout, where no packer reads a tar.

It unpacks the image to disk and takes the time of the build into the file, so the result is not
reproducible; the record in the file says that it was made so.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from afenv.errors import AfenvError
from afenv.oci import sif
from afenv.oci.layout import write_layout
from afenv.oci.model import Image
from afenv.oci.sif_record import SifRecord
from afenv.store.content import ContentStore
from afenv_builders.apptainer.packing import Packing
from afenv_builders.apptainer.programs import apptainer_command, call

REASON = "no mksquashfs or tar2sqfs on this host packs a tar with {compressor}; apptainer build was used"


def build_with_apptainer(
    image: Image, store: ContentStore, path: Path, target: str, packing: Packing
) -> SifRecord:
    """Write a SIF, or its squashfs alone, at ``path``; E414 without Apptainer, E502 if it fails."""
    command = apptainer_command()
    reason = REASON.format(compressor=packing.compressor)
    if command is None:
        raise AfenvError("E414", "neither mksquashfs nor tar2sqfs packs a tar, and there is no apptainer")
    version = call([*command, "--version"], "apptainer --version").split()[-1:]
    record = SifRecord(
        image=image, tool=" ".join(["apptainer", *version]), compressor="of apptainer build", fallback=reason
    )
    # on the disk of the result, where there is room for large things
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="apptainer.") as name:
        folder = Path(name)
        write_layout(image, store, folder / "layout", reference="image")
        built = folder / "built.sif"
        call([*command, "--silent", "build", str(built), f"oci:{folder / 'layout'}"], "apptainer build")
        if target == "squashfs":
            _extract(built, path)
            return record
        note = folder / sif.OUR_RECORD
        note.write_bytes(record.as_bytes())
        # 6 is JSON
        add = ["sif", "add", "--datatype", "6", "--filename", sif.OUR_RECORD, str(built), str(note)]
        call([*command, *add], "apptainer sif add")
        built.replace(path)
    return record


def _extract(built: Path, path: Path) -> None:
    """The file system in a SIF, alone."""
    system = sif.read_sif(built).system()
    with built.open("rb") as source, path.open("wb") as target:
        source.seek(system.offset)
        shutil.copyfileobj(source, target, 1 << 20)
        target.truncate(system.size)
