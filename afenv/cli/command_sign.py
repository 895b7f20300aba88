"""``afenv sign``."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.progress import counted
from afenv.workflow.sign import file_signer, keyless_signer, sign


def run(options: Namespace) -> int:
    """Sign an image and what is attached to it."""
    folder = options.folder_of_analysis
    if options.offline and (options.keyless or not (folder / options.image).exists()):
        raise AfenvError("E030", "this needs a connection: it does not go with --offline")
    signer = keyless_signer() if options.keyless else file_signer(folder / options.key)
    result = sign(options.image, folder, signer, quiet=options.quiet)
    if options.json:
        print_json(result)
    else:
        count = result["signatures"]
        say(counted(count, "new signature") if count else "it is signed already", quiet=options.quiet)
        print(result["manifest_digest"])
    return 0
