"""What Apptainer is asked, which form of an image it runs, and what its end means."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.oci import builders
from afenv.run import prepared
from afenv.run.apptainer import Apptainer, launch
from afenv.run.container import plan_run, run_image
from afenv.run.prepared import for_apptainer, form_for_apptainer, sif_of
from afenv.run.request import Mount, RunRequest
from afenv.testing import make_image

RUNTIME = Apptainer(command=("/opt/bin/apptainer",))
CONFIG = {"Env": ["PATH=/opt/bin:/bin", "A=1"], "Entrypoint": ["enter"], "Cmd": ["sh"]}


@pytest.fixture
def request_(tmp_path):
    return RunRequest(command=("ls", "-l"), workdir=tmp_path, uid=1, gid=1)


@pytest.fixture
def image(store):
    return make_image(store, entrypoint=("enter",))


def test_a_command_line(request_, tmp_path):
    request = replace(request_, env={"B": '$x `y` \\ "z"'}, mounts=(Mount(Path("/a,b"), "/data", True),))
    words = launch(RUNTIME, "/cache/x.sif", CONFIG, request, "/scratch")
    assert words[:5] == ("env", "-u", "all_proxy", "-u", "ALL_PROXY")
    assert ("env", *words[21:]) == (
        *("env", "APPTAINERENV_A=1", 'APPTAINERENV_B=\\$x \\`y\\` \\\\ "z"', "APPTAINERENV_LOGNAME=analyst"),
        *("APPTAINERENV_PATH=/opt/bin:/bin", "APPTAINERENV_USER=analyst"),
        *("/opt/bin/apptainer", "--silent", "exec"),
        *("--cleanenv", "--contain", "--pid", "--no-umask", "--writable-tmpfs"),
        *("--no-mount", "/etc/localtime", "--home", "/run/home", "--workdir", "/scratch"),
        *("--mount", 'type=bind,"source=/a,b",destination=/data,ro'),
        *("--mount", f"type=bind,source={tmp_path},destination={tmp_path}"),
        *("--pwd", str(tmp_path), "/cache/x.sif", "enter", "ls", "-l"),
    )


def test_network_and_gpu(request_):
    words = launch(RUNTIME, "x", CONFIG, replace(request_, network=False, gpu=True), "/scratch")
    assert words[words.index("--net") : words.index("--nv") + 1] == ("--net", "--network", "none", "--nv")


def test_a_home_of_ones_own(request_):
    words = launch(RUNTIME, "x", CONFIG, replace(request_, env={"HOME": "/data"}), "/scratch")
    assert words[words.index("--home") + 1] == "/data"
    assert not [word for word in words if word.startswith("APPTAINERENV_HOME")]
    for bad in ("relative", "/a:/b"):
        with pytest.raises(AfenvError) as caught:
            launch(RUNTIME, "x", CONFIG, replace(request_, env={"HOME": bad}), "/scratch")
        assert caught.value.code == "E030"


def test_singularity_has_another_prefix(request_):
    words = launch(Apptainer(command=("singularity",)), "x", CONFIG, request_, "/scratch")
    assert "SINGULARITYENV_A=1" in words


def test_activation_is_done_again_after_that_of_the_sif(request_):
    config = {"Entrypoint": ["/opt/conda/bin/afenv-activate"]}
    assert "APPTAINERENV_AFENV_CONDA_ACTIVATED=" in launch(RUNTIME, "x", config, request_, "/scratch")
    assert "APPTAINERENV_AFENV_CONDA_ACTIVATED=" not in launch(RUNTIME, "x", CONFIG, request_, "/scratch")


@pytest.mark.parametrize(
    ("root", "set_user_id", "fuse", "expected"),
    [
        (True, False, False, "sif"),
        (False, True, False, "sif"),
        (False, False, True, "sif"),
        (False, False, False, "sandbox"),
    ],
)
def test_a_folder_where_no_sif_can_be_mounted(root, set_user_id, fuse, expected):
    facts = {"root": root, "set_user_id": set_user_id, "fuse": fuse}
    assert form_for_apptainer(asked="", **facts) == expected
    for asked in ("sif", "sandbox"):
        assert form_for_apptainer(asked=asked, **facts) == asked
    with pytest.raises(AfenvError) as caught:
        form_for_apptainer(asked="squashfs", **facts)
    assert caught.value.code == "E030"


class Builder:
    """Writes the image's ID in the place of a SIF."""

    def __init__(self, error: AfenvError | None = None) -> None:
        self.calls = 0
        self.error = error

    def build(self, image, store, options):
        from afenv.digest import sha256_file
        from afenv.oci.model import Descriptor

        self.calls += 1
        if self.error:
            raise self.error
        options["path"].write_text(image.image_id)
        return Descriptor(media_type="x/y", digest=sha256_file(options["path"]), size=71)


