"""Running with the real Docker and Podman."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from afenv import canonical
from afenv.errors import AfenvError
from afenv.oci.archive import archive_members
from afenv.oci.image import assemble
from afenv.run import oci_engine
from afenv.run.container import Mount, find_runtime, plan_run, run_image
from afenv.run.load import load_from_store
from afenv.store.content import ContentStore
from afenv.testing import BuilderContract, Member, make_layer, make_lock
from afenv_builders.oci import OciBuilder

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("engines")]

BOTH = pytest.mark.parametrize("runtime", ["docker", "podman"])


@pytest.fixture
def runnable(runnable, store):
    """An image of this test alone: Docker keeps one from which another was built, by whichever test."""
    config = canonical.compact(runnable.configuration() | {"author": os.urandom(8).hex()})
    manifest = json.loads(runnable.manifest)
    manifest["config"] |= {"digest": store.put(config), "size": len(config)}
    return replace(runnable, config=config, manifest=store.read(store.put(canonical.compact(manifest))))


@pytest.fixture(autouse=True)
def removed(runnable, docker, podman):
    """The image, before and after a test, in no engine."""

    def remove() -> None:
        for command in ([docker], shlex.split(podman)):
            name = runnable.image_id.removeprefix("sha256:")
            subprocess.run([*command, "image", "rm", "--force", name], capture_output=True, check=False)

    remove()
    yield
    remove()


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "a folder, with a comma"
    folder.mkdir()
    return folder


@BOTH
def test_streams_folder_identity_and_status(runtime, runnable, store, work, capfd):
    def run(*command: str, **more) -> tuple[int, str]:
        plan = plan_run(runnable, store, command, workdir=work, runtime=runtime, quiet=True, **more)
        return run_image(plan), capfd.readouterr().out

    assert run() == (0, "hello\n")
    assert run("exit", "7") == (7, "")
    assert run("exit", "125") == (125, "")
    if "--init" in plan_run(runnable, store, [], workdir=work, runtime=runtime).command_line():
        assert run("die") == (128 + signal.SIGKILL, "")  # process 1 cannot kill itself
    assert run("where") == (0, f"{work}\n")
    assert run("who") == (0, f"{os.getuid()}:{os.getgid()}\n")
    assert run("variable", "LANG") == (0, "C.UTF-8\n")
    assert run("variable", "SEED", env={"SEED": "a b=c"}) == (0, "a b=c\n")
    _, home = run("variable", "HOME")
    assert run("write", f"{home.strip()}/there")[0] == 0
    assert run("write", "result.txt")[0] == 0
    assert (work / "result.txt").read_text() == "written\n"
    assert (work / "result.txt").stat().st_uid == os.getuid()


@BOTH
def test_other_mounts_may_be_read_only(runtime, runnable, store, work, tmp_path, capfd):
    (tmp_path / "data").mkdir()
    mounts = [Mount(tmp_path / "data", "/data", read_only=True)]

    def run(path: str) -> int:
        return run_image(
            plan_run(
                runnable, store, ["write", path], workdir=work, runtime=runtime, quiet=True, mounts=mounts
            )
        )

    assert run("/data/x") == 1
    assert run("here") == 0


CHILD = """
import sys
from pathlib import Path
from afenv.oci.read import open_image
from afenv.run.container import plan_run, run_image
from afenv.store.content import ContentStore
with open_image(Path(sys.argv[1])) as opened:
    plan = plan_run(
        opened.image, ContentStore(Path(sys.argv[2])), sys.argv[4:], workdir=Path.cwd(), runtime=sys.argv[3]
    )
