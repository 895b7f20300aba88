"""Checking what was built: by reading all of it, and by letting the real Apptainer use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.oci.forms import open_tree
from afenv.oci.model import Image
from afenv_builders.apptainer.programs import apptainer_command
from afenv_builders.apptainer.runtime_files import labels


def check(image: Image, path: Path) -> None:
    """Read every byte of the output, and inspect and start a SIF with Apptainer where spython is installed.

    E406 if it holds another image, E510 if it is damaged, E502 if Apptainer does not take it.
    """
    with open_tree(path) as tree:
        if tree.image is None or tree.image.image_id != image.image_id:
            found = tree.image.image_id if tree.image else "something else"
            raise AfenvError("E406", f"built {image.image_id}, and {path} holds {found}")
        files = tree.files()
    if tree.form == "sif" and apptainer_command() is not None:
        _use(image, path, shell="bin/sh" in files)


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
