"""The command line that is run, and what its end means."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run import container
from afenv.run.container import Mount, plan_run, run_image
from afenv.run.engines import Engine
from afenv.testing import make_image

DOCKER = """
case "$1 $2" in
  "info --format") echo "20.10 [name=seccomp]" ;;
  "image inspect") exit 0 ;;
  events*) cat "$state/events" 2>/dev/null ;;
  run*) shift; while [ "$1" != --cidfile ]; do shift; done; echo 0123456789abcdef > "$2"; %s ;;
esac
"""


@pytest.fixture
def image(store):
    return make_image(store)


def options_of(plan):
    """The options as pairs; those that stand alone with None."""
    pairs, rest = [], list(plan.options)
    while rest:
        name = rest.pop(0)
        alone = name in ("--rm", "--interactive", "--tty", "--init")
        pairs.append((name, None if alone else rest.pop(0)))
    return pairs


def test_a_docker_command_line(fake, image, store, tmp_path, monkeypatch):
    fake("docker", DOCKER % "exit 0")
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("os.getgid", lambda: 100)
    monkeypatch.setattr(container, "SELINUX", tmp_path / "no")
    plan = plan_run(
        image,
        store,
        ["python3", "x.py"],
        workdir=tmp_path,
        env={"A": "1"},
        mounts=[Mount(tmp_path, "/d", True)],
    )
    assert options_of(plan) == [
        ("--rm", None),
        ("--interactive", None),
        ("--user", "1234:100"),
        ("--tmpfs", "/run/home:rw,exec,mode=1777"),
        ("--mount", f"type=bind,source={tmp_path},target={tmp_path}"),
        ("--mount", f"type=bind,source={tmp_path},target=/d,readonly=true"),
        ("--workdir", str(tmp_path)),
        ("--env", "A=1"),
        ("--env", "HOME=/run/home"),
        ("--env", "LOGNAME=analyst"),
        ("--env", "USER=analyst"),
    ]
    assert plan.command_line[-3:] == (image.image_id[7:], "python3", "x.py")


def identity(**engine) -> list[str]:
    return container._identity(Engine(**({"name": "docker", "command": ("x",)} | engine)))


def test_files_belong_to_the_caller_under_every_engine(monkeypatch):
    own = f"{os.getuid()}:{os.getgid()}"
    assert identity() == ["--user", own]
    assert identity(rootless=True) == ["--user", "0:0"]
    assert identity(name="podman", rootless=True) == ["--userns", "keep-id", "--user", own]
    assert identity(name="podman")[:2] == ["--user", own]


def test_podman_as_root_asks_for_no_more_than_this_process_has(monkeypatch):
    import resource

    limits = {resource.RLIMIT_NOFILE: (1024, 20000), resource.RLIMIT_NPROC: (1, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert container._limits() == ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768"]


def test_a_terminal(fake, image, store, tmp_path, monkeypatch):
    fake("docker", DOCKER % "exit 0")
    monkeypatch.setenv("TERM", "xterm")
    plan = plan_run(image, store, [], workdir=tmp_path, interactive=True)
    assert "--tty" in plan.options
    assert "TERM=xterm" in plan.options
    assert plan.command == ()


def test_a_process_1_where_there_is_one(fake, image, store, tmp_path, monkeypatch):
    fake("docker", DOCKER % "exit 0")
    fake("podman", "")
    monkeypatch.setattr(container, "PODMAN_INITS", ())

    def options(runtime: str) -> tuple[str, ...]:
        return plan_run(image, store, [], workdir=tmp_path, runtime=runtime).options

    assert "--init" not in options("docker")
    assert "--init" not in options("podman")
    fake("docker-init", "")
    fake("tini-static", "")
    assert "--init" in options("docker")
    assert "--init-path" in options("podman")
    monkeypatch.setattr(container, "PODMAN_INITS", (str(tmp_path),))
    assert "--init" in options("podman")
    assert "--init-path" not in options("podman")


def test_selinux_does_not_hide_the_folder(fake, image, store, tmp_path, monkeypatch):
    fake("docker", DOCKER % "exit 0")
    (tmp_path / "enforce").write_text("1")
    monkeypatch.setattr(container, "SELINUX", tmp_path / "enforce")
    assert "label=disable" in plan_run(image, store, [], workdir=tmp_path).options


@pytest.mark.parametrize("name", ["plain", "a b", "a,b", 'a"b', "a,b=c:d", "Z→μμ"])
def test_folders_with_any_name(name, tmp_path):
    source = tmp_path / name
    (fields,) = csv.reader([container._mount(Mount(source, str(source)))])
    assert fields == ["type=bind", f"source={source}", f"target={source}"]


def test_a_folder_that_cannot_be_used(fake, image, store, tmp_path):
    fake("docker", DOCKER % "exit 0")
    for folder, expected in ((tmp_path / "no", "E001"), (tmp_path.anchor, "E030")):
        with pytest.raises(AfenvError) as caught:
            plan_run(image, store, [], workdir=type(tmp_path)(folder))
        assert caught.value.code == expected


@pytest.mark.parametrize("status", [0, 1, 3, 126, 127, 130, 137])
def test_the_exit_status_is_the_commands(fake, image, store, tmp_path, status):
    fake("docker", DOCKER % f"exit {status}")
    assert run_image(plan_run(image, store, [], workdir=tmp_path)) == status


def test_125_is_the_engines_unless_the_container_ran(fake, image, store, tmp_path):
    fake("docker", DOCKER % "exit 125")
    plan = plan_run(image, store, [], workdir=tmp_path)
    with pytest.raises(AfenvError) as caught:
        run_image(plan)
    assert caught.value.code == "E502"
    (tmp_path / "events").write_text("0123456789abcdef\n")
    assert run_image(plan) == 125


def test_the_container_is_named_by_a_file_of_its_own(fake, image, store, tmp_path):
    log = fake("docker", DOCKER % "exit 0")
    run_image(plan_run(image, store, [], workdir=tmp_path))
    line = log.read_text().splitlines()[-1]
    assert line.startswith("run --cidfile ")
    assert not Path(line.split()[2]).exists()
