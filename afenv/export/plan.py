"""What is handed to an engine: steps, images by digest, data, and values. Nothing is read or run.

Every engine gets the same commands: paths are relative to the working directory of a step, in which data is
at ``afenv-data/NAME/PATH`` and the outputs of steps are at the paths of the manifest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from afenv.documents.steps import Step, Value
from afenv.errors import AfenvError, Problem
from afenv.record import field, record
from afenv.steps.command import value_text
from afenv.steps.graph import StepGraph

DATA = "afenv-data"
_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}\Z")
_TAG = re.compile(r":[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")


@record
class ExportImage:
    """The image of an environment: ``reference`` is ``HOST/NAME@sha256:…``.

    ``workdir`` is the folder of the image's code (None: it has none), ``entrypoint`` what a command is
    started by, ``cvmfs`` the repositories that have to be mounted. ``container`` is where Snakemake
    finds it, if not in a registry.
    """

    reference: str
    workdir: str | None = None
    entrypoint: tuple[str, ...] = ()
    cvmfs: tuple[str, ...] = ()
    container: str | None = None


@record
class ExportFile:
    """A file of data: its path among the files of that data, and where it can be had.

    ``source`` is its place on this machine, None if it is elsewhere.
    """

    path: str
    uris: tuple[str, ...] = ()
    source: Path | None = None


@record
class EngineParameter:
    """A parameter as an engine has it: one name for all steps that share type and value."""

    name: str
    type: str
    value: Value

    @property
    def text(self) -> str:
        """The value as a command gets it."""
        return value_text(self.value)


@record
class ExportPlan:
    """Everything that an exporter needs. ``images`` are by environment, ``data`` and ``values`` by name."""

    name: str
    version: str
    graph: StepGraph
    images: Mapping[str, ExportImage]
    title: str | None = None
    data: Mapping[str, tuple[ExportFile, ...]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    kerberos: bool = False
    folder: str = "."  # where the documents and the data will be

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in an order in which they can run."""
        return tuple(self.graph.steps[name] for name in self.graph.order())

    def image(self, step: Step) -> ExportImage:
        """The image that a step runs in."""
        return self.images[step.environment]

    def data_paths(self, name: str) -> tuple[str, ...]:
        """The paths of the files of data, relative to the working directory."""
        return tuple(f"{DATA}/{name}/{file.path}" for file in self.data[name])

    def input_paths(self, step: Step) -> dict[str, tuple[str, ...]]:
        """The paths of what a step reads, by the manifest's names."""
        found: dict[str, tuple[str, ...]] = {}
        for one in self.graph.inputs(step.name):
            found[one.name] = self.data_paths(one.data) if one.data is not None else (one.path or "",)
        return found

    def parameters(self, step: Step) -> dict[str, EngineParameter]:
        """The parameters of a step, by the manifest's names."""
        return {name: one for (owner, name), one in self._named().items() if owner == step.name}

    def all_parameters(self) -> tuple[EngineParameter, ...]:
        """Every parameter once, in the order of the steps."""
        return tuple({one.name: one for one in self._named().values()}.values())

    def _named(self) -> dict[tuple[str, str], EngineParameter]:
        kinds: dict[str, set[tuple[str, str]]] = {}
        every = []
        for step in self.steps:
            for name, declared in step.parameters.items():
                value = self.values[step.name][name]
                every.append((step.name, name, declared.type, value))
                kinds.setdefault(name, set()).add((declared.type, value_text(value)))
        found: dict[tuple[str, str], EngineParameter] = {}
        owners: dict[str, tuple[str, str]] = {}
        for owner, name, kind, value in every:
            single = len(kinds[name]) == 1
            wanted = (name if single else f"{owner}_{name}").replace("-", "_")
            key = ("", name) if single else (owner, name)
            while owners.setdefault(wanted, key) != key:
                wanted += "_"
            found[owner, name] = EngineParameter(name=wanted, type=kind, value=value)
        return found

    def cvmfs(self) -> tuple[str, ...]:
        """The CVMFS repositories that any step needs, sorted."""
        used = {step.environment for step in self.steps}
        return tuple(sorted({name for one in used for name in self.images[one].cvmfs}))


@record
class Exported:
    """Documents for an engine, by their paths, and what the engine cannot do, a sentence each."""

    files: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def pinned(reference: str, environment: str) -> str:
    """A reference without its tag and with its digest; E771 if it has no digest."""
    if not _DIGEST.match(reference):
        message = f"the image {reference!r} of the environment {environment} has no digest"
        raise AfenvError("E771", message, place="--image")
    name, _, digest = reference.rpartition("@")
    return f"{_TAG.sub('', name)}@{digest}"


def check_steps(plan: ExportPlan) -> None:
    """E772, for every output at once that is where data or the files of the export are."""
    wrong = [
        Problem("E772", f"the output {step.name}.{key} is in the folder {DATA}, which data is in", None, None)
        for step in plan.steps
        for key, path in step.outputs.items()
        if path.split("/")[0] == DATA
    ]
    if wrong:
        raise AfenvError.many(wrong)
