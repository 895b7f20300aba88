"""The cases of conda packages: layers against an installation, a second build, and solving."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import Bench
from conda_channel import build_channel, serve, swollen
from measure import Contender, Sample, compare, run
from projects import AFENV, blob

PEER = Path(__file__).with_name("conda_peer.py")
GZIP = Path(__file__).with_name("conda_gzip.py")
PACKAGES = ("python=3.11", "numpy", "uproot", "hist", "pandas", "iminuit", "toyenv")
CONDA_FORGE = "https://conda.anaconda.org/conda-forge"

# what an image builder does with an installed prefix
PACK = 'tar --sort=name --owner=0 --group=0 --mtime=@0 -C "$1" -cf - . | "$2" "$3" > "$4"'


@dataclass(frozen=True, kw_only=True)
class CondaProject:
    """A folder with a manifest, and the variables that afenv is told."""

    folder: Path
    mirror: str

    def write(self, packages: tuple[str, ...], *, bytecode: bool) -> None:
        """Write the manifest."""
        section = f"    conda: {{channels: [conda-forge], dependencies: {json.dumps(packages)}}}\n"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "afenv.yaml").write_text(
            "afenv: 1\nname: bench\nenvironments:\n  default:\n    base: {debian: bookworm}\n"
            + (section if packages else "")
            + f"    bytecode: {json.dumps(bytecode)}\n"
        )

    def afenv(self, store: Path, *words: str | Path) -> Sample:
        """Run afenv, measured."""
        environment = {"AFENV_CACHE_DIR": str(store), "AFENV_MIRRORS": f"{CONDA_FORGE}={self.mirror}"}
        return run([AFENV, "-q", "-C", self.folder, *words], environment=environment)

    @property
    def locked(self) -> list[dict[str, Any]]:
        """The locked conda packages."""
        lock = json.loads((self.folder / "afenv.lock").read_text())
        packages: list[dict[str, Any]] = lock["environments"]["default"]["conda"]
        return packages

    def built(self, store: Path) -> dict[str, Any]:
        """What ``build --json`` says."""
        done = subprocess.run(
            [AFENV, "-q", "-C", self.folder, "build", "--json"],
            env={"AFENV_CACHE_DIR": str(store), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            check=True,
        )
        result: dict[str, Any] = json.loads(done.stdout)[0]
        return result


@contextmanager
def _project(bench: Bench, *, bytecode: bool = False) -> Iterator[tuple[CondaProject, Path, Path]]:
    """A locked project with everything downloaded, the channel, and the store."""
    channel, store = bench.work / "conda-channel", bench.work / "conda-store"
    if not channel.exists():
        build_channel(channel)
    with serve(channel) as url:
        project = CondaProject(folder=bench.fresh("conda"), mirror=url)
        project.write(PACKAGES, bytecode=bytecode)
        project.afenv(store, "build")
        yield project, channel, store


def _question(project: CondaProject, channel: Path, target: Path) -> Path:
    """What the peer is told."""
    locked = project.locked
    target.write_text(
        json.dumps(
            {
                "channel": channel.as_uri(),
                "folder": str(channel),
                "packages": [package["name"] for package in locked],
                "files": [package["urls"][0].rpartition("/")[2] for package in locked],
            }
        )
    )
    return target


def conda(bench: Bench) -> None:
    """conda: from lock to layers, cold; against py-rattler install + tar + gzip"""
    with _project(bench) as (project, channel, store):
        locked = project.locked
        question = _question(project, channel, bench.fresh("question.json"))
        cold, prefix, cache = bench.fresh("store"), bench.fresh("prefix"), bench.fresh("cache")
        layer = bench.fresh("layer.tar.gz")
        base = CondaProject(folder=bench.fresh("base"), mirror=project.mirror)
        base.write((), bytecode=False)
        base.afenv(store, "lock")

        def empty() -> None:
            """Debian's layers are there, the manifest was checked; of conda, the archives alone."""
            for path in (cold, prefix, cache, project.folder / ".afenv", base.folder / ".afenv"):
                shutil.rmtree(path, ignore_errors=True)
            for digest in _downloads(project):
                place = blob(cold, digest)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(blob(store, digest), place)
            base.afenv(cold, "build")
            project.afenv(cold, "lock", "--check")

        def peer() -> Sample:
            installed = run([sys.executable, PEER, "install", question, prefix, cache])
            packed = run(["sh", "-c", PACK, "sh", prefix, sys.executable, GZIP, layer])
            return Sample(wall=installed.wall + packed.wall, cpu=installed.cpu + packed.cpu)

        outcome = compare(
            "conda, cold",
            bench.rounds,
            [
                Contender(
                    name="afenv", prepare=empty, command=lambda: project.afenv(cold, "build", "--locked")
                ),
                Contender(name="rattler install + tar + gzip", command=peer),
            ],
        )
        size = sum(path.stat().st_size for path in prefix.rglob("*") if path.is_file())
        bench.report.outcome(outcome, {})
        bench.report.figure("conda packages", len(locked), "")
        bench.report.figure("installed", size / 1e6, "MB")
        theirs = "rattler install + tar + gzip"
        bench.report.figure("CPU of afenv, conda, cold", outcome.cpu("afenv"), "s")
        bench.report.figure(f"CPU of {theirs}", outcome.cpu(theirs), "s")
        bench.report.figure("ratio of CPU", outcome.cpu("afenv") / outcome.cpu(theirs), "", most=0.5)
        # py-rattler's time in the kernel doubles on a busy machine: the best rounds, too
        least = {name: min(sample.cpu for sample in samples) for name, samples in outcome.samples.items()}
        bench.report.figure("ratio of the least CPU", least["afenv"] / least[theirs], "", most=0.5)


