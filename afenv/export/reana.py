"""``reana.yaml``: the steps for REANA, in the serial, the Snakemake or the Yadage form.

All steps of a workflow share one folder, the workspace, which is their working directory.

Source: REANA's documentation, "Reference: reana.yaml", and the schema of reana-commons 0.9
(``reana_analysis_schema.json``); serial commands are templates of Python's ``string.Template``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afenv.documents.steps import Step
from afenv.export.plan import EngineParameter, Exported, ExportPlan, check_steps
from afenv.export.script import here_document, script
from afenv.export.yaml_text import dump

FILE = "reana.yaml"
FORMS = ("serial", "snakemake", "yadage")
MEBIBYTE = 1 << 20
# a name and its value that does not break the template
_MARK = "\x02{}\x03"


def reana(plan: ExportPlan, form: str = "serial") -> Exported:
    """The documents for REANA; E772 for what it cannot run."""
    check_steps(plan)
    workflow: dict[str, Any] = {"type": form}
    more: Mapping[str, str] = {}
    if form == "serial":
        workflow["specification"] = {"steps": [_serial_step(plan, step) for step in plan.steps]}
    elif form == "snakemake":
        from afenv.export.snakemake import snakefile_for_reana

        more = snakefile_for_reana(plan)
        workflow["file"] = "Snakefile"
    else:
        from afenv.export.yadage import WORKFLOW, check_names, specs

        check_names(plan)
        more = specs(plan, "reana", for_reana=True)
        workflow["file"] = WORKFLOW
    resources: dict[str, Any] = {}
    if plan.cvmfs():
        resources["cvmfs"] = list(plan.cvmfs())
    if plan.kerberos:
        resources["kerberos"] = True  # the workflow's own engine, and steps below
    if resources:
        workflow["resources"] = resources
    tree = {**_inputs(plan, form, more), "workflow": workflow, **_outputs(plan)}
    return Exported(files={FILE: dump(tree, "reana"), **more}, warnings=tuple(_warnings(plan, form)))


def _inputs(plan: ExportPlan, form: str, more: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    files = [path for name in plan.graph.data() for path in plan.data_paths(name)]
    if files or more:
        found["files"] = [*more, *files]
    if form == "snakemake":
        found["parameters"] = {"input": "config.yaml"}
    elif form == "yadage":
        from afenv.export.yadage import initial

        found["parameters"] = initial(plan)
    else:
        found["parameters"] = {one.name: reana_value(one) for one in plan.all_parameters()}
    found = {key: value for key, value in found.items() if value}
    return {"inputs": found} if found else {}


def reana_value(parameter: EngineParameter) -> Any:
    """A value that is put into commands as it stands: ``true`` as text, for Python would write ``True``."""
    return parameter.text if parameter.type == "boolean" else parameter.value


def _outputs(plan: ExportPlan) -> dict[str, Any]:
    paths = [path for step in plan.steps for path in step.outputs.values()]
    found = {
        "files": [path for path in paths if not path.endswith("/")],
        "directories": [path.rstrip("/") for path in paths if path.endswith("/")],
    }
    found = {key: value for key, value in found.items() if value}
    return {"outputs": found} if found else {}


def _serial_step(plan: ExportPlan, step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "environment": plan.image(step).reference,
        **kubernetes(plan, step),
        "commands": [template(plan, step)],
    }


def template(plan: ExportPlan, step: Step) -> str:
    """The script as a template: ``$$`` is a dollar sign, ``${NAME}`` a parameter."""
    text = script(plan, step, _assign(lambda one: _MARK.format(one.name)))
    return text.replace("$", "$$").replace("\x02", "${").replace("\x03", "}")


def _assign(value: Callable[[EngineParameter], str]) -> Callable[[EngineParameter], str]:
    def assign(one: EngineParameter) -> str:
        return here_document(value(one)) if one.type == "string" else value(one)

    return assign


def kubernetes(plan: ExportPlan, step: Step) -> dict[str, Any]:
    """What REANA asks Kubernetes for."""
    found: dict[str, Any] = {}
    if plan.kerberos:
        found["kerberos"] = True
    if step.resources.memory:
        found["kubernetes_memory_limit"] = f"{-(-step.resources.memory // MEBIBYTE)}Mi"
    if step.resources.cores:
        found["kubernetes_cpu_request"] = str(step.resources.cores)
    if step.resources.time:
        found["kubernetes_job_timeout"] = step.resources.time
    return found


def _warnings(plan: ExportPlan, form: str) -> list[str]:
    found = []
    gpus = [step.name for step in plan.steps if step.resources.gpus]
    if gpus:
        found.append(f"REANA gives no GPUs to steps on Kubernetes: {', '.join(gpus)}")
    if form != "serial":
        timed = [step.name for step in plan.steps if step.resources.time or (step.resources.cores or 1) > 1]
        if timed:
            found.append(f"REANA reads no time and no cores of steps in the form {form}: {', '.join(timed)}")
    return found
