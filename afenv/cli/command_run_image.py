"""``afenv run --image`` and ``afenv shell --image``: what needs no manifest."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afenv.cli.command_run import mounts_of
from afenv.cli.output import say
from afenv.errors import AfenvError
from afenv.run.container import request_of, run_image
from afenv.run.request import parse_variable
from afenv.settings import load_settings
from afenv.store.content import ContentStore
from afenv.workflow.running_image import open_given, plan_given

_OF_A_MANIFEST = ("environment", "batch", "live", "locked", "allow_dirty")


def run_given(options: Namespace, command: Sequence[str], *, entrypoint: bool = True) -> int:
    """Run ``command`` in the image that ``--image`` names; its exit status.

    E030 for options that a manifest belongs to.
    """
    for name in _OF_A_MANIFEST:
        if getattr(options, name, None):
            word = name.replace("_", "-")
            raise AfenvError(
                "E030", f"--{word} is about the analysis of a manifest; with --image there is none"
            )
    store = ContentStore(load_settings(offline=options.offline).cache_folder)
    with store.in_use():
        given = open_given(options.folder_of_analysis / options.image, store)
        request = request_of(
            command,
            workdir=options.folder_of_analysis if options.folder_of_analysis != Path() else Path.cwd(),
            interactive=sys.stdin is not None and sys.stdin.isatty(),
            mounts=mounts_of(options, given.settings),
            env=dict(parse_variable(text, os.environ) for text in options.env),
            gpu=_gpu(options, given.settings),
            network=not options.no_network,
            entrypoint=entrypoint,
        )
        plan = plan_given(
            given, store, request, runtime=options.runtime, load=not options.dry_run, quiet=options.quiet
        )
        if options.dry_run:
            print(plan.shown())
            return 0
        return run_image(plan)


def _gpu(options: Namespace, settings: Mapping[str, Any]) -> bool:
    """Whether the GPU goes in, by the variables that ask NVIDIA's container toolkit for one."""
    if options.no_gpu:
        return False
    from afenv.oci import media
    from afenv.run.gpu import wants_gpu
    from afenv.workflow.check import gpu_of_variables

    need = gpu_of_variables(settings.get("Env") or (), ours=media.ANALYSIS in (settings.get("Labels") or {}))
    if need is None:
        return False
    return wants_gpu(True, need.optional, warn=lambda text: say(f"warning: {text}", quiet=options.quiet))
