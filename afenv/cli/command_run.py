"""``afenv run``, and what ``afenv shell`` has in common with it."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from afenv.cli.output import say
from afenv.documents.manifest import AnalysisManifest
from afenv.errors import AfenvError
from afenv.oci.model import Image
from afenv.run.request import Mount, RunRequest, parse_bind, parse_variable
from afenv.store.content import write_error
from afenv.workflow.lock import load
from afenv.workflow.project import Project, choose_environment, open_project
from afenv.workflow.running import image_to_run


def run(options: Namespace) -> int:
    """Build what is not built, and run the command there; its exit status is ours."""
    return run_in(options, options.arguments)


def run_in(options: Namespace, command: Sequence[str], *, entrypoint: bool = True) -> int:
    """Run ``command`` as the options say; without ``entrypoint`` the manifest's own is passed over.

    E030 for options of a job where none is written.
    """
    batch = getattr(options, "batch", None)
    for name in ("output", "cpus", "memory", "gpus", "time"):
        if not batch and getattr(options, name, None) is not None:
            raise AfenvError("E030", f"--{name} is about a job: it goes with --batch")
    if options.image is not None:
        from afenv.cli.command_run_image import run_given

        return run_given(options, command, entrypoint=entrypoint)
    if batch and options.runtime not in (None, "apptainer"):
        message = f"jobs of {batch} run in the batch system's own containers or in Apptainer"
        remedy = f"Leave out the choice of {options.runtime}."
        raise AfenvError("E030", message, place="--batch", remedy=remedy)
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    manifest = load(project)
    name = choose_environment(manifest, options.environment)
    live = _live_mounts(project, manifest) if options.live else ()  # before anything is built
    image = image_to_run(
        project, name, locked=options.locked, allow_dirty=options.allow_dirty, live=options.live
    )
    workdir = options.folder_of_analysis.absolute() if options.folder_of_analysis != Path() else Path.cwd()
    from afenv.run.container import plan_request, request_of, run_image

    request = request_of(
        command,
        workdir=workdir,
        interactive=not batch and sys.stdin is not None and sys.stdin.isatty(),
        mounts=(*mounts_of(options, image.configuration().get("config") or {}), *live),
        env=dict(parse_variable(text, os.environ) for text in options.env),
        gpu=_gpu(options, manifest, name, here=not batch),
        network=not options.no_network,
        entrypoint=entrypoint,
    )
    if batch:
        return _write_batch(options, project, name, image, request)
    with project.store.in_use():
        plan = plan_request(
            image,
            project.store,
            request,
            runtime=options.runtime,
            load=not options.dry_run,
            quiet=options.quiet,
        )
        if options.dry_run:
            print(plan.shown())
            return 0
        return run_image(plan)


def mounts_of(options: Namespace, settings: Mapping[str, Any]) -> tuple[Mount, ...]:
    """What the image's labels and ``--bind`` ask for; ``settings`` is the image's ``config``.

    E148 with ``--strict`` for another revision of CVMFS than the locked one, else a warning.
    """
    from afenv.run.cvmfs import check_revisions, cvmfs_mounts

    labels = settings.get("Labels") or {}
    found = cvmfs_mounts(labels)
    check_revisions(
        labels, strict=options.strict, warn=lambda text: say(f"warning: {text}", quiet=options.quiet)
    )
    return (*found, *(parse_bind(text) for text in options.bind))


def _live_mounts(project: Project, manifest: AnalysisManifest) -> tuple[Mount, ...]:
    from afenv.workflow.live import live_binds

    return tuple(Mount(bind.source, bind.target) for bind in live_binds(manifest, project.folder))


def _gpu(options: Namespace, manifest: AnalysisManifest, name: str, *, here: bool) -> bool:
    """Whether the GPU goes in; one that is needed ``here`` must be here."""
    asked = manifest.environments[name].gpu
    if asked is None or options.no_gpu:
        return False
    if not here:
        return True
    from afenv.run.gpu import wants_gpu

    return wants_gpu(True, asked.optional, warn=lambda text: say(f"warning: {text}", quiet=options.quiet))


def _write_batch(
    options: Namespace, project: Project, environment: str, image: Image, request: RunRequest
) -> int:
    from afenv.oci.builders import find_builder
    from afenv.run.apptainer import for_jobs
    from afenv.run.batch import htcondor_file, parse_resources, slurm_script

    resources = parse_resources(options.cpus, options.memory, options.gpus, options.time)
    request = replace(request, gpu=request.gpu or bool(resources.gpus))
    path = project.work_folder() / f"{environment}.sif"
    find_builder("sif").build(image, project.store, {"target": "sif", "path": path, "quiet": options.quiet})
    config = image.configuration().get("config") or {}
    if options.batch == "slurm":
        text = slurm_script(image.name, path, config, request, resources, for_jobs())
    else:
        text = htcondor_file(image.name, path, config, request, resources)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    output = options.folder_of_analysis / options.output
    try:
        output.write_text(text)
    except OSError as error:
        raise write_error(error, output) from error
    return 0
