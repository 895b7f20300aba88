"""The graph of an analysis' steps: which come before which, what goes in and what comes out.

Everything that runs or exports steps (rerun, REANA, CWL, HTCondor, …) asks here; nothing is read or run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from afenv.documents.manifest import AnalysisManifest
from afenv.documents.steps import Step
from afenv.documents.suggest import did_you_mean
from afenv.errors import AfenvError
from afenv.record import record


@record
class Input:
    """What a step reads: the data ``data``, or the output ``output`` of ``step`` at its path ``path``.

    ``name`` is as the manifest has it. Of data, ``step``, ``output`` and ``path`` are None; of an output,
    ``data`` is.
    """

    name: str
    data: str | None = None
    step: str | None = None
    output: str | None = None
    path: str | None = None


class StepGraph:
    """The steps by name, in the order of a valid manifest: all names exist, and there is no circle."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps: Mapping[str, Step] = {step.name: step for step in steps}

    @classmethod
    def of(cls, manifest: AnalysisManifest) -> StepGraph:
        """The graph of a manifest's steps."""
        return cls(manifest.steps)

    def step(self, name: str) -> Step:
        """The step of that name; E750 with what may have been meant if there is none."""
        if name not in self.steps:
            known = ", ".join(self.steps) or "none"
            hint = did_you_mean(name, self.steps) or f"; there is: {known}"
            raise AfenvError("E750", f"there is no step {name!r}{hint}")
        return self.steps[name]

    def inputs(self, name: str) -> tuple[Input, ...]:
        """What a step reads, in the order of the manifest."""
        found = []
        for text in self.steps[name].inputs:
            step, dot, output = text.partition(".")
            if not dot:
                found.append(Input(name=text, data=text))
                continue
            path = self.steps[step].outputs[output]
            found.append(Input(name=text, step=step, output=output, path=path))
        return tuple(found)

    def outputs(self, name: str) -> Mapping[str, str]:
        """What a step writes: paths by name."""
        return self.steps[name].outputs

    def before(self, name: str) -> tuple[str, ...]:
        """The steps that a step waits for directly: those that it needs, and those whose outputs it reads."""
        step = self.steps[name]
        wanted = {*step.needs, *(text.partition(".")[0] for text in step.inputs if "." in text)}
        return tuple(other for other in self.steps if other in wanted)

    def after(self, name: str) -> tuple[str, ...]:
        """The steps that wait for a step directly."""
        return tuple(other for other in self.steps if name in self.before(other))

    def order(self) -> tuple[str, ...]:
        """All steps, each behind those that it waits for; else in the order of the manifest."""
        return self.closure(self.steps)

    def closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The steps named and all that they wait for, in an order in which they can run. E750."""
        done: dict[str, None] = {}

        def add(name: str) -> None:
            if name not in done:
                for other in self.before(name):
                    add(other)
                done[name] = None

        for name in names:
            self.step(name)
            add(name)
        return tuple(done)

    def last(self) -> tuple[str, ...]:
        """The steps that no other one waits for."""
        waited_for = {other for name in self.steps for other in self.before(name)}
        return tuple(name for name in self.steps if name not in waited_for)

    def data(self, names: Iterable[str] | None = None) -> tuple[str, ...]:
        """The data that these steps (else all) read, each once, in the order in which they are first read."""
        chosen = self.order() if names is None else tuple(names)
        read = (one.data for name in chosen for one in self.inputs(name))
        return tuple(dict.fromkeys(name for name in read if name is not None))
