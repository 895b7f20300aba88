"""An image as a folder that Apptainer runs (``apptainer exec FOLDER``), for hosts without SIF mounts."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from afenv.errors import AfenvError
from afenv.layers.tar_header import FILE, FOLDER, SYMBOLIC_LINK
from afenv.oci.model import Descriptor, Image
from afenv.oci.sif_record import SifRecord, tree_record
from afenv.oci.unpack import unpack_layers
from afenv.store.content import ContentStore, write_error
from afenv_builders.apptainer import runtime_files

MEDIA_TYPE = "inode/directory"
TEMPORARY = ".afenv-"


def build_sandbox(image: Image, store: ContentStore, path: Path, *, quiet: bool = False) -> Descriptor:
    """Make ``path`` a folder with the image's files; one of afenv's with another image is replaced.

    E032 if something else is there; what :func:`~afenv.oci.unpack.unpack_layers` raises.
    """
    record = SifRecord(image=image, tool="afenv", compressor="none")
    built = Descriptor(
        media_type=MEDIA_TYPE,
        digest=image.manifest_digest,
        size=image.size,
        annotations=record.annotations(),
    )
    present = tree_record(path) if path.is_dir() else None
    if present is not None and present.as_bytes() == record.as_bytes():
        return built
    if present is None and (path.is_symlink() or path.exists()):
        if not path.is_dir() or any(path.iterdir()):
            raise AfenvError("E032", "this is not a folder that afenv wrote", place=str(path))
        path.rmdir()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}{TEMPORARY}"))
        try:
            unpack_layers(image.layers, store, beside, quiet=quiet)
            _add(image, record, beside)
            beside.chmod(0o755)
            if present is not None:
                _remove(path)
            beside.rename(path)
        except BaseException:
            _remove(beside)
            raise
    except OSError as error:
        raise write_error(error, path) from error
    return built


def _remove(folder: Path) -> None:
    """Remove a tree, also what its modes protect."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            one = Path(place, name)
            if not one.is_symlink():
                one.chmod(0o700)
    shutil.rmtree(folder)


def _add(image: Image, record: SifRecord, root: Path) -> None:
    """Write what the runtime looks for."""
    files = runtime_files.runtime_files(image, record)
    for folder in runtime_files.FOLDERS:
        place = root / folder
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        place.mkdir(exist_ok=True)
        place.chmod(0o755)
    for path, (mode, content) in files.items():
        place = root / path
        if place.is_symlink() or place.exists():
            place.unlink()
        place.write_bytes(content)
        place.chmod(mode)
    present = {
        path.encode(): FOLDER if (root / path).is_dir() and not (root / path).is_symlink() else FILE
        for path in (*runtime_files.MOUNT_POINTS, *runtime_files.MOUNT_FILES, *runtime_files.LINKS)
        if (root / path).is_symlink() or (root / path).exists()
    }
    for path, (kind, mode, target) in runtime_files.additions(present).items():
        place = root / path
        if kind == FOLDER:
            place.mkdir()
            place.chmod(mode)
        elif kind == SYMBOLIC_LINK:
            place.symlink_to(target)
        else:
            place.touch()
            place.chmod(mode)
