"""The command line as a program: help, usage, errors, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afenv.cli import _command, main
from afenv.cli.parser import build_parser

HEAVY = (
    "requests",
    "jsonschema",
    "ruamel",
    "pygit2",
    "pysequoia",
    "isal",
    "zstandard",
    "packaging",
    "tomllib",
)


def run_afenv(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "afenv", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for name in ("init", "lock", "build", "run", "inspect", "diff", "push", "cache", "demo"):
        assert f"\n    {name} " in text


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom afenv.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.exit(','.join(sorted(set({HEAVY!r}) & set(sys.modules))) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 0, f"imported: {result.stderr}"


def test_a_validator_of_formats_that_takes_seconds_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "rfc3987_syntax.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "afenv.yaml").write_text("afenv: 1\nname: 3\n")
    surroundings = {"PYTHONPATH": str(tmp_path), "AFENV_CACHE_DIR": str(tmp_path / "cache")}
    result = run_afenv("lock", folder=tmp_path, **surroundings)
    assert "E011" in result.stderr  # jsonschema's, so it was imported
    assert result.returncode == 2


def test_every_command_has_a_module() -> None:
    from importlib.util import find_spec

    subparsers = next(action for action in build_parser()._actions if action.dest == "command")
    assert subparsers.choices
    for name in subparsers.choices:
        assert find_spec(f"afenv.cli.command_{name}"), name


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "exit status" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["frobnicate"], ["build", "--outptu", "x"], ["lock", "surplus"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: afenv" in capsys.readouterr().err


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    result = run_afenv("lock", folder=tmp_path, AFENV_CACHE_DIR=str(tmp_path / "cache"))
    assert result.returncode == 2
    assert "E001" in result.stderr
    assert "afenv init" in result.stderr
    assert "Traceback" not in result.stderr


def test_errors_as_json(tmp_path: Path) -> None:
    result = run_afenv("build", "--json", folder=tmp_path, AFENV_CACHE_DIR=str(tmp_path / "cache"))
    assert result.returncode == 2
    (problem,) = json.loads(result.stderr)["errors"]
    assert problem["code"] == "E001"
    assert problem["remedy"]
    assert result.stdout == ""


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    result = run_afenv("-C", "nowhere", "lock", folder=tmp_path)
    assert result.returncode == 2
    assert "no such folder" in result.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AFENV_JOBS", "many"),
        ("AFENV_JOBS", "0"),
        ("SOURCE_DATE_EPOCH", "-1"),
        ("AFENV_MIRRORS", "x"),
        ("AFENV_MIRRORS", "http://a/=http://[b/"),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    result = run_afenv("lock", folder=tmp_path, **{name: value})
    assert result.returncode == 2
    assert f"{name}: error E030" in result.stderr


def test_options_may_stand_on_either_side() -> None:
    before = build_parser().parse_args(["-C", "x", "--offline", "lock"])
    after = build_parser().parse_args(["lock", "-C", "x", "--offline"])
    assert (before.folder_of_analysis, before.offline) == (after.folder_of_analysis, after.offline)
    assert before.folder_of_analysis == Path("x")


def test_an_unknown_time_is_refused(tmp_path: Path) -> None:
    (tmp_path / "afenv.yaml").write_text(
        "afenv: 1\nname: x\nenvironments: {default: {base: {debian: bookworm}}}\n"
    )
    result = run_afenv(
        "lock", "--as-of", "yesterday", folder=tmp_path, AFENV_CACHE_DIR=str(tmp_path / "cache")
    )
    assert result.returncode == 2
    assert "'yesterday' is not a time" in result.stderr


def test_the_parser_of_one_command_is_that_of_the_whole() -> None:
    def commands(parser):
        return next(action for action in parser._actions if action.dest == "command").choices

    whole = commands(build_parser())
    for name, parser in whole.items():
        (one,) = commands(build_parser(name)).values()
        assert one.format_help() == parser.format_help()
    assert commands(build_parser("biuld")).keys() == whole.keys()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["-q", "-C", "x", "build", "-h"], "build"),
        (["-C", "build", "--offline", "lock"], "lock"),
        (["--help", "build"], None),
        (["-Cx", "push", "y"], "push"),
        (["-C"], None),
        ([], None),
    ],
)
def test_the_word_that_is_the_command(arguments, command) -> None:
    assert _command(arguments) == command


def test_of_many_errors_of_one_kind_the_first_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "afenv.yaml").write_text(
        "afenv: 1\nname: many\nenvironments: {default: {base: {debian: bookworm}}}\n"
        + "".join(f"unknown{number}: 1\n" for number in range(25))
    )
    assert main(["-C", str(tmp_path), "lock"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("error E") == 10
    assert shown.count("Remove the key or correct its spelling.") == 1
    assert shown.splitlines()[-1] == "and 15 more of E010"
    assert main(["-C", str(tmp_path), "lock", "--json"]) == 2
    assert len(json.loads(capsys.readouterr().err)["errors"]) == 25


def test_names_that_are_no_unicode_are_shown(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    name = b"\xff\xc3\xbc"
    (tmp_path / "two" / os.fsdecode(name)).write_text("text")

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "afenv", *words]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)

    shown = run("diff", "one", "two")
    assert (shown.returncode, shown.stderr) == (1, b"")
    assert b"+ " + name + b" file" in shown.stdout
    shown = run("diff", "one", "two", "--json")
    assert (shown.returncode, shown.stderr) == (1, b"")
    assert [os.fsencode(one["what"]) for one in json.loads(shown.stdout)["files"]] == [name]
    shown = run("inspect", os.fsdecode(name), "--json")
    assert shown.returncode == 2
    assert os.fsencode(json.loads(shown.stderr)["errors"][0]["place"]) == name
