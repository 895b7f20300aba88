"""The job of a step: the runtime's command line, what goes in and out, and what its outputs depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afenv.documents.steps import Step, Value
from afenv.oci.model import Image
from afenv.record import record
from afenv.record import replace as replace_fields
from afenv.rerun.places import DATA, HERE, OUTPUTS, Data, RunFolder
from afenv.run.choose import module_of
from afenv.run.request import Mount, Prepared, RunRequest
from afenv.steps.command import expand
from afenv.steps.graph import StepGraph

if TYPE_CHECKING:
    from afenv.run.choose import Runtime

ENGINES = ("docker", "podman")
# $1 is the command, $2 the folder of the code, $3 whether control groups are those of the container, the rest
# names that outputs have: what is written there must not go through a link into the code. The shell notes
# the times of its children, and the most memory that the control group (version 2 or 1) had.
SCRIPT = """\
command=$1 code=$2 engine=$3
shift 3
if [ -n "$code" ]; then
    for entry in "$code"/* "$code"/.[!.]*; do
        name="${entry##*/}"
        for output; do if [ "$output" = "$name" ]; then continue 2; fi; done
        if [ -e "$entry" ] && [ ! -e "$name" ] && [ ! -L "$name" ]; then ln -s "$entry" "$name"; fi
    done
fi
/bin/sh -e -c "$command"
status=$?
{
    times
    if [ -n "$engine" ]; then
        for file in /sys/fs/cgroup/memory.peak /sys/fs/cgroup/memory/memory.max_usage_in_bytes; do
            if read -r peak <"$file"; then echo "$peak"; break; fi
        done
    fi
} >.afenv-usage 2>/dev/null
exit $status
"""


@record
class StepImage:
    """The image of an environment, as the runtime has it."""

    image: Image
    runtime: Runtime
    prepared: Prepared

    @property
    def config(self) -> Mapping[str, Any]:
        """The part ``config`` of the image's configuration."""
        return self.image.configuration().get("config") or {}


def static_part(step: Step, image_id: str, values: Mapping[str, Value]) -> dict[str, Any]:
    """What the outputs of a step depend on, besides its inputs."""
    return {
        "command": step.run if step.run is not None else f"notebook {step.notebook}",
        "image": image_id,
        "outputs": dict(step.outputs),
        "parameters": dict(values),
    }


def command_of(
    step: Step, graph: StepGraph, data: Mapping[str, Data], values: Mapping[str, Value], code: str = ""
) -> str:
    """The command with the paths that the step sees; ``code`` is the image's folder of the code."""
    if step.notebook is not None and code:
        step = replace_fields(step, notebook=f"{code.rstrip('/')}/{step.notebook}")
    inputs: dict[str, str | Sequence[str]] = {}
    for one in graph.inputs(step.name):
        if one.data is not None:
            paths = [f"{DATA}/{one.data}/{file.path}" for file in data[one.data].files]
            inputs[one.name] = paths[0] if len(paths) == 1 else paths
        else:
            inputs[one.name] = f"{OUTPUTS}/{one.path}"
    return expand(step, inputs, step.outputs, values)


def job_of(
    step: Step,
    graph: StepGraph,
    folder: RunFolder,
    image: StepImage,
    data: Mapping[str, Data],
    values: Mapping[str, Value],
    request: RunRequest,
    prmon: str | None,
) -> dict[str, Any]:
    """Everything that the launcher needs to know of a step; ``request`` says who asks, and from where."""
    inputs: list[dict[str, Any]] = []
    mounts = [Mount(folder.path / "work" / step.name / "here", HERE)]
    links = {}
    for one in graph.inputs(step.name):
        if one.data is not None:
            files = data[one.data].files
            shown = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in files]
            inputs.append({"name": one.name, "files": shown})
            mounts += [Mount(file.source, f"{DATA}/{one.data}/{file.path}", True) for file in files]
        else:
            assert one.path is not None
            inputs.append({"name": one.name, "step": one.step, "output": one.output})
            links[one.path] = f"{OUTPUTS}/{one.path.rstrip('/')}"
    if links:
        mounts.append(Mount(folder.path / "outputs", OUTPUTS, read_only=True))
    code = image.config.get("WorkingDir") or ""
    command = command_of(step, graph, data, values, code)
    runtime = image.runtime
    is_engine = runtime.name in ENGINES
    written = {path.split("/")[0] for path in step.outputs.values()}
    words = ("/bin/sh", "-c", SCRIPT, "sh", command, "" if code == "/" else code, "1" if is_engine else "")
    asked = replace(
        request,
        command=(*words, *sorted(written)),
        workdir=Path(HERE),
        mounts=(*mounts, *request.mounts, *image.prepared.mounts),
        gpu=request.gpu or bool(step.resources.gpus),
        cpus=step.resources.cores or 0,
        memory=step.resources.memory or 0,
    )
    argv = list(module_of(runtime).launch(runtime, image.prepared.image, image.config, asked, "@SCRATCH@"))
    job: dict[str, Any] = {
        "step": step.name,
        "static": static_part(step, image.image.image_id, values),
        "inputs": inputs,
        "outputs": [{"name": name, "path": path} for name, path in step.outputs.items()],
        "links": links,
        "log": f"logs/{step.name}.log",
        "command": command,
        "kept": None,
    }
    if step.resources.time:
        job["time"] = step.resources.time
    if is_engine:
        at = len(runtime.command) + 1  # type: ignore[union-attr]
        argv[at:at] = ["--cidfile", "@CONTAINER@"]
        job["kill"] = [*argv[: at - 1], "kill", "--signal"]
    elif prmon:
        summary = f"work/{step.name}/prmon"
        argv[:0] = [prmon, "--interval", "1", "--filename", f"{summary}.txt"]
        argv[5:5] = ["--json-summary", f"{summary}.json", "--"]
    job["argv"] = argv
    return job


def limits_kept(step: Step, runtime: str) -> dict[str, bool]:
    """Which of the resources that a step states are limits that are kept by this runtime."""
    kept = {"cores": runtime in ENGINES, "memory": runtime in ENGINES, "time": True}
    return {name: value for name, value in kept.items() if getattr(step.resources, name)}
