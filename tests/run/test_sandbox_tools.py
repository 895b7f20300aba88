"""Limits, and what is said where there can be no sandbox."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.run.sandbox_limits import load_limits, parse_size
from afenv.run.sandbox_tools import find_bubblewrap, remedy

HELP = "#!/bin/sh\n[ $1 = --help ] && echo '{options}' && exit\necho 'bwrap: No permissions' >&2\nexit 1\n"


@pytest.fixture
def bwrap(tmp_path, monkeypatch):
    """Let a script take the place of bubblewrap."""

    def write(options: str) -> None:
        path = tmp_path / "bwrap"
        path.write_text(HELP.format(options=options))
        path.chmod(0o755)
        monkeypatch.setenv("AFENV_BWRAP", str(path))

    find_bubblewrap.cache_clear()
    yield write
    find_bubblewrap.cache_clear()


def code() -> tuple[str, str]:
    with pytest.raises(AfenvError) as caught:
        find_bubblewrap()
    return caught.value.code, str(caught.value)


def test_sizes():
    assert parse_size("500", "X") == 500
    assert parse_size("2k", "X") == 2048
    assert parse_size("3GiB", "X") == 3 << 30
    for wrong in ("", "0", "x", "-1", "1P", "1.5G"):
        with pytest.raises(AfenvError, match="E030"):
            parse_size(wrong, "X")


def test_limits_come_from_variables(tmp_path, monkeypatch):
    defaults = load_limits(tmp_path)
    assert (defaults.time, defaults.processes) == (3600, 4096)
    assert 0 < defaults.disk <= 20 << 30
    monkeypatch.setenv("AFENV_BUILD_TIME", "7")
    monkeypatch.setenv("AFENV_BUILD_MEMORY", "1G")
    assert (load_limits(tmp_path).time, load_limits(tmp_path).memory) == (7, 1 << 30)
    monkeypatch.setenv("AFENV_BUILD_PROCESSES", "many")
    with pytest.raises(AfenvError, match="E030"):
        load_limits(tmp_path)


def test_no_bubblewrap(bwrap, tmp_path, monkeypatch):
    monkeypatch.setenv("AFENV_BWRAP", str(tmp_path / "missing"))
    assert code()[0] == "E520"


def test_an_old_bubblewrap(bwrap):
    bwrap("--unshare-user --hostname")
    found, text = code()
    assert (found, "--info-fd" in text) == ("E520", True)


def test_user_namespaces_that_are_forbidden(bwrap):
    bwrap("--die-with-parent --hostname --info-fd --unsetenv --unshare-user")
    found, text = code()
    assert found == "E521"
    assert "bwrap: No permissions" in text
    assert "administrator" in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"user.max_user_namespaces": "0"}, "user.max_user_namespaces=15000"),
        ({"kernel.unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, "AppArmor profile"),
        ({}, "seccomp=unconfined"),
    ],
)
def test_what_to_ask_the_administrator_for(settings, words):
    assert words in remedy(lambda name: settings.get(name, ""))
