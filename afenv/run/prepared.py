"""Images in the form in which runtimes without a store of their own run them, kept in the cache.

An unpacked image is a tree of the cache (:mod:`afenv.store.trees`). A SIF is a blob of it, found by the ID
of the image that it was made from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.namespaces import is_set_user_id
from afenv.store.content import ContentStore

Form = Literal["sif", "sandbox"]
SETTING = "AFENV_APPTAINER_IMAGE"
_FORM = 1  # of the SIFs and folders in the cache; counted up when they are to be made anew


def root_of(image: Image, store: ContentStore, *, quiet: bool) -> Path:
    """The folder with the image's files, unpacked if it is not there. E402, E403."""
    from afenv.oci.unpack import unpacked_root

    return unpacked_root(image.layers, store, quiet=quiet)


def sandbox_of(image: Image, store: ContentStore, *, quiet: bool) -> Path:
    """The folder with the image's files and what Apptainer looks for beside them, made if it is not there."""
    from afenv.oci.builders import find_builder
    from afenv.store.trees import cached_tree

    builder = find_builder("sandbox")

    def fill(folder: Path) -> None:
        builder.build(image, store, {"target": "sandbox", "path": folder, "quiet": quiet})

    return cached_tree(store, _key(image, "sandbox", os.geteuid() == 0), fill)


def machine_of(image: Image, store: ContentStore, *, quiet: bool) -> Path:
    """The folder with the image as a virtual machine, made if it is not there; see the builder of ``vm``."""
    from afenv.oci.builders import find_builder
    from afenv.store.trees import cached_tree

    builder = find_builder("vm")

    def fill(folder: Path) -> None:
        builder.build(image, store, {"target": "vm", "path": folder / "vm", "quiet": quiet})

    return cached_tree(store, _key(image, "vm"), fill) / "vm"


def sif_of(image: Image, store: ContentStore, *, quiet: bool) -> Path:
    """The image as a SIF, made if it is not there. E030 or E414 where it cannot be made."""
    key = _key(image, "sif")
    known = store.load_key("sif", key)
    if isinstance(known, dict) and store.trusted(known["digest"], known["size"]):
        return store.path(known["digest"])
    import tempfile

    from afenv.oci.builders import find_builder

    builder = find_builder("sif")
    with store.in_use(), store.lock(f"sif-{key[-16:]}"):
        with tempfile.TemporaryDirectory(dir=store.temporary_folder(), prefix="sif-") as folder:
            path = Path(folder) / "image.sif"
            built = builder.build(image, store, {"target": "sif", "path": path, "quiet": quiet})
            store.adopt(path, built.digest, built.size)
            store.sync()
        store.save_key("sif", key, {"digest": built.digest, "size": built.size})
    return store.path(built.digest)


def _key(image: Image, *form: object) -> str:
    from afenv import canonical
    from afenv.digest import sha256_bytes

    return sha256_bytes(canonical.compact([*form, _FORM, image.image_id]))


def form_for_apptainer(*, asked: str, root: bool, set_user_id: bool, fuse: bool) -> Form:
    """What Apptainer runs; pure. E030 if ``asked`` is neither of the two forms, nor empty.

    A SIF is mounted by root, by a set-user-ID Apptainer, or through FUSE; where there is none of these, a
    folder does as well.
    """
    if asked == "sif" or asked == "sandbox":
        return asked  # type: ignore[return-value]
    if asked:
        raise AfenvError("E030", f"{asked!r} is neither sif nor sandbox", place=SETTING)
    return "sif" if root or set_user_id or fuse else "sandbox"


def for_apptainer(image: Image, store: ContentStore, *, quiet: bool) -> Path:
    """The SIF or the folder that Apptainer runs on this host; a folder also where no SIF can be made."""
    asked = os.environ.get(SETTING, "")
    form = form_for_apptainer(
        asked=asked,
        root=os.geteuid() == 0,
        set_user_id=is_set_user_id(),
        fuse=os.access("/dev/fuse", os.R_OK | os.W_OK),
    )
    if form == "sif":
        try:
            return sif_of(image, store, quiet=quiet)
        except AfenvError as error:
            if asked or error.code not in ("E030", "E414"):
                raise
    return sandbox_of(image, store, quiet=quiet)
