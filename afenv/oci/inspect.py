"""What ``afenv inspect`` shows of an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afenv.oci.files import merged
from afenv.oci.model import Image
from afenv.oci.packages import Package, find_packages, holds_packages
from afenv.oci.read import open_image
from afenv.progress import human_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """An image, and what it holds; ``installed`` is the size of all files in bytes."""

    image: Image
    packages: tuple[Package, ...]
    files: int
    installed: int

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        image = self.image
        config = image.configuration()
        settings = config.get("config") or {}
        return {
            "image_id": image.image_id,
            "manifest_digest": image.manifest_digest,
            "reference": image.reference,
            "created": config.get("created"),
            "platform": image.platform(),
            "size": image.size,
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
                for layer in image.layers
            ],
            "packages": [package._asdict() for package in self.packages],
        }

    def as_text(self) -> str:
        """The same for people."""
        value = self.as_json()
        platform = "/".join(
            value["platform"].get(key, "") for key in ("os", "architecture", "variant")
        ).rstrip("/")
        lines = [
            ("image", value["reference"]),
            ("image ID", value["image_id"]),
            ("manifest", value["manifest_digest"]),
            ("created", value["created"] or ""),
            ("platform", platform),
            ("size", f"{human_size(self.image.size)}, {human_size(self.installed)} as {self.files} files"),
            ("user", value["user"] or "root"),
            ("folder", value["workdir"] or "/"),
            ("entry point", " ".join(value["entrypoint"])),
            ("command", " ".join(value["command"])),
        ]
        text = [f"{name:<12}{content}" for name, content in lines if content]
        text += _section("environment", value["environment"])
        text += _section("labels", [f"{key}={label}" for key, label in sorted(value["labels"].items())])
        text += _section(
            f"layers ({len(self.image.layers)})",
            [
                f"{layer.diff_id[7:19]}  {human_size(layer.size):>9}  {layer.source}".rstrip()
                for layer in self.image.layers
            ],
        )
        for kind, title in (("deb", "Debian packages"), ("python", "Python packages")):
            chosen = [package for package in self.packages if package.kind == kind]
            if chosen:
                text += _section(f"{title} ({len(chosen)})", [f"{one.name} {one.version}" for one in chosen])
        return "\n".join(text)


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def inspect_image(path: Path, *, reference: str | None = None) -> Inspection:
    """Read an image's config and layers; E001 or E510 if it cannot be read."""
    with open_image(path, reference=reference) as opened:
        files = merged(opened, contents=False, keep=holds_packages)
        return Inspection(
            image=opened.image,
            packages=tuple(find_packages(files)),
            files=sum(entry.kind == "f" for entry in files.values()),
            installed=sum(entry.size for entry in files.values()),
        )
