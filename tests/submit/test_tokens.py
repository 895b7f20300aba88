"""Where tokens come from."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from afenv.errors import AfenvError
from afenv.submit.tokens import find_token


def keyring(monkeypatch: pytest.MonkeyPatch, kept: dict[tuple[str, str], str]) -> None:
    """A keyring that keeps these."""
    module, errors = ModuleType("keyring"), ModuleType("keyring.errors")

    class KeyringError(Exception):
        pass

    def get_password(service: str, user: str) -> str | None:
        if user == "locked":
            raise KeyringError("locked")
        return kept.get((service, user))

    errors.KeyringError = KeyringError  # type: ignore[attr-defined]
    module.errors = errors  # type: ignore[attr-defined]
    module.get_password = get_password  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)


def test_the_environment_goes_before_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring(monkeypatch, {("afenv", "zenodo.org"): "kept"})
    monkeypatch.setenv("AFENV_SUBMIT_TOKEN", "general")
    monkeypatch.setenv("ZENODO_TOKEN", "own")
    assert find_token("zenodo.org", ("ZENODO_TOKEN",)) == "general"
    monkeypatch.delenv("AFENV_SUBMIT_TOKEN")
    assert find_token("zenodo.org", ("ZENODO_TOKEN",)) == "own"
    assert find_token("zenodo.org", ()) == "kept"


@pytest.mark.parametrize("host", ["example.org", "locked"])
def test_no_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    keyring(monkeypatch, {("afenv", "zenodo.org"): "kept"})
    monkeypatch.delenv("AFENV_SUBMIT_TOKEN")
    with pytest.raises(AfenvError, match="AFENV_SUBMIT_TOKEN") as caught:
        find_token(host, ())
    assert caught.value.code == "E744"


@pytest.mark.parametrize("text", ["two words", "a\nb", "ä"])
def test_what_is_no_token_is_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AFENV_SUBMIT_TOKEN", text)
    with pytest.raises(AfenvError) as caught:
        find_token("zenodo.org", ())
    assert caught.value.code == "E744" and text not in str(caught.value)
