"""What a repository tells of its environment, in the files of other tools.

Each function looks at one kind of file and adds to the findings: what goes into the manifest, and, for
the comments at its head, what was taken over and what was not. Nothing is run, and a file that cannot
be read is reported in the comments, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afenv.errors import AfenvError

# The Python of each Debian release that a base may be made of, the preferred release first.
PYTHON_OF_SUITE = {"bookworm": "3.11", "trixie": "3.13", "bullseye": "3.9"}

PYTHON_TAKEN = "the version of Python"
BINDER_FOLDERS = ("binder", ".binder")  # where repo2docker looks first
_INCLUDE = re.compile(r"-[rc]|--requirement|--constraint")


@dataclass(slots=True)
class Findings:
    """What was found so far. ``taken`` and ``not_taken`` are (file, sentence) for the comments."""

    name: str
    version: str = "0"
    metadata: dict[str, Any] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    conda: dict[str, Any] = field(default_factory=dict)
    pypi: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    python: tuple[str, str] | None = None  # a version specifier (PEP 440), and the file that asks for it
    build: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    builder: dict[str, str] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    taken: list[tuple[str, str]] = field(default_factory=list)
    not_taken: list[tuple[str, str]] = field(default_factory=list)

    def want_python(self, specifier: str, file: str) -> None:
        """Note which Python is asked for; the first file that says so counts."""
        if specifier and self.python is None:
            self.python = (specifier, file)

    def suite(self) -> str:
        """The Debian release whose Python fits what was asked for."""
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        suites = list(PYTHON_OF_SUITE)
        if self.python is None or self.conda:
            return suites[0]
        specifier, file = self.python
        try:
            wanted = SpecifierSet(specifier)
        except InvalidSpecifier:
            self.not_taken.append((file, f"the Python version {specifier!r} cannot be understood"))
            return suites[0]
        for suite, version in PYTHON_OF_SUITE.items():
            if wanted.contains(version + ".2"):
                return suite
        have = ", ".join(f"{suite} {version}" for suite, version in PYTHON_OF_SUITE.items())
        self.taken = [(name, what) for name, what in self.taken if (name, what) != (file, PYTHON_TAKEN)]
        self.not_taken.append((file, f"no Debian release has Python {specifier} ({have})"))
        return suites[0]


def normalised_name(text: str) -> str:
    """A text as the name of an analysis: lower case, with single hyphens where other characters were."""
    parts = re.findall(r"[a-z0-9]+(?:[._][a-z0-9]+)*", text.lower())
    return "-".join(parts)[:128].strip("-._") or "analysis"


# Files that repo2docker reads in the folder of Binder alone, where there is one.
_OF_BINDER = {
    "apt.txt", "environment.yml", "environment.yaml", "requirements.txt", "runtime.txt", "postBuild", "start",
    "install.R", "DESCRIPTION", "Project.toml", "default.nix", "setup.py", "Pipfile", "Dockerfile",
}  # fmt: skip


def binder_folder(folder: Path) -> str | None:
    """The folder of Binder's files, where there is one."""
    return next((name for name in BINDER_FOLDERS if (folder / name).is_dir()), None)


def first_file(folder: Path, *names: str) -> str | None:
    """The first of these files that exists, relative to ``folder``: in the folder of Binder, or beside it.

    Where there is a folder of Binder, repo2docker does not look for its own files elsewhere.
    """
    binder = binder_folder(folder)
    for place in filter(None, (binder, ".")):
        for name in names:
            if place == "." and binder is not None and name in _OF_BINDER:
                continue
            if (folder / place / name).is_file():
                return name if place == "." else f"{place}/{name}"
    return None


def read_text(folder: Path, name: str, found: Findings) -> str | None:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        found.not_taken.append((name, "it cannot be read as text in UTF-8"))
        return None


def _toml(folder: Path, name: str, found: Findings) -> dict[str, Any]:
    import tomllib

    text = read_text(folder, name, found)
    try:
        return tomllib.loads(text) if text is not None else {}
    except tomllib.TOMLDecodeError as error:
        found.not_taken.append((name, f"it is not TOML: {error}"))
        return {}


