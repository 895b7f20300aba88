"""Whether an image is whole: every digest and size in it is true."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from afenv.errors import AfenvError, Problem
from afenv.oci.blobs import decompressed, stream_errors
from afenv.oci.model import Image
from afenv.oci.read import OpenedImage, open_image


def check_image(path: Path, *, reference: str | None = None) -> Image:
    """Check the image at ``path`` and return it.

    Every blob must have its digest and size, every layer its diff_id, and the config must name as many
    layers as the manifest. All that is wrong is raised at once: E301 for a digest, E302 for a size,
    E510 for what cannot be read.
    """
    with open_image(path, reference=reference) as opened:
        problems = [*_config_problems(opened, path), *layer_problems(opened)]
        if problems:
            raise AfenvError.many(problems)
        return opened.image


def layer_problems(opened: OpenedImage) -> list[Problem]:
    """What is wrong with the layers' blobs: E301 for a digest, E302 for a size, E510 if unreadable."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(partial(_layer_problems, opened), range(len(opened.image.layers)))
        return [problem for problems in found for problem in problems]


def _config_problems(opened: OpenedImage, path: Path) -> list[Problem]:
    settings: Any = opened.image.configuration()
    missing = [key for key in ("architecture", "os", "rootfs") if not settings.get(key)]
    found = [Problem("E510", f"the config lacks {', '.join(missing)}", str(path))] if missing else []
    history = settings.get("history")
    if history is not None:
        named = sum(not entry.get("empty_layer") for entry in history)
        if named != len(opened.image.layers):
            found.append(
                Problem(
                    "E510",
                    f"the history tells of {named} layers; there are {len(opened.image.layers)}",
                    str(path),
                )
            )
    return found


def _digest(file: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while data := file.read(1 << 20):
        digest.update(data)
        size += len(data)
    return "sha256:" + digest.hexdigest(), size


def _layer_problems(opened: OpenedImage, position: int) -> list[Problem]:
    layer = opened.image.layers[position]
    place = f"{opened.path}, layer {position + 1}" + (f" ({layer.source})" if layer.source else "")
    try:
        with opened.blobs.open(layer.digest) as file:
            digest, size = _digest(file)
            file.seek(0)
            diff_id, _ = _digest(decompressed(file)) if digest == layer.digest else (layer.diff_id, 0)
    except AfenvError as error:
        return [Problem(error.code, error.problems[0].message, place)]
    except stream_errors() as error:
        return [Problem("E510", f"it cannot be inflated: {error}", place)]
    found = []
    if size != layer.size:
        found.append(Problem("E302", f"expected {layer.size} bytes, found {size}", place))
    if digest != layer.digest:
        found.append(Problem("E301", f"expected {layer.digest}, found {digest}", place))
    if diff_id != layer.diff_id:
        found.append(Problem("E301", f"expected the diff_id {layer.diff_id}, found {diff_id}", place))
    return found
