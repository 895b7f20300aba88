"""An engine that runs commands on the host, and analyses of a few shell commands to run with it.

The engine does what the tests need of Docker: it says that it has every image, and it runs a command with the
folders that are mounted, by putting the host's paths in the place of the container's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from afenv.documents.load import parse_manifest
from afenv.rerun.places import Data, DataFile, RunFolder
from afenv.rerun.run import Plan, execute, make_plan, step_images
from afenv.run.request import RunRequest
from afenv.steps.choices import choose_parameters
from afenv.steps.graph import StepGraph
from afenv.store.content import ContentStore
from afenv.testing import folder, make_image

pytest.importorskip("snakemake")

DOCKER = f"""#!{sys.executable} -IS
import os, signal, sys
words = sys.argv[1:]
if words[0] == "info":
    print("20.10 [name=seccomp]")
elif words[0] == "image":
    print("[]")
elif words[0] == "kill":
    pid = int(words[3])
    try:
        os.killpg(pid, int(words[2]))
    except OSError:
        sys.exit(1)
elif words[0] == "run":
    mounts, workdir, rest, at = {{}}, "", [], 1
    while at < len(words):
        word = words[at]
        if word == "--mount":
            parts = dict(part.partition("=")[::2] for part in words[at + 1].split(","))
            mounts[parts["target"]] = parts["source"]
            at += 2
        elif word == "--workdir":
            workdir, at = words[at + 1], at + 2
        elif word == "--cidfile":
            open(words[at + 1], "w").write(str(os.getpid()))
            at += 2
        elif word in ("--rm", "--interactive", "--init"):
            at += 1
        elif word.startswith("--"):
            at += 2
        else:
            rest = words[at + 1:]
            break
    def here(text):
        for target, source in sorted(mounts.items(), reverse=True):
            text = text.replace(target, source)
        return text
    place = mounts[workdir]
    for name in os.listdir(place):
        link = place + "/" + name
        if os.path.islink(link):
            target = here(os.readlink(link))
            os.unlink(link)
            os.symlink(target, link)
    os.chdir(place)
    rest = [here(word) for word in rest]
    os.execvp(rest[0], rest)
"""
MANIFEST = """
afenv: 1
name: small
version: "1.0"
metadata: {title: A small analysis, license: MIT}
environments:
  default: {base: {debian: bookworm}}
  other: {base: {debian: trixie}}
data:
  - {name: events, uri: "file:events.txt"}
steps:
  - name: generate
    run: seq 1 {parameters.n} > {outputs.numbers}
    outputs: {numbers: gen/numbers.txt}
    parameters: {n: {type: integer, default: 5}}
  - name: select
    environment: other
    run: |
      grep -v 3 {inputs.generate.numbers} > {outputs.kept}
      cat {inputs.events} >> {outputs.kept}
      mkdir -p plots/deep && echo plot > plots/deep/one
    inputs: [generate.numbers, events]
    outputs: {kept: kept.txt, plots: plots/}
  - {name: count, run: "wc -l < kept.txt > {outputs.n}", inputs: [select.kept], outputs: {n: n.txt}}
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let afenv find the engine above, and no other one."""
    command = tmp_path / "docker"
    command.write_text(DOCKER)
    command.chmod(0o755)
    monkeypatch.setenv("AFENV_DOCKER", str(command))
    monkeypatch.setenv("AFENV_RUNTIME", "docker")
    monkeypatch.delenv("AFENV_FACILITY", raising=False)
    return command


class Analysis:
    """An analysis in a folder, and its runs."""

    def __init__(self, place: Path, store: ContentStore) -> None:
        self.place = place
        self.store = store
        self.text = MANIFEST
        self.images = {name: make_image(store, [(folder(name),)]) for name in ("default", "other")}
        (place / "events.txt").write_text("event\n")
        self.run_folder = RunFolder(path=place / "run")

    def plan(self, *steps: str, params: tuple[str, ...] = (), cores: int = 2) -> Plan:
        """What a rerun would do."""
        from afenv.rerun.launcher import file_digest

        manifest = parse_manifest(self.text.encode(), "afenv.yaml")
        graph = StepGraph.of(manifest)
        names = graph.closure(steps or graph.order())
        request = RunRequest(command=(), workdir=self.place, uid=os.getuid(), gid=os.getgid())
        data = {}
        for name in graph.data(names):
            path = self.place / f"{name}.txt"
            file = DataFile(
                path=path.name, source=path, size=path.stat().st_size, sha256=file_digest(str(path))
            )
            data[name] = Data(name=name, uri=f"file:{path.name}", files=(file,))
        self.run_folder.make()
        return make_plan(
            graph=graph,
            names=names,
            folder=self.run_folder,
            images=step_images(self.images, self.store, request, quiet=True),
            data=data,
            values=choose_parameters(graph, names, params),
            request=request,
            mounts={},
            cores=cores,
            identity={"name": manifest.name, "version": manifest.version, "manifest": "sha256:" + "0" * 64},
            chosen={"data": {}, "parameters": list(params), "network": False},
            metadata={"title": "A small analysis", "license": "MIT"},
        )

    def run(self, *steps: str, **more: Any) -> dict[str, Any]:
        """Rerun; the record."""
        with self.run_folder.held() if (self.place / "run/steps").is_dir() else self._held() as lock:
            return execute(self.plan(*steps, **more), lock, quiet=True)

    def _held(self) -> Any:
        self.run_folder.make()
        return self.run_folder.held()

    def ran(self) -> list[str]:
        """The steps that ran in the last run, and those that were as before in brackets."""
        import json

        lines = (self.run_folder.path / "steps/events").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [
            f"({event['step']})" if event["event"] == "kept" else event["step"]
            for event in events
            if event["event"] in ("kept", "start")
        ]

    def output(self, path: str) -> str:
        """The text of an output."""
        return (self.run_folder.path / "outputs" / path).read_text()


@pytest.fixture
def analysis(tmp_path: Path, store: ContentStore, engine: Path) -> Analysis:
    """The small analysis."""
    place = tmp_path / "analysis"
    place.mkdir()
    return Analysis(place, store)
