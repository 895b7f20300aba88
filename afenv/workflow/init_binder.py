"""What a repository that Binder knows tells of its environment: repo2docker's own files, and Dockerfiles.

Source: the configuration files that repo2docker's documentation lists.
"""

from __future__ import annotations

import re
from pathlib import Path

from afenv.workflow.init_findings import PYTHON_TAKEN, Findings, first_file, read_text

_DEBIAN_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")


def look_for_binder(folder: Path, found: Findings) -> None:
    """The files of repo2docker that are its own: ``apt.txt``, ``runtime.txt``, ``postBuild``, ``start``."""
    packages = first_file(folder, "apt.txt")
    if packages and (text := read_text(folder, packages, found)):
        words = re.sub(r"#.*", "", text).split()
        good = [word for word in words if _DEBIAN_NAME.match(word)]
        found.packages.update(good)
        found.taken.append((packages, "the Debian packages (repo2docker has Ubuntu: names may differ)"))
        found.not_taken += [
            (packages, f"{word!r} is not the name of a package") for word in words if word not in good
        ]
    runtime = first_file(folder, "runtime.txt")
    if runtime and (text := read_text(folder, runtime, found)):
        if text.startswith("r-"):
            pass  # the version of R: see below
        elif match := re.fullmatch(r"python-(\d+\.\d+)(\.\d+)?", text.strip()):
            found.want_python(f"=={match[1]}.*", runtime)
            found.taken.append((runtime, PYTHON_TAKEN))
        else:
            found.not_taken.append((runtime, f"{text.strip()[:40]!r} is not a version of Python"))
    look = find_script(folder, "postBuild", found)
    if look is not None:
        file, interpreter = look
        found.build.append(f"{interpreter} {file}")
        found.taken.append((file, "a build command; it runs in a sandbox without network"))
    look = find_script(folder, "start", found)
    if look is not None:
        file, interpreter = look
        found.entrypoint = [*interpreter.split(), f"/analysis/{file}"]
        found.taken.append((file, "what a container starts with, before its command"))
    _look_for_recipes(folder, found)


def find_script(folder: Path, name: str, found: Findings) -> tuple[str, str] | None:
    """A script of Binder and the words that run it, which its first line tells; None if there is none."""
    file = first_file(folder, name)
    text = read_text(folder, file, found) if file else None
    if file is None or text is None:
        return None
    match = re.match(r"#![ \t]*(/\S+(?:[ \t]+\S+)?)", text)
    return file, match[1] if match else "/bin/bash"


def _look_for_recipes(folder: Path, found: Findings) -> None:
    """A Dockerfile, or files of languages that afenv does not lock: the tools that read them can build."""
    dockerfile = first_file(folder, "Dockerfile")
    if dockerfile and (dockerfile != "Dockerfile" or not _describes_python(folder)):
        found.builder = {"name": "docker"} | ({"file": dockerfile} if dockerfile != "Dockerfile" else {})
        found.taken = [(dockerfile, "docker builds it, and the result is not reproducible")]
        found.not_taken = []
        return
    if dockerfile:
        found.not_taken.append(
            (dockerfile, "to build it as it is, put in place of `base`: builder: {name: docker}")
        )
    foreign = {name: what for name, what in _FOREIGN.items() if first_file(folder, name)}
    runtime = read_text(folder, file, found) if (file := first_file(folder, "runtime.txt")) else None
    if runtime is not None and runtime.startswith("r-"):
        foreign["runtime.txt"] = "its version of R"
    if foreign and not _describes_python(folder):
        found.builder = {"name": "repo2docker"}
        remark = "repo2docker builds it, and the result is not reproducible"
        found.taken = [(first_file(folder, name) or name, remark) for name in foreign]
        found.not_taken = []
        return
    for name, what in foreign.items():
        found.not_taken.append((first_file(folder, name) or name, what))


_FOREIGN = {
    "install.R": "its R packages; write them as Debian or conda packages",
    "DESCRIPTION": "its R packages; write them as Debian or conda packages",
    "Project.toml": "its Julia packages",
    "default.nix": "its Nix packages",
}


def _describes_python(folder: Path) -> bool:
    names = (
        "environment.yml",
        "environment.yaml",
        "requirements.txt",
        "conda-lock.yml",
        "pixi.lock",
        "pixi.toml",
    )
    return bool(first_file(folder, *names, "pylock.toml", "pyproject.toml"))


def look_for_others(folder: Path, found: Findings) -> None:
    """Files that describe an environment or a workflow in ways that are not taken over."""
    for name in ("Snakefile", "workflow/Snakefile"):
        if (folder / name).is_file():
            found.not_taken.append(
                (name, "its rules can become `steps`; or run Snakemake in the environment")
            )
    for name, what in (
        ("setup.py", "its dependencies, which only running it would tell"),
        ("setup.cfg", "its dependencies; write them to pyproject.toml"),
        ("Pipfile", "its dependencies; write them to requirements.txt"),
    ):
        if file := first_file(folder, name):
            found.not_taken.append((file, what))
