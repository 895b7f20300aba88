"""Build commands and conda's post-link scripts: run on the image so far, each kind giving a layer.

A layer is found by the digest of everything that went in (:meth:`~afenv.workflow.sandbox.Work.inputs`), so
commands run again only when something changed. What came out is written into the lock, with that digest;
a later build with the same inputs and another result is an error when the lock is to be kept.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from afenv.documents.lock import Lock, LockedConda, LockedEnvironment, LockedResult
from afenv.errors import AfenvError, Problem
from afenv.layers.model import Layer
from afenv.oci.image import HOME, assemble
from afenv.oci.model import Image
from afenv.oci.unpack import unpacked_root
from afenv.record import record, replace
from afenv.workflow.project import Project
from afenv.workflow.sandbox import (
    Work,
    account,
    differences,
    known_layer,
    remember_layer,
    run_work,
    variables_inside,
)

CONDA_ENVIRONMENT = "conda:environment"  # the layer on which post-link scripts run
SHOWN = 50  # differences that are named
NAMED = 200  # characters of the commands in the name of their layer

# bash is what conda runs the scripts with; they are written for it
_BASH = 'if command -v bash >/dev/null; then exec bash "$0"; else exec /bin/sh "$0"; fi'


@record
class Ran:
    """What was run in the sandbox: the work, the log, and its layer; ``fresh`` if it was run just now."""

    kind: str
    work: Work
    log: Path
    layer: Layer
    fresh: bool


def sandbox_layers(
    project: Project, lock: Lock, name: str, layers: Sequence[Layer], created: int, *, keep: bool
) -> tuple[list[Layer], Lock, list[Ran]]:
    """The layers with those of post-link scripts and build commands, and the lock with their results.

    With ``keep``, a result that is not the one that the lock has is E412. Raises as
    :func:`~afenv.workflow.sandbox.run_work`.
    """
    found = list(layers)
    ran = []
    environment = lock.environments[name]
    scripts = _link_scripts(environment)
    if scripts:
        position = 1 + next(i for i, layer in enumerate(found) if layer.source == CONDA_ENVIRONMENT)
        done = _do(
            project, lock, name, found[:position], 0, created, "post-link", scripts, environment.linked, keep
        )
        found.insert(position, done.layer)
        environment = replace(environment, linked=_result(done))
        ran.append(done)
    if environment.build:
        commands = [(command, ("/bin/sh", "-c", command)) for command in environment.build]
        code = len(lock.code)
        done = _do(project, lock, name, found, code, created, "build", commands, environment.built, keep)
        found.append(done.layer)
        environment = replace(environment, built=_result(done))
        ran.append(done)
    return found, replace(lock, environments={**lock.environments, name: environment}), ran


def _result(done: Ran) -> LockedResult:
    return LockedResult(inputs=done.work.inputs(), diff_id=done.layer.diff_id)


def _link_scripts(environment: LockedEnvironment) -> list[tuple[str, tuple[str, ...]]]:
    """Name and command of each script that may run, in the order of installation."""
    if not environment.post_link:
        return []
    from afenv.layers.conda_order import installation_order

    prefix = environment.conda_prefix or ""
    wanted = set(environment.post_link)
    return [
        (f"post-link script of {package.name}", _script(prefix, package))
        for package in installation_order(environment.conda)
        if package.name in wanted
    ]


def _script(prefix: str, package: LockedConda) -> tuple[str, ...]:
    """The script with the variables that conda gives it, and its messages shown as conda does."""
    variables = {
        "PREFIX": prefix,
        "ROOT_PREFIX": prefix,
        "PKG_NAME": package.name,
        "PKG_VERSION": package.version,
        "PKG_BUILDNUM": str(package.build_number),
    }
    settings = " ".join(f"{key}={_quote(value)}" for key, value in variables.items())
    script = f"{prefix}/bin/.{package.name}-post-link.sh"
    messages = f"{prefix}/.messages.txt"
    line = (
        f'[ -e "$0" ] || exit 0; export {settings}; /bin/sh -c {_quote(_BASH)} "$0" || exit; '
        f"if [ -e {_quote(messages)} ]; then cat {_quote(messages)}; rm {_quote(messages)}; fi"
    )
    return ("/bin/sh", "-c", line, script)


def _quote(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _do(
    project: Project,
    lock: Lock,
    name: str,
    layers: Sequence[Layer],
    code: int,
    created: int,
    kind: str,
    commands: Sequence[tuple[str, tuple[str, ...]]],
    locked: LockedResult | None,
    keep: bool,
) -> Ran:
    bring_base_layers(project, lock.environments[name])
    image = assemble(lock, name, layers, created, project.store)
    before = [word for layer in layers for word in layer.entrypoint]
    work = work_on(project, image, code, created, before, commands)
    log = project.work_folder() / f"{name}-{kind}.log"
    source = f"{kind}: {_in_one_line([title for title, _ in commands])}"
    inputs = work.inputs()
    layer = known_layer(project.store, inputs, source)
    fresh = layer is None
    if layer is None:
        layer = run_work(project, work, log, source)
        remember_layer(project.store, inputs, layer)
    if locked is not None and locked.inputs == inputs and locked.diff_id != layer.diff_id:
        message = f"the {kind} commands of {name} gave {layer.diff_id}, and the lock records {locked.diff_id}"
        if keep:
            raise AfenvError("E412", message, place=str(project.lock_path))
        _note(project, f"{message}; the lock is changed")
    if locked is None and keep:
        _note(
            project, f"the lock records no result of the {kind} commands of {name}: nothing to compare with"
        )
    return Ran(kind=kind, work=work, log=log, layer=layer, fresh=fresh)


def _in_one_line(titles: Sequence[str]) -> str:
    """Commands as the name of their layer."""
    text = "; ".join(" ".join(title.split()) for title in titles)
    return text if len(text) <= NAMED else f"{text[:NAMED]} …"


def bring_base_layers(project: Project, environment: LockedEnvironment) -> None:
    """See to it that the layers of the base image, if there is one, are in the store."""
    if environment.base is not None:
        from afenv.workflow.base import ensure_base

        ensure_base(project, environment.base, environment.platform, made_by=environment.builder)


def _note(project: Project, text: str) -> None:
    if not project.quiet:
        sys.stderr.write(f"warning: {text}\n")


def work_on(
    project: Project,
    image: Image,
    code: int,
    created: int,
    before: Sequence[str],
    commands: Sequence[tuple[str, tuple[str, ...]]],
) -> Work:
    """The commands on the files of an image; the ``code`` uppermost layers are unpacked by themselves.

    So a change of the code unpacks the code alone.
    """
    cut = len(image.layers) - code
    parts = [(image.layers[cut:], True), (image.layers[:cut], project.quiet)]
    lowers = tuple(
        unpacked_root(part, project.store, quiet=quiet, owners=False) for part, quiet in parts if part
    )
    config = image.configuration()["config"]
    user, group, home = account(str(config.get("User") or "1000"), lowers[::-1], HOME)
    return Work(
        below=tuple(layer.diff_id for layer in image.layers),
        lowers=lowers,
        commands=tuple((*before, *command) for _, command in commands),
        names=tuple(title for title, _ in commands),
        variables=variables_inside(_pairs(config.get("Env") or ()), home, created),
        folder=str(config.get("WorkingDir") or home),
        user=user,
        group=group,
        time=created,
    )


def _pairs(lines: Sequence[str]) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


def check_reproducible(project: Project, name: str, ran: Sequence[Ran]) -> None:
    """Run everything once more, and name what differs from the first time; E406.

    The first time may have been an earlier build.
    """
    problems = []
    for first in ran:
        if first.fresh:
            time.sleep(1.1)  # so that a time that was written, in seconds, is another one
        again = run_work(project, first.work, first.log, first.layer.source)
        project.store.sync()
        if again.diff_id == first.layer.diff_id:
            continue
        found = differences(project.store, first.layer, again)
        problems += [
            Problem("E406", f"layer {first.kind} of {name}: {text}", remedy="") for text in found[:SHOWN]
        ]
        if len(found) > SHOWN:
            problems.append(Problem("E406", f"and {len(found) - SHOWN} paths more", remedy=""))
    if problems:
        last = problems[-1]
        advice = "Look for times, random names, addresses in memory, and the order of files in a folder."
        problems[-1] = Problem(last.code, last.message, last.place, last.path, advice)
        raise AfenvError.many(problems)
