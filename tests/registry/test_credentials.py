"""Credentials that other tools have saved."""

from __future__ import annotations

import base64
import json

import pytest

from afenv.errors import AfenvError
from afenv_registry.credentials import Credentials, find_credentials


def entry(user="u", password="p"):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def save(folder, document, name="config.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))


def test_no_credentials():
    assert find_credentials("h.org", "a/b") is None


@pytest.mark.parametrize("key", ["h.org", "https://h.org", "https://h.org/"])
def test_dockers_file(no_credentials, key):
    save(no_credentials, {"auths": {key: entry("me", "a:b")}})
    found = find_credentials("h.org", "a/b")
    assert found == Credentials(user="me", password="a:b")
    assert found.basic == "Basic " + base64.b64encode(b"me:a:b").decode()
    assert find_credentials("other.org", "a/b") is None
    assert find_credentials("h.org:5000", "a/b") is None


def test_other_spellings_of_an_entry(no_credentials):
    save(
        no_credentials,
        {
            "auths": {
                "a.org": {"username": "x", "password": "y"},
                "b.org": {"identitytoken": "t"},
                "c.org": {},
            }
        },
    )
    assert find_credentials("a.org", "r") == Credentials(user="x", password="y")
    assert find_credentials("b.org", "r") == Credentials(identity_token="t")
    assert find_credentials("c.org", "r") is None


def test_docker_hub(no_credentials):
    save(no_credentials, {"auths": {"https://index.docker.io/v1/": entry("hub")}})
    found = find_credentials("docker.io", "library/debian")
    assert found is not None
    assert found.user == "hub"


def test_the_most_particular_entry_and_the_first_file_decide(no_credentials, tmp_path, monkeypatch):
    save(no_credentials, {"auths": {"h.org": entry("docker")}})
    auths = {"h.org": entry("podman"), "h.org/a": entry("group"), "h.org/a/b": entry("one")}
    save(tmp_path / "run" / "containers", {"auths": auths}, "auth.json")

    def user(repository: str) -> str:
        found = find_credentials("h.org", repository)
        return found.user if found else ""

    assert [user(name) for name in ("a/b", "a/c", "z")] == ["one", "group", "podman"]
    save(tmp_path / "mine", {"auths": {"h.org": entry("mine")}})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "mine" / "config.json"))
    assert user("z") == "mine"


def test_credential_helpers(no_credentials, tmp_path, monkeypatch):
    helper = tmp_path / "docker-credential-test"
    helper.write_text(
        '#!/bin/sh\nread -r host\n[ "$1" = get ] || exit 9\n'
        'case $host in token.org) user="<token>" ;; h.org) user=me ;; *) echo none; exit 1 ;; esac\n'
        'echo "{\\"Username\\": \\"$user\\", \\"Secret\\": \\"s\\"}"\n'
    )
    helper.chmod(0o755)
    nested = tmp_path / "docker-credential-nested"
    nested.write_text("#!/bin/sh\nread -r host\nprintf '[%.0s' $(seq 5000)\n")
    nested.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helpers = {
        "h.org": "test",
        "token.org": "test",
        "no.org": "test",
        "x.org": "not-installed",
        "z.org": "nested",
    }
    save(no_credentials, {"credHelpers": helpers, "auths": {"y.org": {}}, "credsStore": "test"})
    assert find_credentials("h.org", "a") == Credentials(user="me", password="s")
    assert find_credentials("token.org", "a") == Credentials(identity_token="s")
    assert find_credentials("no.org", "a") is None
    assert find_credentials("x.org", "a") is None
    assert find_credentials("z.org", "a") is None
    assert find_credentials("y.org", "a") is None


@pytest.mark.parametrize("text", ["{", "[" * 5000, json.dumps({"auths": {"h.org": {"auth": "?"}}})])
def test_a_damaged_file(no_credentials, text):
    (no_credentials / "config.json").write_text(text)
    with pytest.raises(AfenvError) as caught:
        find_credentials("h.org", "a")
    assert caught.value.code == "E601"
    assert "config.json" in str(caught.value)


def test_passwords_that_are_not_utf_8(no_credentials, monkeypatch):
    monkeypatch.setenv("AFENV_REGISTRY_USER_H_ORG", "me")
    monkeypatch.setenv("AFENV_REGISTRY_PASSWORD_H_ORG", "caf\udce9")  # the byte 0xe9
    found = find_credentials("h.org", "a")
    assert found is not None
    assert found.basic == "Basic " + base64.b64encode(b"me:caf\xe9").decode()
    save(no_credentials, {"auths": {"other.org": {"username": "me", "password": "\ud800"}}})
    found = find_credentials("other.org", "a")
    with pytest.raises(AfenvError) as caught:
        _ = found and found.basic
    assert caught.value.code == "E601"


@pytest.mark.parametrize("text", ["[]", "{}", '{"auths": null}'])
def test_files_without_entries(no_credentials, text):
    (no_credentials / "config.json").write_text(text)
    assert find_credentials("h.org", "a") is None


def test_apptainers_file(tmp_path, monkeypatch):
    monkeypatch.setenv("APPTAINER_CONFIGDIR", str(tmp_path / "apptainer"))
    save(tmp_path / "apptainer", {"auths": {"h.org": entry("sif")}}, "docker-config.json")
    found = find_credentials("h.org", "a")
    assert found is not None
    assert found.user == "sif"


def test_the_environment_goes_first_and_for_its_registry_only(no_credentials, monkeypatch):
    save(no_credentials, {"auths": {"h.org:5000": entry("saved")}})
    monkeypatch.setenv("AFENV_REGISTRY_USER", "ci")
    monkeypatch.setenv("AFENV_REGISTRY_PASSWORD", "secret")
    assert find_credentials("h.org:5000", "a") == Credentials(user="saved", password="p")
    monkeypatch.setenv("AFENV_REGISTRY_HOST", "h.org:5000")
    assert find_credentials("h.org:5000", "a") == Credentials(user="ci", password="secret")
    assert find_credentials("docker.io", "a") is None
    monkeypatch.setenv("AFENV_REGISTRY_TOKEN_H_ORG_5000", "bearer")
    assert find_credentials("h.org:5000", "a") == Credentials(token="bearer")


def test_a_store_that_knows_more_than_the_file(no_credentials, tmp_path, monkeypatch):
    save(no_credentials, {"credsStore": "sample"})
    helper = tmp_path / "bin" / "docker-credential-sample"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\nread key; echo "{\\"Username\\": \\"$key\\", \\"Secret\\": \\"s\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    assert find_credentials("h.org", "a/b") == Credentials(user="h.org", password="s")
    hub = find_credentials("docker.io", "library/debian")
    assert hub is not None
    assert hub.user == "https://index.docker.io/v1/"


@pytest.mark.parametrize("document", [[], {"auths": []}, {"auths": {"h.org": 1}}, {"credsStore": "../x"}])
def test_files_of_another_form_know_nothing(no_credentials, document):
    save(no_credentials, document)
    assert find_credentials("h.org", "a") is None