def test_a_sif_is_made_once(image, store, monkeypatch):
    builder = Builder()
    monkeypatch.setattr("afenv.oci.builders.find_builder", lambda _: builder)
    paths = {sif_of(image, store, quiet=True) for _ in range(3)}
    assert builder.calls == 1
    (path,) = paths
    assert path.read_text() == image.image_id
    assert not list(store.temporary_folder().glob("sif-*"))
    path.chmod(0o644)
    path.write_text("x" * 71)
    sif_of(image, store, quiet=True)
    assert builder.calls == 2
    assert path.read_text() == image.image_id


def test_a_host_that_cannot_make_a_sif_runs_a_folder(image, store, monkeypatch):
    monkeypatch.delenv(prepared.SETTING, raising=False)
    monkeypatch.setattr(prepared, "form_for_apptainer", lambda **facts: facts["asked"] or "sif")
    builder = Builder(AfenvError("E414", "there are no tools"))
    find = builders.find_builder
    monkeypatch.setattr(builders, "find_builder", lambda name: builder if name == "sif" else find(name))
    assert (for_apptainer(image, store, quiet=True) / "hello.txt").read_text() == "hello\n"
    monkeypatch.setenv(prepared.SETTING, "sif")
    with pytest.raises(AfenvError) as caught:
        for_apptainer(image, store, quiet=True)
    assert caught.value.code == "E414"


SCRIPT = """
case "$*" in
  *found=*) %s ;;
  *) exit 255 ;;
esac
"""


@pytest.mark.parametrize(
    ("check", "code"),
    [
        ("exit 127", "E503"),
        ("exit 126", "E504"),
        ("exit 0", None),
        ('echo "FATAL:   \\"/bin/sh\\": executable file not found" >&2; exit 255', None),
        ('echo "FATAL:   failed to create namespace" >&2; exit 255', "E502"),
    ],
)
def test_255_is_explained(fake, image, store, tmp_path, monkeypatch, check, code):
    fake("apptainer", SCRIPT % check)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv(prepared.SETTING, "sandbox")
    plan = plan_run(image, store, ["nope"], workdir=tmp_path, runtime="apptainer", quiet=True)
    if code is None:
        assert run_image(plan) == 255
        return
    with pytest.raises(AfenvError) as caught:
        run_image(plan)
    assert caught.value.code == code


def test_the_line_that_is_shown_can_be_run(fake, image, store, tmp_path, monkeypatch):
    log = fake("apptainer", "exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv(prepared.SETTING, "sandbox")
    shown = plan_run(image, store, ["a b"], workdir=tmp_path, runtime="apptainer", quiet=True).shown()
    assert os.waitstatus_to_exitcode(os.system(shown)) == 3
    (line,) = log.read_text().splitlines()
    scratch = Path(line.split(" --workdir ")[1].split()[0])
    assert scratch.is_dir()
    scratch.rmdir()
    assert shlex.split(shown)[-1] == "a b"
