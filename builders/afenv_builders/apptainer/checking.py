"""Checking what was built: by comparing every file, and by letting the real Apptainer use it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.oci.diff import file_changes
from afenv.oci.files import Entry, merged
from afenv.oci.forms import open_tree
from afenv.oci.model import Image, ImageBlobs
from afenv.oci.read import OpenedImage
from afenv.oci.tree import portable
from afenv.progress import counted
from afenv.store.content import ContentStore
from afenv_builders.apptainer.programs import apptainer_command
from afenv_builders.apptainer.runtime_files import labels, runtime_files


def check(image: Image, path: Path, store: ContentStore) -> None:
    """Compare all files with the layers', and inspect and start a SIF with Apptainer through spython, where
    both are installed.

    E406 if it holds another image or other files, E510 if it is damaged, E502 if Apptainer does not take it.
    """
    with open_tree(path) as tree:
        if tree.image is None or tree.image.image_id != image.image_id:
            found = tree.image.image_id if tree.image else "something else"
            raise AfenvError("E406", f"built {image.image_id}, and {path} holds {found}")
        everything = tree.files()
        files = portable(everything)
    opened = OpenedImage(image=image, blobs=ImageBlobs(image=image, rest=store), path=store.folder)
    wanted = portable(merged(opened))
    if tree.form == "folder" and os.geteuid() != 0:  # an ordinary user cannot give files away
        files, wanted = _without_owners(files), _without_owners(wanted)
    changed = [change.as_text() for change in file_changes(wanted, files)[0]]
    if tree.packed is not None and not tree.packed.fallback:
        changed += [
            f"~ {name}"
            for name, (_, content) in runtime_files(image, tree.packed).items()
            if name not in everything or everything[name].sha256 != sha256(content).hexdigest()
        ]
    if changed:
        raise AfenvError(
            "E406",
            f"it is not as it was built in {counted(len(changed), 'file')}, such as {changed[0]}",
            place=str(path),
            remedy="Remove it and build again.",
        )
    if tree.form == "sif" and apptainer_command() is not None:
        _use(image, path, shell="bin/sh" in everything)


def _without_owners(files: Mapping[str, Entry]) -> dict[str, Entry]:
    return {path: replace(entry, uid=0, gid=0) for path, entry in files.items()}


def _use(image: Image, path: Path, *, shell: bool) -> None:
    try:
        from spython.main import Client
    except ImportError:  # the extra `apptainer` is not installed
        return
    answer: Any = Client.inspect(str(path), quiet=True)
    found = answer.get("attributes", {}).get("labels") if isinstance(answer, dict) else None
    if found != labels(image):
        raise AfenvError("E502", f"apptainer inspect does not show the image's labels: {answer}")
    if not shell:
        return
    result = Client.execute(str(path), ["/bin/sh", "-c", "exit 0"], return_result=True, quiet=True)
    if result["return_code"] != 0:
        words = " ".join("".join(result["message"]).split())
        raise AfenvError("E502", f"apptainer cannot start {path.name}: {words}")
