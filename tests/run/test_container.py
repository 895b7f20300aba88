"""What is asked of each runtime, and what its end means."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run import oci_engine
from afenv.run.container import Mount, plan_run, run_image
from afenv.run.engines import Engine
from afenv.run.request import RunRequest
from afenv.testing import make_image

DOCKER = """
case "$1 $2" in
  "info --format") echo "20.10 [name=seccomp]" ;;
  "image inspect") exit 0 ;;
  events*) cat "$state/events" 2>/dev/null ;;
  run*) shift; while [ "$1" != --cidfile ]; do shift; done; echo 0123456789abcdef > "$2"; %s ;;
esac
"""
IMAGE = "sha256:" + "12" * 32
ALONE = ("--rm", "--interactive", "--tty", "--init", "--http-proxy=false")


@pytest.fixture
def image(store):
    return make_image(store)


@pytest.fixture
def request_(tmp_path):
    return RunRequest(command=("python3", "x.py"), workdir=tmp_path, uid=1234, gid=100, hostname="node7")


def options_of(engine: Engine, request: RunRequest) -> list[tuple[str, str | None]]:
    """The options as pairs; those that stand alone with None."""
    pairs, rest = [], list(oci_engine.options(engine, request))
    while rest:
        name = rest.pop(0)
        pairs.append((name, None if name in ALONE else rest.pop(0)))
    return pairs


def test_a_docker_command_line(fake, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(oci_engine, "SELINUX", tmp_path / "no")
    request = replace(request_, env={"A": "1"}, mounts=(Mount(tmp_path, "/d", True),))
    engine = Engine(name="docker", command=("docker",))
    assert options_of(engine, request) == [
        ("--rm", None),
        ("--interactive", None),
        ("--log-driver", "none"),
        ("--user", "1234:100"),
        ("--network", "host"),
        ("--tmpfs", "/run/home:rw,exec,mode=1777"),
        ("--mount", f"type=bind,source={tmp_path},target=/d,readonly=true"),
        ("--mount", f"type=bind,source={tmp_path},target={tmp_path}"),
        ("--workdir", str(tmp_path)),
        ("--env", "A=1"),
        ("--env", "HOME=/run/home"),
        ("--env", "LOGNAME=analyst"),
        ("--env", "USER=analyst"),
    ]
    line = oci_engine.launch(engine, IMAGE, {}, request, "")
    assert line[-3:] == (IMAGE[7:], "python3", "x.py")


def test_network_gpu_and_terminal(fake, request_):
    docker, podman = (Engine(name=name, command=(name,)) for name in ("docker", "podman"))
    alone = options_of(docker, replace(request_, network=False))
    assert ("--network", "none") in alone
    assert ("--hostname", "node7") in alone
    with_gpu = replace(request_, gpu=True)
    assert ("--gpus", "all") in options_of(docker, with_gpu)
    assert ("--device", "nvidia.com/gpu=all") in options_of(podman, with_gpu)
    terminal = replace(request_, interactive=True, term="xterm")
    assert ("--tty", None) in options_of(docker, terminal)
    assert ("--env", "TERM=xterm") in options_of(docker, terminal)
    assert not [pair for pair in options_of(docker, replace(request_, term="xterm")) if "xterm" in str(pair)]


def test_a_shell_keeps_only_what_activates(request_):
    engine = Engine(name="docker", command=("docker",))
    request = replace(request_, command=("sh",), entrypoint=False)
    plain = oci_engine.launch(engine, IMAGE, {"Entrypoint": ["python3"]}, request, "")
    assert plain[-4:] == ("--entrypoint", "", IMAGE[7:], "sh")
    wrapped = {"Entrypoint": ["/opt/conda/bin/afenv-activate", "python3"]}
    assert oci_engine.launch(engine, IMAGE, wrapped, request, "")[-3] == "/opt/conda/bin/afenv-activate"


def identity(request: RunRequest, **engine) -> list[str]:
    return oci_engine._identity(Engine(**({"name": "docker", "command": ("x",)} | engine)), request)


def test_files_belong_to_the_caller_under_every_engine(request_):
    own = "1234:100"
    assert identity(request_) == ["--user", own]
    grouped = replace(request_, groups=(7, 8))
    assert identity(grouped) == ["--user", own, "--group-add", "7", "--group-add", "8"]
    assert identity(request_, rootless=True) == ["--user", "0:0"]
    assert identity(request_, name="podman", rootless=True) == ["--userns", "keep-id", "--user", own]
    assert identity(request_, name="podman")[:2] == ["--user", own]


def test_podman_as_root_asks_for_no_more_than_this_process_has(monkeypatch):
    import resource

    limits = {resource.RLIMIT_NOFILE: (1024, 20000), resource.RLIMIT_NPROC: (1, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert oci_engine._limits() == ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768"]


def test_a_process_1_where_there_is_one(fake, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(oci_engine, "PODMAN_INITS", ())

    def options(runtime: str) -> tuple[str, ...]:
        return oci_engine.options(Engine(name=runtime, command=(runtime,)), request_)

    assert "--init" not in options("docker")
    assert "--init" not in options("podman")
    fake("docker-init", "")
    fake("tini-static", "")
    assert "--init" in options("docker")
    assert "--init-path" in options("podman")
    monkeypatch.setattr(oci_engine, "PODMAN_INITS", (str(tmp_path),))
    assert "--init" in options("podman")
    assert "--init-path" not in options("podman")


def test_selinux_does_not_hide_the_folder(fake, request_, tmp_path, monkeypatch):
    (tmp_path / "enforce").write_text("1")
    monkeypatch.setattr(oci_engine, "SELINUX", tmp_path / "enforce")
    assert "label=disable" in oci_engine.options(Engine(name="docker", command=("docker",)), request_)


@pytest.mark.parametrize("name", ["plain", "a b", "a,b", 'a"b', "a,b=c:d", "Z→μμ"])
def test_folders_with_any_name(name, tmp_path):
    source = tmp_path / name
    (fields,) = csv.reader([oci_engine._mount(Mount(source, str(source)))])
    assert fields == ["type=bind", f"source={source}", f"target={source}"]


def test_a_folder_that_cannot_be_used(fake, image, store, tmp_path):
    fake("docker", DOCKER % "exit 0")
    for folder, expected in ((tmp_path / "no", "E001"), (tmp_path.anchor, "E030")):
        with pytest.raises(AfenvError) as caught:
            plan_run(image, store, [], workdir=type(tmp_path)(folder))
        assert caught.value.code == expected


@pytest.mark.parametrize("status", [0, 1, 3, 130, 137])
def test_the_exit_status_is_the_commands(fake, image, store, tmp_path, status):
    fake("docker", DOCKER % f"exit {status}")
    assert run_image(plan_run(image, store, [], workdir=tmp_path)) == status


@pytest.mark.parametrize(("status", "code"), [(125, "E502"), (126, "E504"), (127, "E503")])
def test_these_are_the_engines_unless_the_container_ran(fake, image, store, tmp_path, status, code):
    fake("docker", DOCKER % f"exit {status}")
    plan = plan_run(image, store, ["nope"], workdir=tmp_path)
    with pytest.raises(AfenvError) as caught:
        run_image(plan)
    assert caught.value.code == code
    assert caught.value.exit_status == (3 if status == 125 else status)
    (tmp_path / "events").write_text("0123456789abcdef\n")
    assert run_image(plan) == status


@pytest.mark.parametrize(("status", "code"), [(126, "E504"), (127, "E503")])
def test_a_command_that_process_1_does_not_find(fake, image, store, tmp_path, monkeypatch, status, code):
    """The container ran, and the image's shell is asked for the command; its answer decides."""
    fake("docker", DOCKER % f"exit {status}")
    monkeypatch.setattr(oci_engine, "_init", lambda _: ["--init"])
    (tmp_path / "events").write_text("0123456789abcdef\n")
    plan = plan_run(image, store, ["nope"], workdir=tmp_path)
    assert run_image(plan) == status, "the shell finds the command"
    answers = DOCKER.replace(
        "run*) shift;", f'run*) case "$2" in --cidfile) ;; *) exit {status} ;; esac; shift;'
    )
    fake("docker", answers % f"exit {status}")
    with pytest.raises(AfenvError) as caught:
        run_image(plan)
    assert (caught.value.code, caught.value.exit_status) == (code, status)


def test_the_container_is_named_by_a_file_of_its_own(fake, image, store, tmp_path):
    log = fake("docker", DOCKER % "exit 0")
    run_image(plan_run(image, store, [], workdir=tmp_path))
    line = log.read_text().splitlines()[-1]
    assert line.startswith("run --cidfile ")
    assert not Path(line.split()[2]).exists()


def test_the_request_is_that_of_the_calling_process(fake, image, store, tmp_path):
    fake("docker", DOCKER % "exit 0")
    request = plan_run(image, store, [], workdir=tmp_path).request
    assert (request.uid, request.gid, request.hostname) == (os.getuid(), os.getgid(), os.uname().nodename)
