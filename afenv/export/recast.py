"""``recast.yml`` and its yadage specs, as RECAST's catalogue and its backends read them.

Source: recast-atlas 0.4 (``recast catalogue add``, ``recast run NAME --example default``).
"""

from __future__ import annotations

from typing import Any

from afenv.export.plan import DATA, Exported, ExportPlan, check_steps
from afenv.export.yadage import WORKFLOW, check_names, initial, specs
from afenv.export.yaml_text import dump

FILE = "recast.yml"
FOLDER = "specs"


def recast(plan: ExportPlan) -> Exported:
    """``recast.yml`` and ``specs/``; E772 for what yadage cannot do."""
    check_steps(plan)
    check_names(plan)
    example: dict[str, Any] = {"initdata": initial(plan)}
    if plan.graph.data():
        example["dataopts"] = {"initdir": plan.folder}  # absolute: steps run in other folders
    tree = {
        "name": f"afenv/{plan.name}",
        "metadata": {"author": "unknown", "short_description": plan.title or plan.name},
        "spec": {"workflow": WORKFLOW},
        "example_inputs": {"default": example},
        "results": [
            {"name": f"{step.name}.{key}", "relpath": f"{step.name}/{path.rstrip('/')}"}
            for step in plan.steps
            for key, path in step.outputs.items()
        ],
    }
    remark = (
        f"`initdir` is the folder that holds {DATA}/; it has to be absolute." if plan.graph.data() else ""
    )
    files = {FILE: dump(tree, "recast", *filter(None, (remark,)))}
    files |= {f"{FOLDER}/{name}": text for name, text in specs(plan, "recast", for_reana=False).items()}
    limited = [
        step.name
        for step in plan.steps
        if step.resources.cores or step.resources.memory or step.resources.gpus or step.resources.time
    ]
    warnings = []
    if limited:
        warnings.append(f"yadage keeps no resources (cores, memory, GPUs, time) of: {', '.join(limited)}")
    return Exported(files=files, warnings=tuple(warnings))
