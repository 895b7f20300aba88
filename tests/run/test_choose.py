"""Which runtime is chosen: the pure choice, the order that is asked for, and what a host is found to have."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.run import remedies
from afenv.run.apptainer import Apptainer
from afenv.run.choose import ORDER, Host, choose, find_runtime, preference
from afenv.run.engines import Engine

NONE = AfenvError("E501", "there is none")
BROKEN = AfenvError("E502", "it does not answer")
WRONG = AfenvError("E030", "a variable is wrong")
PODMAN = Engine(name="podman", command=("podman",))
APPTAINER = Apptainer(command=("apptainer",))


def found(**runtimes):
    return {name: runtimes.get(name, NONE) for name in ORDER}


def test_the_first_one_wanted_that_is_there():
    both = found(podman=PODMAN, apptainer=APPTAINER)
    assert choose(both, ORDER) is PODMAN
    assert choose(both, ("apptainer", "podman")) is APPTAINER
    assert choose(found(docker=BROKEN, apptainer=APPTAINER), ORDER) is APPTAINER


def test_the_only_one_wanted_says_why_not():
    for reason in (NONE, BROKEN):
        with pytest.raises(AfenvError) as caught:
            choose(found(docker=reason, podman=PODMAN), ("docker",))
        assert caught.value is reason


def test_none_at_all(monkeypatch):
    monkeypatch.setattr(remedies, "host_remedy", lambda: "do this")
    with pytest.raises(AfenvError) as caught:
        choose(found(docker=BROKEN), ORDER)
    (problem,) = caught.value.problems
    assert (problem.code, problem.remedy) == ("E501", "do this")
    assert problem.message == "it does not answer; there is none; there is none; there is none"


def test_what_is_wrong_is_not_passed_over():
    with pytest.raises(AfenvError) as caught:
        choose(found(docker=WRONG, podman=PODMAN), ORDER)
    assert caught.value is WRONG


def test_the_order(monkeypatch):
    monkeypatch.delenv("AFENV_RUNTIME", raising=False)
    assert preference() == ORDER
    assert preference("podman, docker,podman") == ("podman", "docker")
    monkeypatch.setenv("AFENV_RUNTIME", "userns,apptainer")
    assert preference() == ("userns", "apptainer")
    assert preference("docker") == ("docker",)
    for bad in ("lxc", "docker,lxc"):
        with pytest.raises(AfenvError) as caught:
            preference(bad)
        assert caught.value.code == "E030"


def test_a_runtime_is_looked_for_when_it_is_asked_for(fake):
    log = fake("docker", "echo 20.10")
    host = Host()
    assert tuple(host) == ORDER
    assert len(host) == 4
    assert not log.exists()
    assert host["docker"].name == "docker"
    assert log.exists()


def test_apptainer_or_singularity(fake, tmp_path, monkeypatch):
    assert find_runtime_code("apptainer") == "E501"
    fake("singularity", "")
    assert find_runtime("apptainer").command == (f"{tmp_path}/bin/singularity",)
    fake("apptainer", "")
    assert find_runtime("apptainer").command == (f"{tmp_path}/bin/apptainer",)
    monkeypatch.setenv("AFENV_APPTAINER", "/opt/apptainer/bin/apptainer --debug")
    assert find_runtime("apptainer").command == ("/opt/apptainer/bin/apptainer", "--debug")
    monkeypatch.setenv("AFENV_APPTAINER", "apptainer 'open")
    assert find_runtime_code("apptainer") == "E030"


def find_runtime_code(name: str) -> str:
    with pytest.raises(AfenvError) as caught:
        find_runtime(name)
    return caught.value.code


def test_user_namespaces(fake, monkeypatch):
    assert find_runtime_code("userns") == "E501"
    fake("bwrap", "")
    assert find_runtime_code("userns") == "E501"
    fake("unshare", "exit 0")
    assert find_runtime("userns").name == "userns"


def test_a_host_without_user_namespaces(fake, monkeypatch):
    fake("bwrap", "")
    fake("unshare", 'echo "unshare: unshare failed: No space left on device" >&2; exit 1')
    monkeypatch.setattr(remedies, "namespace_settings", lambda: {"max_user_namespaces": "0"})
    with pytest.raises(AfenvError) as caught:
        find_runtime("userns")
    (problem,) = caught.value.problems
    assert problem.code == "E502"
    assert "no user namespaces" in problem.message
    assert "user.max_user_namespaces=15000" in str(problem.remedy)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_user_namespaces": "0"}, "user.max_user_namespaces=15000"),
        ({"unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        ({"apparmor_restrict_unprivileged_userns": "1"}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"max_user_namespaces": "15000"}, "seccomp"),
        ({}, "administrator"),
    ],
)
def test_what_to_ask_the_administrator_for(settings, expected):
    reason, remedy = remedies.why_no_user_namespaces("Operation not permitted", settings)
    assert expected in remedy
    assert reason


def test_kernel_settings_are_read_where_they_are(tmp_path):
    assert remedies.namespace_settings(tmp_path) == {}
    folder = tmp_path / "proc/sys/user"
    folder.mkdir(parents=True)
    (folder / "max_user_namespaces").write_text("96365\n")
    assert remedies.namespace_settings(tmp_path) == {"max_user_namespaces": "96365"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("FATAL: fuse: failed to open /dev/fuse: Permission denied", "/dev/fuse"),
        ("FATAL: failed to create namespace: Operation not permitted", "max_user_namespaces"),
        ("FATAL: while setting rlimit: operation not permitted", "root default capabilities"),
        ("FATAL: no space left on device", "TMPDIR"),
    ],
)
def test_what_to_do_when_apptainer_fails(said, expected):
    assert expected in str(remedies.apptainer_remedy(said, {"max_user_namespaces": "0"}))


def test_a_failure_that_is_not_known_keeps_the_general_remedy():
    assert remedies.apptainer_remedy("FATAL: something else", {}) is None


@pytest.mark.parametrize(
    ("identifiers", "root", "contained", "expected"),
    [
        ("debian", True, False, "Run `apt install podman uidmap`"),
        ("ubuntu debian", False, False, "Ask the administrator for `apt install podman uidmap`"),
        ("almalinux rhel centos fedora", False, False, "module load apptainer"),
        ("opensuse-leap suse", True, False, "Run `zypper install podman`."),
        ("arch", False, False, "Ask the administrator for Podman, Apptainer"),
        ("arch", True, False, "Install Podman, Apptainer"),
        ("debian", False, True, "This is a container itself"),
    ],
)
def test_what_to_install(identifiers, root, contained, expected):
    text = remedies.no_runtime_remedy(identifiers, root=root, contained=contained)
    assert expected in text
    assert "`afenv build` works without a runtime" in text


def test_the_host_is_asked_what_it_is(tmp_path):
    assert "Podman" in remedies.host_remedy(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="Debian"\nID=debian\nID_LIKE="x"\n')
    assert "apt install" in remedies.host_remedy(tmp_path)
    (tmp_path / ".dockerenv").touch()
    assert "container itself" in remedies.host_remedy(tmp_path)


def test_the_order_of_a_facility(monkeypatch, tmp_path):
    profile = tmp_path / "facility.yaml"
    monkeypatch.delenv("AFENV_RUNTIME", raising=False)
    monkeypatch.setenv("AFENV_FACILITY", str(profile))
    with pytest.raises(AfenvError) as caught:
        preference()
    assert caught.value.code == "E001"
    head = "afenv-facility: 1\nname: example\n"
    profile.write_text(head)
    assert preference() == ORDER  # it does not say
    profile.write_text(head + "runtimes: [{name: containerd}, {name: singularity}, {name: podman}]\n")
    assert preference() == ("apptainer", "podman")
    assert preference("docker") == ("docker",)
    monkeypatch.setenv("AFENV_RUNTIME", "userns")
    assert preference() == ("userns",)
    monkeypatch.delenv("AFENV_RUNTIME")
    for none in ("runtimes: []", "runtimes: [{name: containerd}]"):
        profile.write_text(head + none + "\n")
        with pytest.raises(AfenvError) as caught:
            preference()
        assert caught.value.code == "E501"
