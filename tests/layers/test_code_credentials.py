"""Which credentials are offered, in which order, and to whom."""

from __future__ import annotations

import os
from pathlib import Path

import pygit2
import pytest

from afenv.layers import code_credentials
from afenv.layers.code_credentials import Login, logins, tell_helper, token_name


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("GIT_", "SSH_", "AFENV_GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return tmp_path


def offered(url: str) -> list[tuple[str, str]]:
    return [(login.user, login.secret) for login in logins(url)]


def test_names_of_variables() -> None:
    assert token_name("gitlab.example.org") == "AFENV_GIT_TOKEN_GITLAB_EXAMPLE_ORG"
    assert token_name("git-1.example.org") == "AFENV_GIT_TOKEN_GIT_1_EXAMPLE_ORG"


def test_the_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://git.example.org/a.git"
    assert offered(url) == []
    helper = home / "helper"
    helper.write_text("#!/bin/sh\n[ $1 = get ] && printf 'username=h\\npassword=4\\n'\n")
    helper.chmod(0o755)
    (home / ".gitconfig").write_text(f"[credential]\n\thelper = {helper}\n")
    (home / ".netrc").write_text("machine git.example.org login n password 3\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("AFENV_GIT_TOKEN_GIT_EXAMPLE_ORG", "2")
    assert offered(url) == [("oauth2", "2"), ("n", "3"), ("h", "4")]
    assert offered("https://me:1@git.example.org/a.git")[:2] == [("me", "1"), ("me", "2")]
    assert offered("https://other.example.org/a.git") == [("h", "4")]


def test_tokens_are_not_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFENV_GIT_TOKEN_GIT_EXAMPLE_ORG", "2")
    monkeypatch.setenv("AFENV_GIT_TOKEN_LOCALHOST", "2")
    monkeypatch.setenv("AFENV_GIT_TOKEN_127_0_0_1_EXAMPLE_ORG", "2")
    assert offered("http://git.example.org/a.git") == []
    assert offered("http://127.0.0.1.example.org/a.git") == []
    assert offered("http://localhost:8080/a.git") == [("oauth2", "2")]


def test_no_secret_is_shown() -> None:
    assert "hush" not in repr(Login("me", "hush"))


@pytest.mark.parametrize("kind", ["path", "shell", "name", "scoped", "other host"])
def test_helpers_without_the_program_git(kind: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked as git would ask them (gitcredentials(7))."""
    tools = home / "tools"
    tools.mkdir()
    for name in ("sh", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    notes = home / "notes"
    script = tools / "git-credential-mine"
    lines = [
        f"echo $1 >> {notes}",
        f"cat >> {notes}",
        "[ $1 = get ] || exit 0",
        "echo username=h",
        "echo password=4",
    ]
    script.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    value = {"path": f"{script} ", "name": "mine", "shell": f"!{script}"}.get(kind, str(script))
    section = {"scoped": ' "https://git.example.org"', "other host": ' "https://git.example"'}.get(kind, "")
    (home / ".gitconfig").write_text(f"[credential{section}]\n\thelper = {value}\n")
    before = pygit2.settings.search_path[pygit2.enums.ConfigLevel.GLOBAL]
    pygit2.settings.search_path[pygit2.enums.ConfigLevel.GLOBAL] = str(home)
    try:
        found = list(logins("https://git.example.org/group/a.git"))
        if kind == "other host":
            assert found == []
            return
        assert found == [Login("h", "4", helper=True)]
        assert notes.read_text() == "get\nprotocol=https\nhost=git.example.org\npath=group/a.git\n\n"
        tell_helper("https://git.example.org/group/a.git", found[0], good=False)
        assert "erase\n" in notes.read_text()
        assert "password=4\n" in notes.read_text()
    finally:
        pygit2.settings.search_path[pygit2.enums.ConfigLevel.GLOBAL] = before


def test_a_helper_that_fails_or_hangs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_credentials, "HELPER_PATIENCE", 0.3)
    for script in ("exit 1", "sleep 5", "echo nonsense", "echo username=x"):
        (home / "helper").write_text(f"#!/bin/sh\n{script}\n")
        (home / "helper").chmod(0o755)
        (home / ".gitconfig").write_text(f"[credential]\n\thelper = {home}/helper\n")
        assert offered("https://git.example.org/a.git") == []


def test_a_url_cannot_smuggle_fields(home: Path) -> None:
    notes = home / "notes"
    (home / ".gitconfig").write_text(f"[credential]\n\thelper = !cat > {notes}; true\n")
    for url in ("https://git.example.org/a%0ahost=other", "https://git.example.org/a\nhost=other"):
        assert offered(url) == []
        told = notes.read_text().splitlines() if notes.exists() else []
        assert [line for line in told if line.startswith("host=")] in ([], ["host=git.example.org"])
