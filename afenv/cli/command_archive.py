"""``afenv archive``."""

from __future__ import annotations

import re
from argparse import Namespace

from afenv.cli.output import print_json
from afenv.errors import AfenvError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def run(options: Namespace) -> int:
    """Write the bag, and say what is in it."""
    from afenv.progress import counted, human_size
    from afenv.workflow.archive import ArchiveOptions, archive
    from afenv.workflow.project import open_project

    folder = options.folder_of_analysis
    if options.object and not options.ocfl:
        raise AfenvError("E030", "--object names an object of an OCFL store: it goes with --ocfl")
    signer = None
    if options.sign:
        from afenv.workflow.sign import file_signer

        signer = file_signer(folder / options.sign)
    done = archive(
        open_project(folder, offline=options.offline, quiet=options.quiet),
        ArchiveOptions(
            output=folder / options.output if options.output else None,
            environment=options.environment,
            sif=not options.no_sif,
            vm=options.vm,
            data=options.data,
            results=tuple(folder / one for one in options.results),
            keys=tuple(folder / one for one in options.key),
            signer=signer,
            part_size=_size(options.part_size) if options.part_size else None,
            without_restricted=options.without_restricted,
            software=not options.without_afenv,
            ocfl=folder / options.ocfl if options.ocfl else None,
            object_id=options.object,
            allow_dirty=options.allow_dirty,
        ),
    )
    if options.json:
        print_json(done.as_json())
        return 0
    index = done.index
    for name, one in sorted(index.environments.items()):
        print(f"{name}  {one.image_id}")
    for path in done.paths:
        print(path)
    print(f"{counted(len(index.files), 'file')}, {human_size(done.size)}")
    for limited in index.restricted:
        print(f"limited: {limited.name}: {limited.license}. {limited.reason}")
    for left_out in index.left_out:
        print(f"left out: {left_out.name}, sha256:{left_out.sha256}")
    if index.restricted and not index.left_out:
        print("These may not be passed on freely; --without-restricted leaves them out.")
    for note in index.notes:
        print(f"note: {note}")
    return 0


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([kKmMgGtT]?)[bB]?", text)
    if not found or not int(found[1]):
        raise AfenvError("E030", f"{text!r} is not a size such as 50G or 500M", place="--part-size")
    return int(found[1]) * _UNITS[found[2].lower()]
