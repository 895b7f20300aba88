"""``afenv facility``."""

from __future__ import annotations

import sys
from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.documents.facility import FacilityProfile
from afenv.errors import AfenvError


def run(options: Namespace) -> int:
    """Probe this machine, import node labels, or show or check a profile."""
    from afenv.documents.facility_file import read_facility

    if options.action == "probe":
        if options.file is not None:
            raise AfenvError("E030", "probe reads no file; -o FILE writes one")
        from afenv.settings import load_settings
        from afenv.workflow.facility import probe

        profile = probe(
            load_settings(offline=options.offline),
            name=options.name,
            registries=options.registry,
        )
        return _write(options, profile)
    if options.file is None:
        raise AfenvError("E030", f"{options.action} needs a FILE")
    path = options.folder_of_analysis / options.file
    if options.action == "import-labels":
        from afenv.workflow.facility import import_labels

        imported = import_labels(options.file if str(options.file) == "-" else path, options.name)
        for remark in imported.remarks:
            say(f"warning: {remark}", quiet=options.quiet)
        return _write(options, imported.profile)
    profile = read_facility(path)
    if options.action == "check" and not options.json:
        from afenv.facility.describe import not_known

        missing = not_known(profile)
        print(f"{options.file}: valid" + (f"; not known: {', '.join(missing)}" if missing else ""))
        return 0
    if options.json:
        return _print(profile)
    from afenv.facility.describe import describe

    print(describe(profile))
    return 0


def _print(profile: FacilityProfile) -> int:
    from afenv.documents.facility_file import facility_tree

    print_json(facility_tree(profile))
    return 0


def _write(options: Namespace, profile: FacilityProfile) -> int:
    from afenv.documents.facility_file import dump_facility

    if options.output is not None:
        from afenv.store.content import write_error

        output = options.folder_of_analysis / options.output
        try:
            output.write_text(dump_facility(profile), encoding="utf-8")
        except OSError as error:
            raise write_error(error, output) from error
        say(f"wrote {options.output}", quiet=options.quiet)
    if options.json:
        return _print(profile)
    if options.output is None:
        sys.stdout.write(dump_facility(profile))
    return 0