def read_foreign_yaml(folder: Path, name: str, found: Findings) -> dict[str, Any]:
    """The top mapping of a YAML file of another tool; empty if there is none."""
    from afenv.documents.yaml_tree import read_yaml

    text = read_text(folder, name, found)
    if text is None:
        return {}
    try:
        tree = read_yaml(text.encode(), name).root.plain()
    except AfenvError as error:
        found.not_taken.append((name, f"it cannot be read: {error.problems[0].message}"))
        return {}
    return tree if isinstance(tree, dict) else {}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def look_for_project(folder: Path, found: Findings) -> None:
    """``pyproject.toml``: name, version, description, licence, authors, Python, dependencies."""
    name = "pyproject.toml"
    if not (folder / name).is_file():
        return
    document = _toml(folder, name, found)
    project = _table(document.get("project"))
    if not project:
        if document:
            found.not_taken.append((name, "it has no [project] table"))
        return
    found.name = normalised_name(str(project.get("name", found.name)))
    version = project.get("version")
    if isinstance(version, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", version):
        found.version = version
    if isinstance(project.get("description"), str) and project["description"].strip():
        found.metadata["title"] = project["description"]
    if isinstance(project.get("license"), str) and project["license"].strip():
        found.metadata["license"] = project["license"]
    authors = project.get("authors")
    names = [
        str(author["name"])
        for author in (authors if isinstance(authors, list) else [])
        if isinstance(author, dict) and str(author.get("name", "")).strip()
    ]
    if names:
        found.metadata["authors"] = [{"name": author} for author in names]
    found.taken.append((name, "the name and the description of the analysis"))
    found.want_python(str(project.get("requires-python", "")), name)
    if "build-system" in document:
        source = "/analysis/src" if (folder / "src").is_dir() else "/analysis"
        found.variables["PYTHONPATH"] = source
        found.taken.append((name, f"the project itself is not installed; PYTHONPATH is {source}"))


def look_for_conda(folder: Path, found: Findings) -> None:
    """``conda-lock.yml``, ``pixi.lock``, ``environment.yml`` and ``pixi.toml``, the first that exists."""
    lock = first_file(folder, "conda-lock.yml", "conda-lock.yaml", "pixi.lock")
    file = first_file(folder, "environment.yml", "environment.yaml")
    manifest = first_file(folder, "pixi.toml")
    if lock:
        found.conda["lock"] = lock
        found.taken.append((lock, "the conda packages, as they are locked"))
        for other in filter(None, (file, manifest)):
            found.not_taken.append((other, f"{lock} answers it already"))
    elif file:
        found.conda["file"] = file
        found.taken.append((file, "the conda packages, and the pip packages in it"))
        if manifest:
            found.not_taken.append((manifest, f"{file} describes the environment already"))
        tree = read_foreign_yaml(folder, file, found)
        if not tree.get("channels"):
            found.conda["channels"] = ["conda-forge"]
            found.taken.append((file, "it names no channel; conda-forge is assumed"))
    elif manifest:
        _look_into_pixi(folder, manifest, found)


def _look_into_pixi(folder: Path, name: str, found: Findings) -> None:
    document = _toml(folder, name, found)
    head = _table(document.get("workspace")) or _table(document.get("project"))
    found.name = normalised_name(str(head.get("name", found.name)))
    dependencies = _table(document.get("dependencies"))
    if dependencies:
        channels = head.get("channels")
        found.conda = {
            "channels": [item for item in channels if isinstance(item, str)]
            if isinstance(channels, list)
            else [],
            "dependencies": [_specification(package, spec, " ") for package, spec in dependencies.items()],
        }
        found.conda["channels"] = found.conda["channels"] or ["conda-forge"]
        found.taken.append((name, "the conda packages of its default environment"))
    requirements = _table(document.get("pypi-dependencies"))
    plain = {package: spec for package, spec in requirements.items() if not _is_local(spec)}
    if plain:
        found.pypi["dependencies"] = [_specification(package, spec, "") for package, spec in plain.items()]
        found.taken.append((name, "the PyPI packages of its default environment"))
    for package in requirements.keys() - plain.keys():
        found.not_taken.append((name, f"{package} comes from a path, a URL or a repository"))
    for section in ("tasks", "feature", "target", "activation", "system-requirements"):
        if document.get(section):
            found.not_taken.append((name, f"the section [{section}]"))


def _is_local(spec: Any) -> bool:
    return isinstance(spec, dict) and not spec.keys().isdisjoint({"path", "git", "url"})


def _specification(package: str, spec: Any, separator: str) -> str:
    table = _table(spec)
    version = str(table.get("version", "*") if table else spec).strip()
    extras = table.get("extras")
    text = package + (f"[{','.join(map(str, extras))}]" if isinstance(extras, list) and not separator else "")
    if version in ("*", ""):
        return text
    if not separator and version[0].isdigit():
        version = "==" + version
    return f"{text}{separator}{version}"


def look_for_pypi(folder: Path, found: Findings) -> None:
    """``pylock.toml``, ``requirements.txt`` and ``pyproject.toml``, the first that exists."""
    locks = ["pylock.toml", *sorted(path.name for path in folder.glob("pylock.*.toml"))]
    lock = first_file(folder, *locks)
    file = first_file(folder, "requirements.txt")
    project = "pyproject.toml" if _has_dependencies(folder, found) else None
    present = [name for name in (lock, file, project) if name]
    if not present:
        return
    if found.conda or found.pypi:
        owner = found.conda.get("lock") or found.conda.get("file") or "pixi.toml"
        for name in present:
            found.not_taken.append((name, f"{owner} describes the environment already"))
        return
    chosen = present[0]
    for name in present[1:]:
        found.not_taken.append((name, f"its packages: {chosen} has them already"))
    if chosen == lock:
        found.pypi = {"lock": lock}
        found.taken.append((lock, "the PyPI packages, as they are locked"))
    elif chosen == file:
        _look_into_requirements(folder, file, found)
    else:
        found.pypi = {"file": chosen}
        found.taken.append((chosen, "the PyPI packages that it depends on"))


def _has_dependencies(folder: Path, found: Findings) -> bool:
    if not (folder / "pyproject.toml").is_file():
        return False
    document = _toml(folder, "pyproject.toml", Findings(name=""))
    project = _table(document.get("project"))
    if "dependencies" in (project.get("dynamic") or ()):
        found.not_taken.append(
            ("pyproject.toml", "its dependencies, which are dynamic: a build would tell them")
        )
        return False
    if _table(_table(document.get("tool")).get("poetry")).get("dependencies") and not project:
        found.not_taken.append(
            ("pyproject.toml", "the dependencies of [tool.poetry]; write them to [project]")
        )
    return bool(project.get("dependencies"))


def _look_into_requirements(folder: Path, name: str, found: Findings) -> None:
    """Refer to the file; where it has lines that afenv cannot lock, take over the other lines."""
    text = read_text(folder, name, found)
    if text is None:
        return
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in re.sub(r"\\\r?\n", " ", text).splitlines()]
    lines = [line for line in lines if line]
    unfit = [line for line in lines if _is_unfit(line)]
    if not lines:
        found.not_taken.append((name, "it is empty"))
    elif not unfit or any(_INCLUDE.match(line) for line in lines):
        found.pypi = {"file": name}
        found.taken.append((name, "the PyPI packages"))
    else:
        requirements = [line for line in lines if line not in unfit and not line.startswith("-")]
        if requirements:
            found.pypi = {
                "dependencies": list(dict.fromkeys(_without_options(line) for line in requirements))
            }
            found.taken.append((name, "the PyPI packages, line by line"))
    for line in unfit:
        found.not_taken.append((name, f"the line {line!r}: only packages of an index can be locked"))


def _without_options(line: str) -> str:
    return " ".join(re.split(r"\s--?[a-z]", line)[0].split())


def _is_unfit(line: str) -> bool:
    """Whether a line asks for something else than a package of an index."""
    from packaging.requirements import InvalidRequirement, Requirement

    if line.startswith("-"):
        return not _INCLUDE.match(line) and not line.startswith(
            ("--hash", "--only-binary", "--prefer-binary")
        )
    try:
        return Requirement(_without_options(line)).url is not None
    except InvalidRequirement:
        return True
