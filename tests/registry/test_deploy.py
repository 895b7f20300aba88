"""The files for CI systems say what the program knows."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ruamel.yaml import YAML

from afenv.cli.parser import build_parser

DEPLOY = Path(__file__).parents[2] / "registry" / "deploy"
GITHUB = DEPLOY / "github-actions" / "image.yml"
GITLAB = DEPLOY / "gitlab-ci" / "image.gitlab-ci.yml"


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def github_commands() -> list[str]:
    """What a run on the main branch executes, in order."""
    steps = load(GITHUB)["jobs"]["image"]["steps"]
    return [step["run"] for step in steps if "run" in step and "==" not in step.get("if", "")]


def gitlab_commands() -> list[str]:
    jobs = load(GITLAB)
    return [*jobs[".afenv"]["before_script"], *jobs["image"]["script"]]


@pytest.mark.parametrize("commands", [github_commands(), gitlab_commands()], ids=["github", "gitlab"])
def test_the_commands_are_ours(commands: list[str]) -> None:
    ours = [shlex.split(command) for command in commands if command.startswith("afenv ")]
    assert [words[1] for words in ours] == ["lock", "build", "verify"]
    for words in ours:
        words = words[1 : words.index(">")] if ">" in words else words[1:]
        options = build_parser().parse_args(words)
        assert options.command == words[0]


def test_both_run_the_same() -> None:
    assert github_commands() == gitlab_commands()


def test_they_build_locked_and_push_and_sign() -> None:
    (build,) = [command for command in github_commands() if command.startswith("afenv build")]
    for needed in ("--locked", "--json", "--push", "--sign", "--cache-from", "--cache-to"):
        assert needed in build


def test_changes_are_built_and_not_pushed() -> None:
    steps = load(GITHUB)["jobs"]["image"]["steps"]
    (build,) = [step for step in steps if "==" in step.get("if", "")]
    assert "--push" not in build["run"] and build["run"].startswith("afenv build")
    assert build["run"] == load(GITLAB)["check"]["script"][1]


def test_the_variables_are_set_where_they_are_used() -> None:
    for text, known in (
        (GITHUB.read_text(), set(load(GITHUB)["jobs"]["image"]["env"])),
        (GITLAB.read_text(), set(load(GITLAB)["variables"])),
    ):
        used = set(re.findall(r"\$([A-Z]+)\b(?!_)", text)) - {"CI"}
        assert used == {"IMAGE", "TAG", "ENVIRONMENT"} and used <= known


def test_the_readme_names_the_files() -> None:
    for path in re.findall(r"\]\(([^)]+)\)", (DEPLOY / "README.md").read_text()):
        assert (DEPLOY / path).exists(), path


def test_a_key_in_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from afenv.attest.keys import generate_key
    from afenv.errors import AfenvError
    from afenv.workflow.sign import read_signing_key

    private, public = generate_key(password="secret")
    monkeypatch.setenv("CI_KEY", private.decode())
    monkeypatch.setenv("AFENV_KEY_PASSWORD", "secret")
    assert read_signing_key(tmp_path / "env:CI_KEY").public.pem == public
    monkeypatch.setenv("CI_KEY", "")
    with pytest.raises(AfenvError) as caught:
        read_signing_key(tmp_path / "env:CI_KEY")
    assert caught.value.code == "E610" and "env:CI_KEY" in str(caught.value)


def test_the_container_test_reads_these_files() -> None:
    """The test in a clean container takes its commands from here."""
    path = Path(__file__).parents[1] / "services" / "test_ci_files.py"
    spec = importlib.util.spec_from_file_location("ci_files", path)
    assert spec is not None and spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.commands(GITHUB) == github_commands()
    assert module.commands(GITLAB) == gitlab_commands()
