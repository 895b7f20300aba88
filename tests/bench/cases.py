"""The cases. Each can be run alone; each returns rows for the report."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import peers
from bound import measure_bound
from measure import Contender, Outcome, Sample, compare, run
from projects import AFENV, EXAMPLE, Project, copy_downloads, layer_sizes, make_project
from report import Report

BUMPED = "hist"  # a small pure-Python package
VARIED = ("numpy", "uproot", "awkward", "scipy", "pandas", "matplotlib", "iminuit", "dask", "hist")


@dataclass
class Bench:
    """What the cases share. Everything is made when a case first needs it."""

    work: Path  # emptied at the end
    kept: Path  # base images: kept from run to run
    rounds: int
    report: Report
    seconds: float = 1.0  # of each step of a rerun
    port: int = field(default_factory=peers.free_port)
    _registry: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _count: int = 0

    def fresh(self, name: str) -> Path:
        """A path in the work folder that was not used before."""
        self._count += 1
        return self.work / f"{self._count}-{name}"

    @property
    def store(self) -> Path:
        return self.work / "store"

    @property
    def cold_store(self) -> Path:
        return self.work / "cold-store"

    @cached_property
    def plain(self) -> Project:
        project = make_project(self.fresh("plain"), self.store)
        project.build()
        return project

    @cached_property
    def bytecode(self) -> Project:
        project = make_project(self.fresh("bytecode"), self.store, bytecode=True)
        project.build()
        return project

    @cached_property
    def fewer(self) -> Project:
        project = make_project(self.fresh("fewer"), self.store, bytecode=True, more=("scipy", "pandas"))
        project.build()
        return project

    @cached_property
    def bumped(self) -> Project:
        constraint = f"{BUMPED}<{self.plain.versions()[BUMPED]}"
        project = make_project(self.fresh("bumped"), self.store, constraints=[constraint])
        project.build()
        return project

    @cached_property
    def wheels_image(self) -> str:
        from projects import blob

        files = {**self.plain.sources(), **self.bumped.sources()}
        paths = [(name, blob(self.store, digest)) for name, digest in sorted(files.items())]
        wheels = [item for item in paths if item[0].endswith(".whl")]
        older = [f"{name}=={version}" for name, version in sorted(self.bumped.versions().items())]
        pins = [f"{name}=={version}" for name, version in sorted(self.plain.versions().items())]
        folder = self.fresh("wheels-image")
        folder.mkdir()
        (folder / "requirements.txt").write_text("\n".join(pins) + "\n")
        (folder / "requirements-bumped.txt").write_text("\n".join(older) + "\n")
        present = peers.installed(self.base_minimal)
        debs = [item for item in paths if item[0].endswith(".deb") and item[0].split("_")[0] not in present]
        return peers.make_wheels_image(folder, wheels, debs)

    @cached_property
    def base_python(self) -> str:
        return peers.make_base("base-python", ["python3", "ca-certificates"], self.kept)

    @cached_property
    def base_minimal(self) -> str:
        return peers.make_base("base-minimal", ["ca-certificates"], self.kept)

    def docker(
        self, method: str, *, debs: bool = False, requirements: str = "requirements.txt"
    ) -> peers.DockerProject:
        name = f"{method}{'-debs' if debs else ''}"
        project = peers.DockerProject(
            folder=self.fresh(name),
            tag=f"127.0.0.1:{self.port}/{peers.PREFIX}-{name}",
            base=self.base_minimal if debs else self.base_python,
            wheels=self.wheels_image,
            method=method,
            install_debs=debs,
        )
        project.write(EXAMPLE, requirements)
        return project

    @cached_property
    def plain_docker(self) -> peers.PlainProject:
        from projects import blob

        base = peers.make_base("base-pip", ["python3", "python3-pip", "ca-certificates"], self.kept)
        project = peers.PlainProject(
            folder=self.fresh("plain-docker"),
            tag=f"127.0.0.1:{self.port}/{peers.PREFIX}-plain",
            base=base,
        )
        files = sorted(self.plain.sources().items())
        wheels = [(name, blob(self.store, digest)) for name, digest in files if name.endswith(".whl")]
        pins = [f"{name}=={version}" for name, version in sorted(self.plain.versions().items())]
        project.write(EXAMPLE, wheels, pins)
        project.build(cache=True)
        return project

    def empty_cache(self, *projects: Project) -> None:
        """The cold store holds the projects' downloads and nothing else; no image is left."""
        copy_downloads(self.store, self.cold_store, projects)
        for project in projects:
            shutil.rmtree(project.layout, ignore_errors=True)

    def empty_registry(self) -> str:
        """Start a new, empty registry at the same address."""
        self._registry.close()
        self._registry = contextlib.ExitStack()
        return self._registry.enter_context(peers.registry(self.fresh("registry"), self.port))

    def close(self) -> None:
        self._registry.close()


