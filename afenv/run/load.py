"""Bringing an image into an engine: only if it is not there, and only the layers that are not there."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from afenv.digest import hex_of
from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.archive import archive_members, write_archive
from afenv.oci.layout import write_layout
from afenv.oci.model import Image
from afenv.progress import Progress
from afenv.run.engines import Engine, words
from afenv.store.content import ContentStore

LAYOUT = "afenv-image"


def find_loaded(engine: Engine, image: Image) -> str | None:
    """The digest by which the engine knows the image; None if it does not have it."""
    digest = image.manifest_digest if engine.containerd else image.image_id
    found = engine.call("image", "inspect", "--format", "{{.Id}}", hex_of(digest))
    return digest if found.returncode == 0 else None


def load_from_store(engine: Engine, image: Image, store: ContentStore, *, quiet: bool = False) -> str:
    """Make sure that the engine has the image; the digest by which it knows it. E502 if it fails."""
    loaded = find_loaded(engine, image)
    if loaded is not None:
        return loaded
    if engine.name == "podman":
        _pull_layout(engine, image, store, quiet)
    else:
        omit = () if engine.containerd else shared_layers(image, _layers_of_ours(engine))
        failure = _feed(engine, image, store, omit, quiet)
        if failure and omit:  # a layer may have been removed meanwhile
            failure = _feed(engine, image, store, (), quiet)
        if failure:
            raise AfenvError("E502", f"{engine.name} cannot load the image: {failure}")
    loaded = find_loaded(engine, image)
    if loaded is None:
        raise AfenvError("E502", f"{engine.name} loaded the image but does not know {image.image_id}")
    return loaded


def _layers_of_ours(engine: Engine) -> list[list[str]]:
    """The diff_ids, from the lowest up, of every image in the engine that afenv made."""
    ids = engine.call("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={media.INPUTS}")
    found = sorted(set(ids.stdout.split()))
    if ids.returncode != 0 or not found:
        return []
    shown = engine.call("image", "inspect", "--format", "{{json .RootFS.Layers}}", *found)
    with contextlib.suppress(ValueError):
        return [json.loads(line) or [] for line in shown.stdout.splitlines() if line.strip()]
    return []


def shared_layers(image: Image, others: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The diff_ids at the bottom of the image that one of the others has at its bottom as well.

    An engine knows a layer by all that lies below it, so only a common beginning can be left out.
    """
    own = [layer.diff_id for layer in image.layers]
    longest = 0
    for other in others:
        count = 0
        for mine, theirs in zip(own, other, strict=False):
            if mine != theirs:
                break
            count += 1
        longest = max(longest, count)
    omitted = own[:longest]
    return tuple(diff_id for diff_id in omitted if diff_id not in own[longest:])


def _feed(engine: Engine, image: Image, store: ContentStore, omit: Sequence[str], quiet: bool) -> str | None:
    """Stream the archive into ``docker load``; what went wrong, or None."""
    total = sum(512 + size for _, size, _ in archive_members(image, omit))
    command = (*engine.command, "load", "--quiet")
    with tempfile.TemporaryFile("w+") as said:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=said)
        except OSError as error:
            return str(error.strerror)
        pipe = cast(BinaryIO, process.stdin)
        try:
            with Progress(f"loading into {engine.name}", total, quiet=quiet) as progress:
                with contextlib.suppress(BrokenPipeError):
                    write_archive(image, store, pipe, omit=omit, advance=progress.advance)
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
                status = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        said.seek(0)
        result = subprocess.CompletedProcess(command, status, "", said.read())
        # Docker's command ends with 0 for some archives that the engine refused
        refused = status != 0 or "error" in result.stderr.lower()
        return words(result) if refused else None


def _pull_layout(engine: Engine, image: Image, store: ContentStore, quiet: bool) -> None:
    """Let Podman copy from a layout of links; it skips the layers that it has."""
    folder = Path(tempfile.mkdtemp(dir=store.temporary_folder(), prefix="layout-"))
    try:
        with Progress(f"loading into {engine.name}", image.size, quiet=quiet) as progress:
            write_layout(image, store, folder / LAYOUT, reference="")
            # Podman names the image after the path as it is given, which must have no capitals
            result = engine.call("pull", "--quiet", f"oci:{LAYOUT}", folder=folder)
            if result.returncode != 0:
                raise AfenvError("E502", f"{engine.name} cannot load the image: {words(result)}")
            if image.reference:
                engine.call("tag", hex_of(image.image_id), f"localhost/{image.reference}")
                engine.call("untag", hex_of(image.image_id), f"localhost/{LAYOUT}:latest")
            progress.advance(image.size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
