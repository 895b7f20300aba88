"""Environments that another tool makes whole: built when they are locked, and pinned by what came out."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from afenv.documents.lock import LockedBuilder, LockedCode
from afenv.documents.manifest import BuilderSection, Environment
from afenv.errors import AfenvError
from afenv.workflow.base_part import BasePart
from afenv.workflow.project import Project


def build_part(
    project: Project, name: str, environment: Environment, files: LockedCode
) -> tuple[BasePart, LockedBuilder]:
    """Let the tool make the image, and bring it into the store as the base of the environment.

    E415 if the tool is not at hand, E416 if it fails, and what reading the files and the image raises.
    """
    from afenv.layers.code import write_code
    from afenv.oci.base import base_of_image
    from afenv.oci.importing import import_image
    from afenv.oci.recipes import find_recipe_builder

    section = environment.builder
    assert section is not None
    tool = find_recipe_builder(section.name)
    log = project.work_folder() / f"{name}.{section.name}.log"
    place = f"{section.name}:{section.folder}"
    with tempfile.TemporaryDirectory(prefix="afenv-") as temporary:
        context, archive = Path(temporary) / "context", Path(temporary) / "image.tar"
        context.mkdir()
        folder = _Folder(context)
        write_code(files, project.folder, project.store, project.settings, folder, quiet=project.quiet)
        _check_recipe(section, context)
        options = {"file": section.file, "platform": environment.platform}
        try:
            with log.open("w", encoding="utf-8") as output:
                last = ""

                def say(line: str) -> None:
                    nonlocal last
                    last = line
                    print(line, file=output, flush=True)
                    if not project.quiet:
                        sys.stderr.write(f"  {line}\n")

                version = tool.build(context, options, archive, say)
        except AfenvError as error:
            if error.code != "E416":
                raise
            words = error.problems[0].message
            words += f" ({last.strip()})" if last.strip() not in words else ""
            message = f"{words}; its output is in {log}"
            raise AfenvError("E416", message, place=place) from None
        image = import_image(archive, project.store)
    base, _ = base_of_image(image, project.store, reference=place, platform=environment.platform)
    builder = LockedBuilder(name=section.name, version=version, tree=files.tree)
    return BasePart(name=f"the image of {section.name}", base=base), builder


def _check_recipe(section: BuilderSection, context: Path) -> None:
    if section.name == "docker" and not (context / section.file).is_file():
        raise AfenvError(
            "E001",
            f"there is no {section.file} in {section.folder}",
            path="builder.file",
            remedy="Name it with `file`, relative to `path`; untracked files are not seen.",
        )


class _Folder:
    """Code written as files into a folder that is empty at first, with the modes that git knows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def directory(self, path: str, mode: int = 0o755) -> None:
        (self._folder / path).mkdir(mode, parents=True, exist_ok=True)

    def file(self, path: str, mode: int, data: bytes | memoryview) -> None:
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            file.write(data)
        place.chmod(mode)

    def symlink(self, path: str, target: str) -> None:
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
