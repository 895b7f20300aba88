"""What a publication holds: read from the folder, or from where a repository is mounted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afenv.digest import PATTERN
from afenv.errors import AfenvError
from afenv.oci.publishing import PublishedImage
from afenv.oci.sif_record import TREE_RECORD
from afenv_builders.apptainer.runtime_files import DEFINITION
from afenv_builders.cvmfs.names import FLAT, LAYERS, METADATA, flat_path, layer_path, manifest_path

_OURS = b"# made by afenv "


class State:
    """The publication at ``root``. What another program published is read in the same way, and left alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, path: str) -> bool:
        """Whether there is anything at a path, also a link to nowhere."""
        return os.path.lexists(self.root / path)

    def has_layer(self, digest: str) -> bool:
        """Whether a layer is here as a whole: its notes are written last."""
        return (self.root / layer_path(digest) / ".metadata" / "layers.json").is_file()

    def has_flat(self, image_id: str) -> bool:
        """Whether a flat tree is here as a whole: one with our record, or one of another program."""
        place = self.root / flat_path(image_id)
        if (place / TREE_RECORD).is_file():
            return True
        return (place / ".singularity.d").is_dir() and not self._is_ours(place)

    def _is_ours(self, flat: Path) -> bool:
        """Whether afenv made a flat tree, or began to."""
        try:
            with (flat / DEFINITION).open("rb") as file:
                return file.read(len(_OURS)) == _OURS
        except OSError:
            return False

    def link(self, name: str) -> str | None:
        """What the link at a name says; E533 if there is something else."""
        place = self.root / name
        try:
            target = str(place.readlink())
            if f"/{FLAT}/" not in f"/{target}":
                raise AfenvError("E533", f"this is a link to {target}, not one of an image", place=str(place))
            return target
        except FileNotFoundError:
            return None
        except OSError as error:
            self.check_folders(name)
            raise AfenvError(
                "E533", f"this is not a link of an image: {error.strerror}", place=str(place)
            ) from None

    def origin(self, digest: str) -> tuple[str, ...]:
        """The images that a layer's note names; empty if it has none or a damaged one."""
        try:
            value = json.loads((self.root / layer_path(digest) / ".metadata" / "origin.json").read_bytes())
            return tuple(sorted({one for one in value["origin"] if PATTERN.match(one)}))
        except (OSError, ValueError, KeyError, TypeError):
            return ()

    def same(self, path: str, content: bytes) -> bool:
        """Whether a small file has that content."""
        try:
            return (self.root / path).read_bytes() == content
        except OSError:
            return False

    def check_folders(self, path: str) -> None:
        """See that nothing but folders is on the way to ``path``; E533."""
        place = self.root
        for part in path.split("/")[:-1]:
            place = place / part
            try:
                mode = place.lstat().st_mode
            except FileNotFoundError:
                return
            if not stat.S_ISDIR(mode):
                what = "a symbolic link" if stat.S_ISLNK(mode) else "a file"
                raise AfenvError(
                    "E533", f"{what} is where a folder of the publication would be", place=str(place)
                )

    def images(self) -> Iterator[PublishedImage]:
        """The images that have a name and a manifest, by name; E533 for a manifest that is damaged."""
        metadata = self.root / METADATA
        for place, folders, files in os.walk(metadata):
            folders.sort()
            if "manifest.json" in files:
                name = os.path.relpath(place, metadata)
                if (self.root / name).is_symlink():
                    yield self._image(name)

    def _image(self, name: str) -> PublishedImage:
        place = self.root / manifest_path(name)
        try:
            value: Any = json.loads(place.read_bytes())
            digests = [value["config"]["digest"], *(layer["digest"] for layer in value["layers"])]
            if not all(PATTERN.match(digest) for digest in digests):
                raise ValueError("a digest is none")
        except OSError as error:
            raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(place)) from None
        except (ValueError, KeyError, TypeError) as error:
            raise AfenvError("E533", f"the manifest is damaged: {error}", place=str(place)) from None
        return PublishedImage(name=name, image_id=digests[0], layers=tuple(digests[1:]))

    def links(self) -> Iterator[str]:
        """Where the links of all names lead, whoever made them."""
        for place, folders, files in os.walk(self.root):
            if Path(place) == self.root:
                folders[:] = [name for name in folders if not name.startswith(".")]
            for name in (*folders, *files):
                path = Path(place, name)
                if path.is_symlink():
                    yield os.path.normpath(
                        os.path.relpath(path.parent, self.root) + "/" + str(path.readlink())
                    )

    def garbage(self) -> tuple[str, ...]:
        """Flat trees that no name leads to and layers that no image has; of those that afenv wrote."""
        images = list(self.images())
        flat = {flat_path(one.image_id) for one in images} | set(self.links())
        layers = {layer_path(digest) for one in images for digest in one.layers}
        found = [path for path in self._digests(FLAT) if path not in flat and self._is_ours(self.root / path)]
        found += [path for path in self._digests(LAYERS) if path not in layers and self._our_layer(path)]
        return tuple(found)

    def _our_layer(self, path: str) -> bool:
        place = self.root / path / ".metadata" / "layers.json"
        try:
            return bool(json.loads(place.read_bytes())[0]["tool"] == "afenv")
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return False

    def _digests(self, folder: str) -> Iterator[str]:
        try:
            for first in sorted((self.root / folder).iterdir()):
                if first.is_dir() and not first.is_symlink():
                    for one in sorted(first.iterdir()):
                        if PATTERN.match(f"sha256:{one.name}") and one.is_dir():
                            yield f"{folder}/{first.name}/{one.name}"
        except FileNotFoundError:
            return
        except OSError as error:
            raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(error.filename)) from None


def origin_text(images: tuple[str, ...]) -> bytes:
    """The note of the images that have a layer, as DUCC writes it."""
    return json.dumps({"origin": sorted(set(images))}, separators=(",", ":")).encode()
