"""A DAG for HTCondor: a submit file and a script for each step, in the container universe.

Files travel with the job: what a step reads goes to where it runs, what it writes comes back, at its path.

Source: HTCondor manual, "condor_submit" (``preserve_relative_paths``, ``transfer_input_files``) and
"DAGMan Workflows".
"""

from __future__ import annotations

from afenv.documents.steps import Step
from afenv.errors import AfenvError
from afenv.export.plan import EngineParameter, Exported, ExportPlan, check_steps
from afenv.export.script import script
from afenv.export.yaml_text import header
from afenv.run.batch import submit_list, submit_value

DAG = "analysis.dag"
MEBIBYTE = 1 << 20
_RESERVED = {"PARENT", "CHILD", "ALL_NODES"}


def htcondor(plan: ExportPlan) -> Exported:
    """``analysis.dag``, and for each step ``STEP.sub`` and ``STEP.sh``; E772 for what HTCondor cannot do."""
    check_steps(plan)
    files = {DAG: _dag(plan)}
    for step in plan.steps:
        files[f"{step.name}.sub"] = _submit_file(plan, step)
        files[f"{step.name}.sh"] = f"#!/bin/sh\n{header('htcondor')}{_script(plan, step)}\n"
    warnings = []
    if plan.cvmfs():
        names = ", ".join(plan.cvmfs())
        message = "what a pool calls machines with CVMFS differs; add to `requirements` of the submit files"
        warnings.append(f"{message} that they have: {names}")
    return Exported(files=files, warnings=tuple(warnings))


def _node(name: str) -> str:
    return f"{name}_" if name.upper() in _RESERVED else name


def _dag(plan: ExportPlan) -> str:
    lines = [f"JOB {_node(step.name)} {step.name}.sub" for step in plan.steps]
    for step in plan.steps:
        before = [_node(name) for name in plan.graph.before(step.name)]
        if before:
            lines.append(f"PARENT {' '.join(before)} CHILD {_node(step.name)}")
    return header("htcondor") + "\n".join(lines) + "\n"


def _script(plan: ExportPlan, step: Step) -> str:
    places = {one.name: number for number, one in enumerate(plan.parameters(step).values(), 1)}
    return script(plan, step, lambda one: f'"${{{places[one.name]}}}"')


def _files(paths: list[str], step: Step) -> str:
    for path in paths:
        if "," in path or "\n" in path or '"' in path or path != path.strip():
            message = f"the step {step.name} has the path {path!r}, which a submit file cannot hold"
            raise AfenvError(
                "E772", message, remedy="Give the file a name without commas, quotes and newlines."
            )
    return submit_value(", ".join(path.rstrip("/") for path in paths))


def _value(step: Step, parameter: EngineParameter) -> str:
    if "\n" in parameter.text:
        message = f"a value of the step {step.name} has a newline, which a submit file cannot hold"
        raise AfenvError("E772", message, place=parameter.name)
    return parameter.text


def _submit_file(plan: ExportPlan, step: Step) -> str:
    asked = step.resources
    read = [path for paths in plan.input_paths(step).values() for path in paths]
    parameters = list(plan.parameters(step).values())
    settings: list[tuple[str, str | int]] = [
        ("universe", "container"),
        ("container_image", f"docker://{plan.image(step).reference}"),
        ("executable", f"{step.name}.sh"),
        ("transfer_executable", "true"),
        ("arguments", submit_list([_value(step, one) for one in parameters])),
        ("should_transfer_files", "YES"),
        ("when_to_transfer_output", "ON_EXIT"),
        ("preserve_relative_paths", "true"),
        ("transfer_input_files", _files(list(dict.fromkeys(read)), step)),
        ("transfer_output_files", _files(list(step.outputs.values()), step) or '""'),
        ("request_cpus", asked.cores or 1),
        ("request_memory", f"{-(-asked.memory // MEBIBYTE)}M" if asked.memory else ""),
        ("request_gpus", asked.gpus),
        ("allowed_job_duration", asked.time or 0),
        ("log", f"{step.name}.log"),
        ("output", f"{step.name}.out"),
        ("error", f"{step.name}.err"),
    ]
    lines = [f"{key} = {value}\n" for key, value in settings if value]
    names = ", ".join(one.name for one in parameters)
    remark = (f"The arguments are: {names}",) if parameters else ()
    return header("htcondor", *remark) + "".join(lines) + "queue\n"