def _cold(bench: Bench, case: str, project: Project, method: str, target: float) -> None:
    """Everything downloaded, nothing built. The peers: Python in the base; apt in the build; uv, not pip."""
    python = bench.docker(method)
    debs = bench.docker(method, debs=True)
    uv = bench.docker(method.replace("pip", "uv"))
    outcome = compare(
        case,
        bench.rounds,
        [
            Contender(
                name="afenv",
                prepare=lambda: bench.empty_cache(project),
                command=lambda: project.afenv("build", store=bench.cold_store),
            ),
            Contender(name="docker, pip + apt", command=lambda: debs.build(cache=False)),
            Contender(name="docker, pip, Python in base", command=lambda: python.build(cache=False)),
            Contender(name="docker, uv, Python in base", command=lambda: uv.build(cache=False)),
        ],
    )
    bench.report.outcome(outcome, {"docker, pip + apt": target})


def cold(bench: Bench) -> None:
    """cold, without bytecode"""
    _cold(bench, "cold", bench.plain, "pip", 3)


def cold_bytecode(bench: Bench) -> None:
    """cold, with bytecode"""
    _cold(bench, "cold, bytecode", bench.bytecode, "pip-bytecode", 2.5)


def cold_push(bench: Bench) -> None:
    """cold, and pushed to an empty registry on this machine"""
    project, debs = bench.plain, bench.docker("pip", debs=True)

    def docker() -> Sample:
        built, pushed = debs.build(cache=False), debs.push()
        return Sample(wall=built.wall + pushed.wall, cpu=built.cpu + pushed.cpu)

    def prepare() -> None:
        bench.empty_registry()
        bench.empty_cache(project)

    reference = f"127.0.0.1:{bench.port}/afenv-bench:1"
    outcome = compare(
        "cold, pushed",
        bench.rounds,
        [
            Contender(
                name="afenv",
                prepare=prepare,
                command=lambda: project.afenv("build", "--push", reference, store=bench.cold_store),
            ),
            Contender(
                name="docker, pip + apt",
                prepare=lambda: bench.empty_registry() and None,
                command=docker,
            ),
        ],
    )
    bench.report.outcome(outcome, {"docker, pip + apt": 5})


def nothing(bench: Bench) -> None:
    """nothing changed. The peers: wheels from an image that is mounted; wheels in the build context"""
    project, docker, plain = bench.plain, bench.docker("pip"), bench.plain_docker
    docker.build(cache=True)
    outcome = compare(
        "nothing changed",
        3 * bench.rounds,
        [
            Contender(name="afenv", command=lambda: project.afenv("build")),
            Contender(name="docker", command=lambda: docker.build(cache=True)),
            Contender(name="docker, plain", command=lambda: plain.build(cache=True)),
        ],
    )
    bench.report.outcome(outcome, {"docker": 5, "docker, plain": 5})


def _change(docker: peers.DockerProject | peers.PlainProject) -> None:
    with (docker.code / "dimuon.py").open("a") as file:
        file.write("# changed\n")


def code(bench: Bench) -> None:
    """a line of code changed. The peers: wheels from an image that is mounted; wheels in the build context"""
    project, docker, plain = bench.plain, bench.docker("pip"), bench.plain_docker
    docker.build(cache=True)

    outcome = compare(
        "code changed",
        3 * bench.rounds,
        [
            Contender(name="afenv", prepare=project.change_code, command=lambda: project.afenv("build")),
            Contender(
                name="docker", prepare=lambda: _change(docker), command=lambda: docker.build(cache=True)
            ),
            Contender(
                name="docker, plain", prepare=lambda: _change(plain), command=lambda: plain.build(cache=True)
            ),
        ],
    )
    bench.report.outcome(outcome, {"docker": 5, "docker, plain": 5})


def push_code(bench: Bench) -> None:
    """a line of code changed, built: push it to a registry that has the rest"""
    project, docker = bench.plain, bench.docker("pip")
    reference = f"127.0.0.1:{bench.port}/afenv-bench:1"
    bench.empty_registry()
    project.afenv("push", project.layout, reference)
    docker.build(cache=True)
    docker.push()

    def change_ours() -> None:
        project.change_code()
        project.afenv("build")

    def change_docker() -> None:
        _change(docker)
        docker.build(cache=True)

    outcome = compare(
        "push a code change",
        3 * bench.rounds,
        [
            Contender(
                name="afenv, the image alone",
                prepare=change_ours,
                command=lambda: project.afenv("push", "--no-attach", project.layout, reference),
            ),
            Contender(
                name="afenv, with its documents",
                prepare=change_ours,
                command=lambda: project.afenv("push", project.layout, reference),
            ),
            Contender(name="docker", prepare=change_docker, command=docker.push),
        ],
    )
    bench.report.outcome(outcome, {"docker": 1})


def shared_bytecode(bench: Bench) -> None:
    """with bytecode, everything downloaded: an environment alone, and after another that shares packages"""
    other, project = bench.bytecode, bench.fewer

    def prepare(*forget: str) -> None:
        bench.empty_cache(other, project)
        other.afenv("build", store=bench.cold_store)
        for kind in forget:
            shutil.rmtree(bench.cold_store / "keys" / kind)

    def build() -> Sample:
        return project.afenv("build", store=bench.cold_store)

    outcome = compare(
        "bytecode shared",
        bench.rounds,
        [
            Contender(name="after another", prepare=prepare, command=build),
            Contender(
                name="after another, layers forgotten", prepare=lambda: prepare("layer"), command=build
            ),
            Contender(name="alone", prepare=lambda: bench.empty_cache(project), command=build),
        ],
    )
    bench.report.outcome(outcome, {})


