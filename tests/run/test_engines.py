"""Which engine is used."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.run import engines
from afenv.run.choose import find_runtime

DOCKER = 'echo "20.10 [name=seccomp]"'


def code(name=None) -> tuple[str, str]:
    with pytest.raises(AfenvError) as caught:
        find_runtime(name)
    return caught.value.code, str(caught.value)


def test_no_engine(fake):
    found, text = code()
    assert found == "E501"
    assert "no docker" in text
    assert "no podman" in text
    assert code("docker")[0] == "E501"


def test_docker_goes_before_podman(fake):
    fake("docker", DOCKER)
    fake("podman", "")
    assert find_runtime().name == "docker"
    assert find_runtime("podman").name == "podman"


def test_docker_without_an_engine_is_passed_over(fake):
    fake("docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    fake("podman", "")
    assert find_runtime().name == "podman"
    found, text = code("docker")
    assert (found, "Cannot connect" in text) == ("E502", True)


def test_docker_that_says_nothing_does_not_work(fake):
    fake("docker", "echo")  # what docker info prints without an engine, with exit status 0 in old versions
    assert code("docker")[0] == "E502"


def test_an_engine_that_hangs(fake, monkeypatch):
    monkeypatch.setattr(engines, "PATIENCE", 0.2)
    fake("docker", "exec sleep 5")
    found, text = code("docker")
    assert (found, "does not answer" in text) == ("E502", True)


def test_the_environment_chooses(fake, monkeypatch):
    fake("docker", DOCKER)
    fake("podman", "")
    monkeypatch.setenv("AFENV_RUNTIME", "podman")
    assert find_runtime().name == "podman"
    assert find_runtime("docker").name == "docker"
    monkeypatch.setenv("AFENV_RUNTIME", "lxc")
    assert code()[0] == "E030"


def test_the_command_can_be_given(fake, tmp_path, monkeypatch):
    log = fake("other", DOCKER)
    monkeypatch.setenv("AFENV_DOCKER", f"{tmp_path}/bin/other --context 'my lab'")
    engine = find_runtime("docker")
    assert engine.command == (f"{tmp_path}/bin/other", "--context", "my lab")
    assert log.read_text().startswith("--context my lab info")
    monkeypatch.setenv("AFENV_DOCKER", "docker 'open")
    assert code("docker")[0] == "E030"
    monkeypatch.setenv("AFENV_DOCKER", "/no/such/docker")
    assert code("docker")[0] == "E502"


def test_rootless_engines_are_recognised(fake, monkeypatch):
    fake("docker", 'echo "24.0 [name=seccomp name=rootless]"')
    fake("podman", "")
    assert find_runtime("docker").rootless
    assert not find_runtime("docker").containerd
    fake("docker", 'echo "29.0 [] [[driver-type io.containerd.snapshotter.v1]]"')
    assert find_runtime("docker").containerd
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert find_runtime("podman").rootless
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert not find_runtime("podman").rootless
