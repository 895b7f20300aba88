"""What is asked of a runtime, as a value."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.layers.conda_activation import WRAPPER
from afenv.run import request as request_module
from afenv.run.cvmfs import LABEL, cvmfs_mounts, is_shared
from afenv.run.gpu import driver_files, has_driver, wants_gpu
from afenv.run.request import (
    Mount,
    RunRequest,
    all_variables,
    check_utf8,
    image_variables,
    parse_bind,
    parse_variable,
    whole_command,
)

ACTIVATED = {"Entrypoint": ["/opt/conda/bin/afenv-activate", "python3"], "Cmd": ["-V"]}


@pytest.fixture
def request_(tmp_path):
    return RunRequest(command=("ls",), workdir=tmp_path, uid=1, gid=1)


def code(function, *arguments) -> str:
    with pytest.raises(AfenvError) as caught:
        function(*arguments)
    return caught.value.code


def test_variables_of_the_image_then_ours_then_the_callers(request_):
    config = {"Env": ["PATH=/bin", "EMPTY=", "A=b=c", "broken"]}
    assert image_variables(config) == {"PATH": "/bin", "EMPTY": "", "A": "b=c"}
    found = all_variables({"Env": ["HOME=/x", "A=1", "B=2"]}, replace(request_, env={"A": "3", "USER": "me"}))
    assert found == {"HOME": "/run/home", "USER": "me", "LOGNAME": "analyst", "A": "3", "B": "2"}


def test_a_terminal_has_a_kind(request_):
    assert "TERM" not in replace(request_, term="xterm").added_variables()
    assert replace(request_, term="xterm", interactive=True).added_variables()["TERM"] == "xterm"


def test_the_command_is_put_together_as_engines_do(request_):
    assert whole_command({}, request_) == ("ls",)
    assert whole_command({"Cmd": ["sh"]}, replace(request_, command=())) == ("sh",)
    assert whole_command({"Entrypoint": ["run"], "Cmd": ["sh"]}, request_) == ("run", "ls")
    assert whole_command({"Entrypoint": ["run"], "Cmd": ["sh"]}, replace(request_, command=())) == (
        "run",
        "sh",
    )
    assert code(whole_command, {"Cmd": None}, replace(request_, command=())) == "E030"


def test_without_the_entry_point_activation_stays(request_):
    shell = replace(request_, command=("sh",), entrypoint=False)
    assert whole_command(ACTIVATED, shell) == ("/opt/conda/bin/afenv-activate", "sh")
    assert whole_command({"Entrypoint": ["python3"]}, shell) == ("sh",)
    assert f"/{WRAPPER}" == request_module.ACTIVATION


def test_outer_mounts_come_first(request_, tmp_path):
    inner, data = Mount(tmp_path, f"{tmp_path}/inner"), Mount(tmp_path, "/data")
    targets = [mount.target for mount in replace(request_, mounts=(inner, data)).all_mounts()]
    assert targets == ["/data", str(tmp_path), f"{tmp_path}/inner"]


def test_the_working_directory_may_be_given_another_way(request_, tmp_path):
    own = Mount(tmp_path, str(tmp_path), read_only=True)
    assert replace(request_, mounts=(own,)).all_mounts() == (own,)


def test_binds(tmp_path):
    colon = tmp_path / "a:b"
    colon.mkdir()
    source = str(tmp_path)
    assert parse_bind(source) == Mount(tmp_path, source)
    assert parse_bind(f"{source}:/data") == Mount(tmp_path, "/data")
    assert parse_bind(f"{source}:/data/:ro") == Mount(tmp_path, "/data", read_only=True)
    assert parse_bind(f"{source}:/data:rw") == Mount(tmp_path, "/data")
    assert parse_bind(f"{source}::ro") == Mount(tmp_path, source, read_only=True)
    assert parse_bind(f"{source}/a\\:b:/x") == Mount(colon, "/x")
    assert parse_bind(".").source == Path.cwd()


@pytest.mark.parametrize("bad", ["", ":", "{}:relative", "{}:/", "{}:/a/../b", "{}:/a:no", "{}:/a:ro:ro"])
def test_binds_that_are_not_understood(bad, tmp_path):
    assert code(parse_bind, bad.format(tmp_path)) == "E030"


def test_a_bind_of_nothing(tmp_path):
    assert code(parse_bind, f"{tmp_path}/no:/data") == "E001"


def test_given_variables():
    assert parse_variable("A=b=c", {}) == ("A", "b=c")
    assert parse_variable("A=", {"A": "1"}) == ("A", "")
    assert parse_variable("A", {"A": "1"}) == ("A", "1")
    for bad in ("A", "", "=x", "1A=x", "a.b=x", "A B=x"):
        assert code(parse_variable, bad, {}) == "E030"


def test_text_that_is_not_utf8(request_, tmp_path):
    check_utf8("docker", request_)
    for bad in (
        replace(request_, command=("\udcff",)),
        replace(request_, env={"A": "\udcff"}),
        replace(request_, workdir=tmp_path / "\udcff"),
    ):
        assert code(check_utf8, "docker", bad) == "E030"


def test_cvmfs_where_the_image_asks_for_it(tmp_path):
    assert cvmfs_mounts({}, tmp_path) == ()
    labels = {LABEL: "sft.example.org atlas.example.org"}
    for name in labels[LABEL].split():
        (tmp_path / name).mkdir()
    (mount,) = cvmfs_mounts(labels, tmp_path)
    assert (mount.source, mount.target, mount.read_only) == (tmp_path, "/cvmfs", True)
    assert code(cvmfs_mounts, {LABEL: "other.example.org"}, tmp_path) == "E506"


MOUNTS = """\
22 27 0:21 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /cvmfs rw,relatime shared:6 - autofs /etc/auto.cvmfs rw
31 30 0:41 / /cvmfs/one.example.org ro master:3 - fuse cvmfs2 ro
32 22 0:42 / /private rw - tmpfs tmpfs rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/cvmfs", True),
        ("/cvmfs/one.example.org/x", True),
        ("/cvmfs-more", False),
        ("/private", False),
        ("/", False),
    ],
)
def test_which_mounts_can_be_followed(path, expected):
    assert is_shared(MOUNTS, path) is expected