def bump(bench: Bench) -> None:
    """one small package bumped, everything downloaded"""
    before, after = bench.plain, bench.bumped
    docker = bench.docker("pip", requirements="requirements-bumped.txt")

    def prepare() -> None:
        bench.empty_cache(before, after)
        before.afenv("build", store=bench.cold_store)

    outcome = compare(
        "one package bumped",
        bench.rounds,
        [
            Contender(
                name="afenv", prepare=prepare, command=lambda: after.afenv("build", store=bench.cold_store)
            ),
            Contender(name="docker, pip", command=lambda: docker.build(cache=False)),
        ],
    )
    bench.report.outcome(outcome, {})
    old, new = layer_sizes(before.build()), layer_sizes(after.build())
    pulled = sum(size for digest, size in new.items() if digest not in old)
    bench.report.figure("pulled for the bump", pulled / 1e6, "MB", most=1)


def variants(bench: Bench) -> None:
    """ten variants of the environment: what is stored"""
    versions = bench.plain.versions()
    projects = [bench.plain]
    for name in VARIED:
        project = make_project(
            bench.fresh(f"variant-{name}"), bench.store, constraints=[f"{name}<{versions[name]}"]
        )
        projects.append(project)
    stored: dict[str, int] = {}
    one_layer = 0
    shared: dict[str, int] = {}
    for project in projects:
        built = project.build()
        stored.update(layer_sizes(built))
        for layer in built["layers"]:
            if layer["source"].startswith(("debian", "system")):
                shared[layer["digest"]] = layer["size"]
            else:
                one_layer += layer["size"]
    whole = one_layer + sum(shared.values())
    bench.report.figure("ten variants, stored", sum(stored.values()) / 1e6, "MB")
    bench.report.figure("ten variants, all wheels in one layer", whole / 1e6, "MB")
    bench.report.figure("share", sum(stored.values()) / whole, "", most=1 / 3)


def memory(bench: Bench) -> None:
    """peak memory of cold builds: the sum over all processes"""
    reference = f"127.0.0.1:{bench.port}/afenv-bench:1"
    for name, project, options in (
        ("cold", bench.plain, ()),
        ("cold, bytecode", bench.bytecode, ()),
        ("cold, pushed", bench.plain, ("--push", reference)),
    ):
        if options:
            bench.empty_registry()
        bench.empty_cache(project)
        sample = project.afenv("build", *options, store=bench.cold_store, sample_memory=True)
        bench.report.figure(f"peak memory, {name}", (sample.peak or 0) / 1e6, "MB", most=300)


def help(bench: Bench) -> None:
    """CPU time of `afenv --help`"""
    outcome = compare(
        "afenv --help",
        5 * bench.rounds,
        [Contender(name="afenv", command=lambda: run([AFENV, "--help"]))],
    )
    bench.report.outcome(outcome, {})
    bench.report.figure("CPU of afenv --help", outcome.cpu("afenv"), "s", most=0.15)


def bound(bench: Bench) -> None:
    """the breakdown of a cold build, and its ratio to the C tools on the same bytes"""
    project = bench.plain
    folder = bench.fresh("bound")
    folder.mkdir()
    steps = measure_bound(project, folder)
    shutil.rmtree(folder)
    outcome: Outcome = compare(
        "cold, for the bound",
        bench.rounds,
        [
            Contender(
                name="afenv",
                prepare=lambda: bench.empty_cache(project),
                command=lambda: project.afenv("build", store=bench.cold_store),
            )
        ],
    )
    total, ours = sum(step.cpu for step in steps), outcome.cpu("afenv")
    bench.report.outcome(outcome, {})
    for step in steps:
        bench.report.figure(f"C tools: {step.name} ({step.size / 1e6:.0f} MB)", step.cpu, "CPU s")
    bench.report.figure("C tools together", total, "CPU s")
    bench.report.figure("afenv beyond the C tools", ours - total, "CPU s")
    bench.report.figure("afenv / C tools", ours / total, "×")


CASES: dict[str, Callable[[Bench], None]] = {
    "help": help,
    "cold": cold,
    "cold-bytecode": cold_bytecode,
    "cold-push": cold_push,
    "nothing": nothing,
    "code": code,
    "push-code": push_code,
    "shared-bytecode": shared_bytecode,
    "bump": bump,
    "variants": variants,
    "memory": memory,
    "bound": bound,
}


@contextlib.contextmanager
def open_bench(work: Path, kept: Path, rounds: int, report: Report) -> Iterator[Bench]:
    """A bench whose traces are removed at the end."""
    bench = Bench(work=work, kept=kept, rounds=rounds, report=report)
    try:
        yield bench
    finally:
        bench.close()
        peers.clean()
