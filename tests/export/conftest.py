"""A small analysis with everything that an exporter has to carry, as a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.load import parse_manifest
from afenv.export.plan import ExportFile, ExportImage, ExportPlan
from afenv.steps.choices import choose_parameters
from afenv.steps.graph import StepGraph

DIGEST = "1f" * 32
IMAGE = f"registry.example.org/group/small@sha256:{DIGEST}"
MANIFEST = """
afenv: 1
name: small
version: "1.0"
metadata: {title: A small analysis}
environments:
  default: {base: {debian: bookworm}}
  other: {base: {debian: trixie}}
data:
  - {name: events, uri: "file:events.txt"}
  - {name: many, uri: "file:many/"}
steps:
  - name: generate
    run: |
      total=$((1 + {parameters.n}))
      seq 1 "$total" > {outputs.numbers}
    outputs: {numbers: gen/numbers.txt}
    parameters: {n: {type: integer, default: 5}}
    resources: {cores: 2, memory: 300 MB, time: 10m}
  - name: select
    environment: other
    run: |
      grep -v 3 {inputs.generate.numbers} > {outputs.kept}
      cat {inputs.events} {inputs.many} >> {outputs.kept}
      echo {parameters.label} "is {parameters.label}" >> {outputs.kept}
      if {parameters.loud}; then echo loud {1..2} >> {outputs.kept}; fi
      mkdir -p plots/deep && echo plot > plots/deep/one
    inputs: [generate.numbers, events, many]
    outputs: {kept: kept.txt, plots: plots/}
    parameters:
      label: {type: string, default: "it's $HOME {x} 100%"}
      loud: {type: boolean, default: true}
  - name: count
    run: |
      wc -l < kept.txt > {outputs.n}
      cat {inputs.select.plots}deep/one >> {outputs.n}
    inputs: [select.kept, select.plots]
    outputs: {n: n.txt}
    needs: [generate]
"""
NOTEBOOK = """
afenv: 1
name: nb
environments: {default: {base: {debian: bookworm}}}
steps:
  - name: fit
    notebook: fit.ipynb
    outputs: {result: fit.json}
    parameters:
      mass: {type: number, default: 91.2}
      label: {type: string, default: "12"}
      fast: {type: boolean, default: false}
"""


def plan_of(text: str, params: tuple[str, ...] = (), **more: Any) -> ExportPlan:
    """The plan of a manifest, with images that have no code unless ``images`` says so."""
    manifest = parse_manifest(text.encode(), "afenv.yaml")
    graph = StepGraph.of(manifest)
    images = {name: ExportImage(reference=IMAGE) for name in manifest.environments}
    files = {
        "events": (ExportFile(path="events.txt"),),
        "many": (ExportFile(path="a.txt"), ExportFile(path="deep/b.txt")),
    }
    given = {
        "name": manifest.name,
        "version": manifest.version,
        "title": manifest.metadata.title,
        "graph": graph,
        "images": images,
        "data": {name: files[name] for name in graph.data()},
        "values": choose_parameters(graph, graph.order(), params),
    }
    return ExportPlan(**(given | more))  # type: ignore[arg-type]


def write_data(folder: Path) -> None:
    """The data of the small analysis, where an export has it."""
    for name, text in (("events/events.txt", "event\n"), ("many/a.txt", "a\n"), ("many/deep/b.txt", "b\n")):
        path = folder / "afenv-data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


# what the small analysis writes, with the values of the manifest
KEPT = "1\n2\n4\n5\n6\nevent\na\nb\nit's $HOME {x} 100% is it's $HOME {x} 100%\n"


@pytest.fixture
def small() -> Callable[..., ExportPlan]:
    """Make the plan of the small analysis."""
    return lambda *params, **more: plan_of(MANIFEST, params, **more)
