"""``afenv demo``: the example analysis, from the manifest to its plot."""

from __future__ import annotations

from argparse import Namespace

from afenv.cli.output import say, show_built
from afenv.errors import AfenvError
from afenv.run.container import find_runtime, plan_run, run_image
from afenv.workflow.build import build_project
from afenv.workflow.demo import COMMAND, copy_example
from afenv.workflow.project import open_project


def run(options: Namespace) -> int:
    """Copy the example, build and check its image, and run it where a container runtime is found."""
    folder = copy_example(options.folder_of_analysis / options.folder)
    say(f"the example is in {folder}", quiet=options.quiet)
    project = open_project(folder, offline=options.offline, quiet=options.quiet)
    (built,) = build_project(project, check=True)
    show_built(built.as_json(), quiet=options.quiet)
    try:
        runtime = find_runtime(None)
    except AfenvError as error:
        if error.code != "E501":
            raise
        say("the image is built and every digest in it checked; there is no container runtime to run it with")
        return 0
    say(f"running it with {runtime.name}: {' '.join(COMMAND)}", quiet=options.quiet)
    status = run_image(
        plan_run(
            built.image,
            project.store,
            COMMAND,
            workdir=folder,
            runtime=runtime.name,
            interactive=False,
            quiet=options.quiet,
        )
    )
    if status == 0:
        say(f"the results are in {folder / 'results'}", quiet=options.quiet)
    return status