def _downloads(project: CondaProject) -> set[str]:
    """The digests of everything that the lock names."""
    (environment,) = json.loads((project.folder / "afenv.lock").read_text())["environments"].values()
    packages = [*environment.get("debs", []), *environment.get("conda", []), *environment.get("wheels", [])]
    return {"sha256:" + package["sha256"] for package in packages}


def conda_bytecode(bench: Bench) -> None:
    """conda: from lock to layers with bytecode, cold"""
    with _project(bench, bytecode=True) as (project, _, store):
        cold = bench.fresh("store")

        def empty() -> None:
            shutil.rmtree(cold, ignore_errors=True)
            shutil.rmtree(project.folder / ".afenv", ignore_errors=True)
            for digest in _downloads(project):
                place = blob(cold, digest)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(blob(store, digest), place)

        ours = Contender(
            name="afenv", prepare=empty, command=lambda: project.afenv(cold, "build", "--locked")
        )
        bench.report.outcome(compare("conda, bytecode, cold", bench.rounds, [ours]), {})


def conda_again(bench: Bench) -> None:
    """conda: a second build"""
    with _project(bench) as (project, _, store):

        def forget() -> None:
            """The image is gone, its layers are not."""
            shutil.rmtree(project.folder / ".afenv", ignore_errors=True)

        ours = Contender(name="afenv", prepare=forget, command=lambda: project.afenv(store, "build"))
        outcome = compare("conda, again", 3 * bench.rounds, [ours])
        bench.report.outcome(outcome, {})
        bench.report.figure("CPU of a second conda build", outcome.cpu("afenv"), "s", most=0.5)


SOLVE = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from afenv.documents.manifest import CondaSection
from afenv.resolve.conda.resolver import resolve_conda
from afenv.settings import load_settings
from afenv.store.content import ContentStore
settings = load_settings()
section = CondaSection(channels=("conda-forge",), dependencies=tuple(json.loads(sys.argv[1])))
found = resolve_conda(section, Path.cwd(), "linux/amd64", (2, 36), None, datetime.now(UTC),
                      settings=settings, store=ContentStore(settings.cache_folder), quiet=True)
print(len(found.records))
"""


def conda_solve(bench: Bench) -> None:
    """conda: solving with an index of some hundred thousand records; against py-rattler alone"""
    with _project(bench) as (_, channel, _), serve(swollen(channel, bench.fresh("large"))) as url:
        caches = bench.fresh("store"), bench.fresh("rattler")
        virtual = [
            ("__archspec", "1", "x86_64"),
            ("__glibc", "2.36", "0"),
            ("__linux", "4.18", "0"),
            ("__unix", "0", "0"),
        ]
        question = bench.fresh("question.json")
        told = {"channel": url, "specs": PACKAGES, "cache": str(caches[1]), "virtual": virtual}
        question.write_text(json.dumps(told))
        environment = {"AFENV_CACHE_DIR": str(caches[0]), "AFENV_MIRRORS": f"{CONDA_FORGE}={url}"}

        def ours() -> Sample:
            return run([sys.executable, "-c", SOLVE, json.dumps(PACKAGES)], environment=environment)

        def theirs() -> Sample:
            return run([sys.executable, PEER, "solve", question])

        ours(), theirs()  # both have the index from now on
        contenders = [Contender(name="afenv", command=ours), Contender(name="py-rattler", command=theirs)]
        outcome = compare("conda, solving", 2 * bench.rounds, contenders)
        bench.report.outcome(outcome, {})
        ratio, _, _ = outcome.ratio("py-rattler")
        bench.report.figure("solving, afenv / py-rattler", 1 / ratio, "", most=1.3)


CONDA_CASES: dict[str, Callable[[Bench], None]] = {
    "conda": conda,
    "conda-bytecode": conda_bytecode,
    "conda-again": conda_again,
    "conda-solve": conda_solve,
}
