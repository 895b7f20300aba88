"""Virtual machines in a bag: one folder for each environment, which needs QEMU and nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from afenv.archive.index import ArchivedFile
from afenv.archive.items import Item, of_file
from afenv.archive.names import VM
from afenv.documents.vm import FILE_NAME, START, VirtualMachine, parse_vm
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import record
from afenv.store.failures import write_error
from afenv.workflow.archive_bag import Bag
from afenv.workflow.archive_image import Packed
from afenv.workflow.project import Project

ABOUT = {
    "kernel": "kernel of the virtual machine of {}",
    "initramfs": "what the kernel of {} starts with",
    "root.squashfs": "files of the image of {}, for its virtual machine",
    "run.sh": "boots the virtual machine of {} with QEMU: sh run.sh COMMAND",
    FILE_NAME: "description of the virtual machine of {}",
}
# what stands in the way of a machine and not of the archive: no such architecture, no connection
IN_THE_WAY = ("E013", "E203")


@contextmanager
def vm_items(project: Project, packed: Sequence[Packed]) -> Iterator[list[Item]]:
    """A virtual machine of each image, in files that last as long as the block.

    Raises what its builder raises: E013 for an architecture that there is no machine for, E203 where the
    kernel is not in the cache and connections are not allowed.
    """
    from afenv.oci.builders import find_builder

    with tempfile.TemporaryDirectory(dir=project.store.temporary_folder(), prefix="vm-") as folder:
        items = []
        for one in packed:
            path = Path(folder) / one.environment
            options = {"target": "vm", "path": path, "quiet": project.quiet}
            if project.settings.offline:
                options["offline"] = "yes"
            try:
                find_builder("vm").build(one.image, project.store, options)
            except AfenvError as error:
                if error.code not in IN_THE_WAY:
                    raise
                problem = error.problems[0]
                message = f"the archive is to have a virtual machine of {one.environment}: {problem.message}"
                remedy = f"{problem.remedy or ''} Or write the archive without --vm.".strip()
                raise AfenvError(problem.code, message, place=problem.place, remedy=remedy) from None
            for file in sorted(path.iterdir()):
                about = ABOUT[file.name].format(one.environment)
                items.append(of_file(f"{VM}/{one.environment}/{file.name}", file, "vm", about))
        yield items


@record
class KeptMachine:
    """The virtual machine of an environment in a bag: its description, and its files by name."""

    machine: VirtualMachine
    files: dict[str, ArchivedFile]


def machine_in(bag: Bag, environment: str) -> KeptMachine | None:
    """The machine of an environment, if the bag has one.

    E721, E722 and the errors of :func:`afenv.documents.vm.parse_vm` for its description; E727 if that is of
    another image than the bag's, or names other files than are there.
    """
    known = bag.index.environments[environment]
    if known.vm is None:
        return None
    machine = parse_vm(bag.read(known.vm), f"{bag.place}, data/{known.vm}")
    if machine.image_id != known.image_id:
        message = f"the virtual machine of {environment} is of another image, {machine.image_id}"
        raise AfenvError("E727", message, place=bag.place)
    folder = known.vm.removesuffix(FILE_NAME)
    found = {file.path.removeprefix(folder): file for file in bag.index.files if file.path.startswith(folder)}
    for name, expected in machine.files.items():
        file = found.get(name)
        if file is None or (file.size, file.sha256) != (expected.size, expected.sha256):
            message = f"data/{folder}{name} is not the file that data/{known.vm} names"
            raise AfenvError("E727", message, place=bag.place)
    kept = {name: file for name, file in found.items() if name in machine.files or name == FILE_NAME}
    return KeptMachine(machine=machine, files=kept)


def restore_machine(bag: Bag, environment: str, path: Path, *, quiet: bool) -> bool:
    """Write the machine of an environment into a new folder; false if the bag has none.

    E032 if something of that name is there, save an empty folder; the errors of :func:`machine_in` and of
    :meth:`Bag.copy`.
    """
    kept = machine_in(bag, environment)
    if kept is None:
        return False
    path = path.absolute()
    if os.path.lexists(path) and not (path.is_dir() and not path.is_symlink() and not any(path.iterdir())):
        raise AfenvError("E032", "there is something of that name already", place=str(path))
    size = sum(file.size for file in kept.files.values())
    beside = path.with_name(f".{path.name[:100]}.{os.urandom(6).hex()}")
    try:
        with Progress("restoring the virtual machine", size, quiet=quiet) as progress:
            for name, file in kept.files.items():
                bag.copy(file, beside / name, progress.advance)
        if START in kept.files:
            (beside / START).chmod(0o755)
        beside.rename(path)
    except OSError as error:
        raise write_error(error, path) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return True
