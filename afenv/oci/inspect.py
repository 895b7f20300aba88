"""What ``afenv inspect`` shows of an image, in any of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError
from afenv.oci import media
from afenv.oci.forms import Form, Tree, open_tree
from afenv.oci.model import Image
from afenv.oci.packages import Package, find_packages, holds_packages
from afenv.oci.sif import Sif
from afenv.oci.sif_record import SifRecord
from afenv.progress import counted, human_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """An image, and what it holds.

    ``size`` is that of the blobs or of the file, ``installed`` that of all files together, in bytes.
    ``image`` is None for a form that another tool made, which does not say which image it holds.
    """

    form: Form
    image: Image | None
    config: Mapping[str, Any]
    packages: tuple[Package, ...]
    files: int
    installed: int
    size: int
    sif: Sif | None = None
    packed: SifRecord | None = None
    compressor: str = ""

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        image, config = self.image, self.config
        settings = config.get("config") or {}
        return {
            "form": self.form,
            "image_id": image.image_id if image else None,
            "manifest_digest": image.manifest_digest if image else None,
            "reference": image.reference if image else "",
            "created": config.get("created"),
            "platform": {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)},
            "base": self._base(),
            "size": self.size,
            "files": self.files,
            "installed_size": self.installed,
            "user": settings.get("User", ""),
            "workdir": settings.get("WorkingDir", ""),
            "entrypoint": settings.get("Entrypoint") or [],
            "command": settings.get("Cmd") or [],
            "environment": settings.get("Env") or [],
            "labels": settings.get("Labels") or {},
            "layers": [
                {
                    "diff_id": layer.diff_id,
                    "digest": layer.digest,
                    "size": layer.size,
                    "media_type": layer.media_type,
                    "source": layer.source,
                }
                for layer in (image.layers if image else ())
            ],
            "packages": [package._asdict() for package in self.packages],
            "packed": self._packed(),
            "sif": self._sif(),
        }

    def _base(self) -> dict[str, str] | None:
        """The image that this one stands on, by the annotations of OCI that afenv has among its labels."""
        labels = (self.config.get("config") or {}).get("Labels") or {}
        found = {key: str(labels.get(f"{media.OCI_PREFIX}base.{key}", "")) for key in ("name", "digest")}
        return found if all(found.values()) else None

    def _packed(self) -> dict[str, Any] | None:
        """How the file system was packed; None for OCI images."""
        if not self.compressor and self.packed is None:
            return None
        found = self.packed
        return {
            "compressor": found.compressor if found else self.compressor,
            "tool": found.tool if found else None,
            "fallback": (found.fallback if found else "") or None,
        }

    def _sif(self) -> dict[str, Any] | None:
        if self.sif is None:
            return None
        return {
            "id": str(self.sif.identity),
            "architecture": self.sif.architecture,
            "signed_by": sorted({one.fingerprint for one in self.sif.signatures()}),
        }

    def as_text(self) -> str:
        """The same for people."""
        value = self.as_json()
        platform = "/".join(
            value["platform"].get(key, "") for key in ("os", "architecture", "variant")
        ).strip("/")
        lines = [
            ("image", value["reference"]),
            ("form", "" if self.form == "oci" else self._form()),
            ("image ID", value["image_id"] or ""),
            ("manifest", value["manifest_digest"] or ""),
            ("created", value["created"] or ""),
            ("platform", platform),
            ("base", "@".join(value["base"].values()) if value["base"] else ""),
            (
                "size",
                f"{human_size(self.size)}, {human_size(self.installed)} as {counted(self.files, 'file')}",
            ),
            ("signed by", self._signed()),
            ("user", value["user"] or "root"),
            ("folder", value["workdir"] or "/"),
            ("entry point", " ".join(value["entrypoint"])),
            ("command", " ".join(value["command"])),
        ]
        text = [f"{name:<12}{content}" for name, content in lines if content]
        text += _section("environment", value["environment"])
        text += _section("labels", [f"{key}={label}" for key, label in sorted(value["labels"].items())])
        layers = self.image.layers if self.image else ()
        text += _section(
            f"layers ({len(layers)})",
            [
                f"{layer.diff_id[7:19]}  {human_size(layer.size):>9}  {layer.source}".rstrip()
                for layer in layers
            ],
        )
        for kind, title in (("deb", "Debian packages"), ("python", "Python packages")):
            chosen = [package for package in self.packages if package.kind == kind]
            if chosen:
                text += _section(f"{title} ({len(chosen)})", [f"{one.name} {one.version}" for one in chosen])
        return "\n".join(text)

    def _form(self) -> str:
        packed = self._packed() or {}
        words = [packed.get("compressor"), f"by {packed['tool']}" if packed.get("tool") else None]
        text = ", ".join(filter(None, [self.form, " ".join(filter(None, words))]))
        return f"{text} ({packed['fallback']})" if packed.get("fallback") else text

    def _signed(self) -> str:
        if self.sif is None:
            return ""
        keys = sorted({one.fingerprint for one in self.sif.signatures()})
        return f"{', '.join(keys)}; not checked here, apptainer verify does" if keys else "nobody"


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def inspect_image(path: Path, *, reference: str | None = None) -> Inspection:
    """Read an image's config and files; E001 or E510 if it cannot be read or is none."""
    with open_tree(path, reference=reference) as tree:
        if tree.form == "folder" and tree.image is None:
            raise AfenvError("E510", "this folder is not an image that afenv wrote", place=str(path))
        files = tree.files(contents=False, keep=holds_packages)
        installed = sum(entry.size for entry in files.values())
        return Inspection(
            form=tree.form,
            image=tree.image,
            config=tree.config or {},
            packages=tuple(find_packages(files)),
            files=sum(entry.kind == "f" for entry in files.values()),
            installed=installed,
            size=_size(tree, installed),
            sif=tree.sif,
            packed=tree.packed,
            compressor=tree.compressor,
        )


def _size(tree: Tree, installed: int) -> int:
    if tree.form == "oci" and tree.image is not None:
        return tree.image.size
    return installed if tree.form == "folder" else tree.path.stat().st_size
