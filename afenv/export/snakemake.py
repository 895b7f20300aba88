"""A Snakefile with a container for each rule, for Snakemake 7.32 (REANA has it) and later ones.

Source: Snakemake's documentation, "Snakefiles and Rules": braces in commands are doubled, ``{params.x:q}`` is
quoted for the shell; commands are run by bash with ``set -euo pipefail``.
"""

from __future__ import annotations

import json
from typing import Any

from afenv.documents.steps import Step
from afenv.export.plan import EngineParameter, Exported, ExportPlan, check_steps
from afenv.export.reana import kubernetes, reana_value
from afenv.export.script import script
from afenv.export.yaml_text import dump, header

CONFIG = "config.yaml"
PROFILE = "profiles/default/config.yaml"
DONE = "afenv-done"  # marks of steps without outputs
MEGABYTE = 1_000_000
FIRST = "set +uo pipefail  # as /bin/sh has it"


def snakemake(plan: ExportPlan) -> Exported:
    """A Snakefile, its configuration, and a profile that turns containers on."""
    check_steps(plan)
    arguments = []
    if any(step.resources.gpus for step in plan.steps):
        arguments.append("--nv")
    if plan.cvmfs():
        arguments.append("--bind /cvmfs")
    profile: dict[str, Any] = {"software-deployment-method": "apptainer", "cores": "all"}
    if arguments:
        profile["apptainer-args"] = " ".join(arguments)
    files = {"Snakefile": _snakefile(plan, "snakemake", for_reana=False), CONFIG: _config(plan, "snakemake")}
    files[PROFILE] = dump(profile, "snakemake", "Read by Snakemake 8 and later.")
    return Exported(files=files)


def snakefile_for_reana(plan: ExportPlan) -> dict[str, str]:
    """The Snakefile and its configuration, with what REANA reads of a rule."""
    return {"Snakefile": _snakefile(plan, "reana", for_reana=True), CONFIG: _config(plan, "reana")}


def _config(plan: ExportPlan, engine: str) -> str:
    values = {one.name: reana_value(one) for one in plan.all_parameters()}
    return dump(values, engine) if values else header(engine) + "{}\n"


def _text(value: str) -> str:
    """A string of Python in which nothing is a wildcard."""
    return json.dumps(value.replace("{", "{{").replace("}", "}}"), ensure_ascii=False)


def _output(path: str) -> str:
    return f"directory({_text(path.rstrip('/'))})" if path.endswith("/") else _text(path)


def _results(step: Step) -> list[str]:
    """What tells that a step is done, as rules that wait for it name it."""
    return [path.rstrip("/") for path in step.outputs.values()] or [f"{DONE}/{step.name}"]


def _rule_names(plan: ExportPlan) -> dict[str, str]:
    from keyword import iskeyword

    found: dict[str, str] = {}
    for step in plan.steps:
        rule = step.name.replace("-", "_")
        while rule in found.values() or rule == "all" or iskeyword(rule):
            rule += "_"
        found[step.name] = rule
    return found


def _snakefile(plan: ExportPlan, engine: str, *, for_reana: bool) -> str:
    rules = _rule_names(plan)
    lines = [header(engine) + f'configfile: "{CONFIG}"', "", "rule all:", "    input:"]
    lines += [f"        {_text(path)}," for step in plan.steps for path in _results(step)]
    for step in plan.steps:
        lines += ["", f"rule {rules[step.name]}:"]
        lines += _rule(plan, step, for_reana=for_reana)
    return "\n".join(lines) + "\n"


def _rule(plan: ExportPlan, step: Step, *, for_reana: bool) -> list[str]:
    read = [path.rstrip("/") for paths in plan.input_paths(step).values() for path in paths]
    for other in plan.graph.before(step.name):
        read += _results(plan.graph.steps[other])
    written = [_output(path) for path in step.outputs.values()]
    written = written or [f"touch({_text(f'{DONE}/{step.name}')})"]
    lines = []
    if read:
        lines += ["    input:", *(f"        {_text(path)}," for path in dict.fromkeys(read))]
    lines += ["    output:", *(f"        {path}," for path in written)]
    parameters = plan.parameters(step)
    if parameters and not for_reana:
        lines.append("    params:")
        lines += [f"        param_{one.name}={_config_value(one)}," for one in parameters.values()]
    lines.append(f"    threads: {step.resources.cores or 1}")
    if resources := _resources(plan, step, for_reana=for_reana):
        lines += ["    resources:", *(f"        {name}={value!r}," for name, value in resources.items())]
    image = plan.image(step)
    lines.append(f"    container: {_text(image.container or 'docker://' + image.reference)}")
    return [*lines, "    shell:", *_shell(plan, step, for_reana=for_reana)]


def _config_value(parameter: EngineParameter) -> str:
    value = f"config[{json.dumps(parameter.name)}]"
    return f"lambda wildcards: {value}" if parameter.type == "string" else value  # braces are no wildcards


def _resources(plan: ExportPlan, step: Step, *, for_reana: bool) -> dict[str, Any]:
    if for_reana:
        known = kubernetes(plan, step)
        return {key: known[key] for key in ("kerberos", "kubernetes_memory_limit") if key in known}
    asked = step.resources
    found: dict[str, Any] = {}
    if asked.memory:
        found["mem_mb"] = -(-asked.memory // MEGABYTE)
    if asked.time:
        found["runtime"] = -(-asked.time // 60)  # minutes
    if asked.gpus:
        found["gpu"] = asked.gpus
    return found


def _shell(plan: ExportPlan, step: Step, *, for_reana: bool) -> list[str]:
    def assign(one: EngineParameter) -> str:
        # REANA reads `params` as JSON, in which there are no functions
        place = f"config[{one.name}]" if for_reana else f"params.param_{one.name}"
        return f"\x02{place}:q\x03"

    text = script(plan, step, assign, before=(FIRST,))
    text = text.replace("{", "{{").replace("}", "}}").replace("\x02", "{").replace("\x03", "}")
    if '"""' in text or "\\" in text or not all(one.isprintable() or one == "\n" for one in text):
        return [f"        {json.dumps(line + chr(10), ensure_ascii=False)}" for line in text.split("\n")]
    return [f'        """\n{text}\n        """']