def test_a_gpu_that_is_asked_for():
    said: list[str] = []

    def wants(needed: bool, optional: bool, present: bool) -> bool:
        return wants_gpu(needed, optional, warn=said.append, present=lambda: present)

    assert not wants(False, False, True)
    assert wants(True, False, True)
    assert wants(True, True, True)
    assert not said
    assert not wants(True, True, False)
    assert "no NVIDIA driver" in said[0]
    assert code(wants, True, False, False) == "E505"


LDCONFIG = """\
123 libs found in cache `/etc/ld.so.cache'
\tlibz.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libz.so.1
\tlibnvidia-ml.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libnvidia-ml.so.1
\tlibcuda.so.1 (libc6) => /lib/i386-linux-gnu/libcuda.so.1
\tlibcuda.so.1 (libc6,x86-64) => /lib/x86_64-linux-gnu/libcuda.so.1
\tlibcudart.so.12 (libc6,x86-64) => /usr/local/cuda/libcudart.so.12
"""


def test_what_belongs_to_the_driver(tmp_path):
    assert not has_driver(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name in ("dev/nvidia0", "dev/nvidiactl", "dev/null", "usr/bin/nvidia-smi"):
        (tmp_path / name).touch()
    assert has_driver(tmp_path)
    assert driver_files(tmp_path, LDCONFIG) == {
        "/dev/nvidia0": "/dev/nvidia0",
        "/dev/nvidiactl": "/dev/nvidiactl",
        "/usr/bin/nvidia-smi": "/usr/bin/nvidia-smi",
        "/lib/x86_64-linux-gnu/libcuda.so.1": "/run/nvidia/lib/libcuda.so.1",
        "/lib/x86_64-linux-gnu/libnvidia-ml.so.1": "/run/nvidia/lib/libnvidia-ml.so.1",
    }