sys.exit(run_image(plan))
"""


def start(runnable, store, tmp_path, work, runtime, *command: str) -> subprocess.Popen[str]:
    """``run_image`` in a process of its own, with the image loaded already."""
    from afenv.oci.layout import write_layout

    load_from_store(find_runtime(runtime), runnable, store, quiet=True)
    write_layout(runnable, store, tmp_path / "layout")
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path / "layout", store.folder, runtime, *command],
        cwd=work,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@BOTH
def test_standard_input_goes_in(runtime, runnable, store, work, tmp_path):
    process = start(runnable, store, tmp_path, work, runtime, "copy")
    out, _ = process.communicate("line\n" * 1000, timeout=60)
    assert (process.returncode, out) == (0, "line\n" * 1000)


@BOTH
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signals_reach_the_command(runtime, runnable, store, work, tmp_path, name):
    number = getattr(signal, name)
    process = start(runnable, store, tmp_path, work, runtime, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)  # Podman passes signals on from a moment after the command has begun
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (40 + number, f"signal {int(number)}\n")


@BOTH
def test_a_command_without_handlers_ends_on_sigterm(runtime, runnable, store, work, tmp_path):
    process = start(runnable, store, tmp_path, work, runtime, "wait", "deaf")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert time.monotonic() - before < 25


@BOTH
def test_an_engine_that_cannot_start_it_says_so(runtime, runnable, store, work, monkeypatch, capfd):
    plan = plan_run(runnable, store, [], workdir=work, runtime=runtime, quiet=True)
    good = oci_engine.options(plan.runtime, plan.request)
    bad = tuple("no-such-network-of-afenv" if word == "host" else word for word in good)
    monkeypatch.setattr(oci_engine, "options", lambda *_: bad)
    with pytest.raises(AfenvError) as caught:
        run_image(plan)
    assert caught.value.code == "E502"
    assert "no-such-network" in capfd.readouterr().err


def test_only_the_layers_that_docker_lacks_are_sent(runnable, store, docker, call, monkeypatch):
    import afenv.run.load as load

    engine = find_runtime("docker")
    load_from_store(engine, runnable, store, quiet=True)
    extra = make_layer(store, [Member(path="code", content=b"new code")], source="code")
    lower = [
        type(extra)(
            diff_id=layer.diff_id,
            digest=layer.digest,
            size=layer.size,
            source=layer.source,
            listing=extra.listing,
        )
        for layer in runnable.layers
    ]
    image = assemble(make_lock(), "default", [*lower, extra], 1735689600, store)
    sent = []

    def spy(image, omit=()):
        sent.append(set(omit))
        return archive_members(image, omit)

    monkeypatch.setattr(load, "archive_members", spy)
    try:
        assert load_from_store(engine, image, store, quiet=True) == image.image_id
        assert sent == [{layer.diff_id for layer in runnable.layers}]
        load_from_store(engine, image, store, quiet=True)
        assert len(sent) == 1
        name = call(docker, "create", image.image_id, "x").stdout.strip()
        assert call(docker, "cp", f"{name}:/code", "-").stdout.count("new code") == 1
        call(docker, "rm", name)
    finally:
        call(docker, "image", "rm", "--force", image.image_id)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can own another user's folder")
def test_outputs_belong_to_the_calling_user(runnable, store, work, monkeypatch):
    nobody = pwd.getpwnam("nobody")
    os.chown(work, nobody.pw_uid, nobody.pw_gid)
    monkeypatch.setattr(os, "getuid", lambda: nobody.pw_uid)
    monkeypatch.setattr(os, "getgid", lambda: nobody.pw_gid)
    plan = plan_run(runnable, store, ["write", "mine"], workdir=work, runtime="docker", quiet=True)
    assert run_image(plan) == 0
    assert (work / "mine").stat().st_uid == nobody.pw_uid


def test_the_command_line_can_be_shown_without_loading(runnable, store, work, docker, call):
    plan = plan_run(runnable, store, ["exit", "1"], workdir=work, runtime="docker", load=False)
    assert plan.command_line()[:2] == (docker, "run")
    assert plan.command_line()[-2:] == ("exit", "1")
    call(docker, "image", "inspect", runnable.image_id, status=1)


def test_the_docker_target_is_the_engine(runnable, store, docker, call):
    from afenv.oci.builders import find_builder

    builder = find_builder("docker")
    for _ in range(2):
        built = builder.build(runnable, store, {"target": "docker", "quiet": True})
        assert built.digest == runnable.image_id
    assert call(docker, "image", "inspect", "--format", "{{.Id}}", runnable.reference).stdout.strip() == (
        runnable.image_id
    )


class TestTheDockerTarget(BuilderContract):
    builder = OciBuilder()
    target = "docker"
    options = {"quiet": True}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def removed_again(self, docker):
        yield
        subprocess.run([docker, "image", "rm", "--force", "sample:1.0"], capture_output=True, check=False)


def test_podman_loads_from_a_store_with_any_path(runnable, podman, call, store, tmp_path):
    """Podman names what it pulls after the path; capitals are not allowed in names."""
    store.folder.rename(tmp_path / "Up Per,x")
    engine = find_runtime("podman")
    load_from_store(engine, runnable, ContentStore(tmp_path / "Up Per,x"), quiet=True)
    names = call(
        *shlex.split(podman), "image", "inspect", "--format", "{{.RepoTags}}", runnable.image_id[7:]
    ).stdout
    assert names.strip() == "[localhost/sample:1.0]"


def test_the_folder_must_exist(runnable, store, tmp_path):
    with pytest.raises(AfenvError) as caught:
        plan_run(runnable, store, [], workdir=Path(tmp_path / "no"), runtime="docker")
    assert caught.value.code == "E001"
