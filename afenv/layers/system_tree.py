"""What takes the place of the files that maintainer scripts make, gathered before it is written."""

from __future__ import annotations

from collections.abc import Mapping

from afenv.layers import system_certificates
from afenv.layers.writer import LayerWriter


class SystemTree:
    """Folders with their modes, files with modes and content, links; written in the order of their paths."""

    def __init__(self) -> None:
        self.folders: dict[str, int] = {}
        self.files: dict[str, tuple[int, bytes]] = {}
        self.links: dict[str, str] = {}

    def trust(self, kept: Mapping[str, bytes]) -> list[str]:
        """Add the trusted certificates that packages bring; what is wrong with them, sentences for people."""
        files, links, problems = system_certificates.trusted(kept)
        self.files.update({path: (0o644, data) for path, data in files.items()})
        self.links.update(links)
        return list(problems)

    def write(self, writer: LayerWriter) -> None:
        """Write everything; a link never takes the place of a folder of the base image."""
        for path in sorted({**self.folders, **self.files, **self.links}):
            if path in self.folders:
                writer.directory(path, self.folders[path])
            elif path in self.files:
                writer.file(path, *self.files[path])
            elif not writer.is_base_folder(path):
                writer.symlink(path, self.links[path])
