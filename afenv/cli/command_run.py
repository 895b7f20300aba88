"""``afenv run``, and what ``afenv shell`` has in common with it."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from afenv.cli.output import say
from afenv.documents.manifest import AnalysisManifest
from afenv.oci.model import Image
from afenv.run.request import Mount, parse_bind, parse_variable
from afenv.workflow.lock import load
from afenv.workflow.project import Project, choose_environment, open_project
from afenv.workflow.running import image_to_run


def run(options: Namespace) -> int:
    """Build what is not built, and run the command there; its exit status is ours."""
    return run_in(options, options.arguments)


def run_in(options: Namespace, command: Sequence[str], *, entrypoint: bool = True) -> int:
    """Run ``command`` as the options say; without ``entrypoint`` the manifest's own is passed over."""
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    manifest = load(project)
    name = choose_environment(manifest, options.environment)
    image = image_to_run(
        project, name, locked=options.locked, allow_dirty=options.allow_dirty, live=options.live
    )
    workdir = options.folder_of_analysis.absolute() if options.folder_of_analysis != Path() else Path.cwd()
    if getattr(options, "batch", None):
        return _write_batch(options, project, image, command, workdir)
    from afenv.run.container import plan_run, run_image

    with project.store.in_use():
        plan = plan_run(
            image,
            project.store,
            command,
            workdir=workdir,
            runtime=options.runtime,
            interactive=sys.stdin is not None and sys.stdin.isatty(),
            mounts=_mounts(options, project, manifest, image),
            env=dict(parse_variable(text, os.environ) for text in options.env),
            gpu=_gpu(options, manifest, name),
            network=not options.no_network,
            entrypoint=entrypoint,
            load=not options.dry_run,
            quiet=options.quiet,
        )
        if options.dry_run:
            print(plan.shown())
            return 0
        return run_image(plan)


def _mounts(
    options: Namespace, project: Project, manifest: AnalysisManifest, image: Image
) -> tuple[Mount, ...]:
    from afenv.run.cvmfs import cvmfs_mounts

    labels = (image.configuration().get("config") or {}).get("Labels") or {}
    found = [*cvmfs_mounts(labels), *(parse_bind(text) for text in options.bind)]
    if options.live:
        from afenv.workflow.live import live_binds

        found += [Mount(bind.source, bind.target) for bind in live_binds(manifest, project.folder)]
    return tuple(found)


def _gpu(options: Namespace, manifest: AnalysisManifest, name: str) -> bool:
    asked = manifest.environments[name].gpu
    if asked is None or options.no_gpu:
        return False
    from afenv.run.gpu import wants_gpu

    return wants_gpu(True, asked.optional, warn=lambda text: say(f"warning: {text}", quiet=options.quiet))


def _write_batch(
    options: Namespace, project: Project, image: Image, command: Sequence[str], workdir: Path
) -> int:
    raise NotImplementedError
