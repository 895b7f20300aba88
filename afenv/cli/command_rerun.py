"""``afenv rerun``."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from afenv.cli.output import print_json, say
from afenv.errors import AfenvError
from afenv.progress import human_size

if TYPE_CHECKING:
    from pathlib import Path

    from afenv.rerun.run import Plan
    from afenv.workflow.project import Project


def run(options: Namespace) -> int:
    """Run the steps that are out of date, and say where their outputs are."""
    from afenv.workflow.project import open_project
    from afenv.workflow.rerun import RerunOptions, planned

    if options.check and options.dry_run:
        raise AfenvError("E030", "--check compares what ran; with --dry-run nothing does", place="--check")
    if options.check:
        from afenv.workflow.compare import check_reference

        check_reference(options.folder_of_analysis / options.check)
    project = open_project(options.folder_of_analysis, offline=options.offline, quiet=options.quiet)
    output = options.folder_of_analysis / options.output if options.output else None
    asked = RerunOptions(
        steps=tuple(options.steps),
        data=tuple(options.set),
        parameters=tuple(options.param),
        output=output,
        jobs=_jobs(options.jobs),
        runtime=options.runtime,
        network=options.network,
        locked=options.locked,
        allow_dirty=options.allow_dirty,
    )
    with planned(project, asked) as (plan, lock):
        if options.dry_run:
            return _show_plan(plan, as_json=options.json)
        from afenv.rerun.run import execute, not_enforced

        for sentence in not_enforced(plan):
            say(f"warning: {sentence}", quiet=options.quiet)
        stale = plan.stale
        record = execute(plan, lock, quiet=options.quiet)
    if options.json and not options.check:
        print_json(record)
        return 0
    if not stale:
        say("nothing is out of date", quiet=options.quiet)
    for step in record["steps"]:
        if step["name"] in plan.names:
            say(f"{step['name']}: {_summary(step)}", quiet=options.quiet)
    if options.check:
        return _check(options, project, plan.folder.path)
    print(plan.folder.path)
    return 0


def _check(options: Namespace, project: Project, run: Path) -> int:
    """Compare with the reference, and leave verdict and report in the folder of the run."""
    from afenv import canonical
    from afenv.cli.command_compare import show, write_report
    from afenv.store.content import write_error
    from afenv.workflow.compare import CompareOptions, compare

    asked = CompareOptions(reference=True, quiet=options.quiet)
    found = compare(project.folder, run, options.folder_of_analysis / options.check, asked)
    verdict = run / "comparison.json"
    try:
        verdict.write_bytes(canonical.indented(found.as_json()))
    except OSError as error:
        raise write_error(error, verdict) from error
    report = run / "comparison.html"
    write_report(found, report)
    if options.json:
        print_json(found.as_json())
    else:
        show(found)
        say(f"report: {report}", quiet=options.quiet)
    return 0 if found.verdict == "same" else 1


def _jobs(given: int | None) -> int:
    if given is not None and given < 1:
        raise AfenvError("E030", f"{given} is not a number of at least 1", place="-j")
    return given or 0


def _show_plan(plan: Plan, *, as_json: bool) -> int:
    if as_json:
        steps = [{"name": name, "reason": plan.verdicts[name].reason} for name in plan.names]
        print_json({"folder": str(plan.folder.path), "steps": steps})
        return 0
    for name in plan.names:
        reason = plan.verdicts[name].reason
        print(f"{name}: {f'runs, as {reason}' if reason else 'is up to date'}")
    return 0


def _summary(step: dict[str, Any]) -> str:
    parts = [f"{step['wall']:.1f} s"]
    if "cpu" in step:
        parts.append(f"CPU {sum(step['cpu'].values()):.1f} s")
    if "memory" in step:
        parts.append(f"memory {human_size(step['memory']['peak'])}")
    parts += [f"{output['path']} ({human_size(output['size'])})" for output in step["outputs"]]
    return ", ".join(parts)
