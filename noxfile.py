"""What to run: `nox` checks a change, `nox -l` lists the rest.

Every session installs what it needs. `nox -s tests` needs nothing but Python packages.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "typing", "tests"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]
SOURCES = ("afenv", "builders", "registry", "tests", "docs", "specs", "noxfile.py")


def _install(session: nox.Session, *groups: str) -> None:
    """The package and groups at once: one after the other, a later one may undo what an earlier one needs."""
    found = [nox.project.dependency_groups(PROJECT, name) for name in groups]
    session.install("-e", ".", *(requirement for group in found for requirement in group))


def _pytest(session: nox.Session, *arguments: str, groups: tuple[str, ...] = ("test",)) -> None:
    """Install the package with the test tools and run pytest; no test collected is a failure."""
    _install(session, *groups)
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The default tests, with the Python that runs nox."""
    _pytest(session, "-n", "auto")


@nox.session(python=PYTHONS, name="tests-on")
def tests_on(session: nox.Session) -> None:
    """The default tests, with a Python of choice: `nox -s tests-on-3.13`."""
    _pytest(session, "-n", "auto")


@nox.session
def property(session: nox.Session) -> None:
    """The property-based tests, with many more examples than the default tests try."""
    session.env["HYPOTHESIS_PROFILE"] = "thorough"
    _pytest(session, "-n", "auto", "-m", "hypothesis and not services and not network and not cvmfs_server")


@nox.session
def services(session: nox.Session) -> None:
    """The tests with real services and runtimes: dockerd, podman, skopeo, umoci, docker-registry, apt."""
    # a file at a time, two side by side: they wait for servers and boots as often as for a processor
    two = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    _pytest(session, *two, "-m", "services", groups=("test", "services"))


@nox.session
def cvmfs_server(session: nox.Session) -> None:
    """The tests with CVMFS's own client and server, as root on a host that has them; CI does not."""
    _pytest(session, "-m", "cvmfs_server")


@nox.session
def network(session: nox.Session) -> None:
    """The tests that ask the public package registries."""
    _pytest(session, "-m", "network and not services")


@nox.session
def docs(session: nox.Session) -> None:
    """The tutorial's commands, run in order, and the generated pages, compared."""
    _pytest(session, "-m", "", "tests/docs")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and the direction of imports."""
    _install(session, "lint")
    session.run("ruff", "check", *SOURCES)
    session.run("ruff", "format", "--check", *SOURCES)
    session.run("lint-imports", "--no-cache")


@nox.session
def typing(session: nox.Session) -> None:
    """Types, strictly."""
    _install(session, "typing")
    session.run("mypy")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build wheel and sdist, install the wheel alone, and see that it finds its data."""
    session.install("build")
    folder = Path(session.create_tmp()) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    session.install("--force-reinstall", str(built))
    with tempfile.TemporaryDirectory() as elsewhere:
        session.chdir(elsewhere)
        session.run("afenv", "--version")
        session.run("afenv", "--help", silent=True)
        session.run("python", "-c", WHEEL_CHECK)
        session.chdir(ROOT)


WHEEL_CHECK = """
import importlib.metadata as metadata
from afenv.specs import specs_folder
folder = specs_folder()
assert folder.name == "_specs", folder
for name in ("errors.toml", "manifest/v1/schema.json", "lock/v1/schema.json"):
    assert (folder / name).is_file(), name
for name in ("afenv.yaml", "dimuon.py", "README.md"):
    assert (folder / "manifest/v1/examples/dimuon" / name).is_file(), name
for group in ("afenv.builders", "afenv.registries"):
    for point in metadata.entry_points(group=group):
        point.load()
for package in ("afenv", "afenv_builders", "afenv_registry"):
    module = __import__(package)
    assert "site-packages" in module.__file__, module.__file__
print("the wheel is complete")
"""


@nox.session
def gen(session: nox.Session) -> None:
    """Regenerate the reference pages from the schemas, the error catalogue and the command line."""
    session.install("-e", ".")
    session.run("python", "docs/generate.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare with the peers: `nox -s bench`, or some cases: `nox -s bench -- cold change`."""
    session.install(".")
    session.env["PYTHONHASHSEED"] = "0"
    session.run("python", "tests/bench", *session.posargs)


if os.environ.get("CI") == "true":
    nox.options.error_on_missing_interpreters = True
