"""Plain user namespaces: the command line, and why a command did not start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from afenv.run.command_errors import resolve, why_not_started
from afenv.run.request import Mount, RunRequest
from afenv.run.userns import UserNamespace, launch, options

USER = UserNamespace(unshare="unshare", bwrap=("bwrap",), root=False)
ROOT = replace(USER, root=True)
CONFIG = {"Env": ["PATH=/opt/bin:/bin", "A=1"], "Cmd": ["sh"]}


@pytest.fixture
def request_(tmp_path):
    return RunRequest(command=("ls",), workdir=tmp_path, uid=1234, gid=100)


def test_a_command_line(request_, tmp_path):
    words = launch(USER, "/cache/trees/x", CONFIG, request_, "/scratch")
    assert words[:6] == ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "slave")
    at = words.index("sh", words.index("-c"))
    expected = ("sh", "/cache/trees/x", "/scratch", "userxattr,", "1234", "100", "bwrap")
    assert words[at : at + 7] == expected
    assert words[-2:] == ("--", "ls")
    text = " ".join(words)
    assert "--unshare-user --uid 1234 --gid 100 --unshare-pid" in text
    assert f"--bind {tmp_path} {tmp_path} --chdir {tmp_path} --clearenv --setenv A 1 --setenv HOME" in text
    assert "--cap-add" not in text
    assert "--unshare-net" not in text


def test_root_needs_no_user_namespace_and_keeps_few_rights(request_):
    words = launch(ROOT, "/cache/trees/x", CONFIG, request_, "/scratch")
    assert words[:2] == ("unshare", "--mount")
    assert "--unshare-user" not in words
    assert "CAP_CHOWN" in words
    assert "CAP_SYS_ADMIN" not in words


def test_mounts_and_network(request_):
    mounts = (Mount(Path("/a"), "/b", read_only=True), Mount(Path("/c"), "/b/d"))
    text = " ".join(options(USER, CONFIG, replace(request_, mounts=mounts, network=False)))
    assert "--unshare-net" in text
    assert text.index("--ro-bind /a /b") < text.index("--bind /c /b/d")


def test_a_gpu(request_, monkeypatch):
    found = {"/dev/nvidia0": "/dev/nvidia0", "/lib/libcuda.so.1": "/run/nvidia/lib/libcuda.so.1"}
    monkeypatch.setattr("afenv.run.gpu.driver_files", lambda: found)
    text = " ".join(options(USER, CONFIG, replace(request_, gpu=True, env={"LD_LIBRARY_PATH": "/x"})))
    assert "--dev-bind /dev/nvidia0 /dev/nvidia0" in text
    assert "--ro-bind /lib/libcuda.so.1 /run/nvidia/lib/libcuda.so.1" in text
    assert "--setenv LD_LIBRARY_PATH /x:/run/nvidia/lib" in text


@pytest.fixture
def root(tmp_path):
    """An image's files, with links that only make sense inside it."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_text("")
    (root / "usr/bin/tool").chmod(0o755)
    (root / "usr/bin/data").write_text("")
    (root / "bin").symlink_to("/usr/bin")
    (root / "usr/bin/again").symlink_to("../bin/./tool")
    (root / "usr/bin/loop").symlink_to("loop")
    (root / "usr/bin/gone").symlink_to("/nowhere")
    (root / "up").symlink_to("../../../usr")
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/bin/tool", "usr/bin/tool"),
        ("/bin/again", "usr/bin/tool"),
        ("/up/bin/tool", "usr/bin/tool"),
        ("/../../usr/bin/../bin/tool", "usr/bin/tool"),
        ("/bin/gone", "nowhere"),
        ("/bin/loop", None),
    ],
)
def test_links_are_followed_inside(root, path, expected):
    assert resolve(root, (), path) == (root / expected if expected else None)


def test_mounts_cover_the_image(root, tmp_path):
    (tmp_path / "work").mkdir()
    mounts = (Mount(tmp_path, "/usr"), Mount(tmp_path / "work", "/usr/work"))
    assert resolve(root, mounts, "/bin/tool") == tmp_path / "bin/tool"
    assert resolve(root, mounts, "/usr/work/x") == tmp_path / "work/x"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tool", None),
        ("/bin/again", None),
        ("./script", None),
        ("nope", "E503"),
        ("/nope", "E503"),
        ("gone", "E503"),
        ("loop", "E503"),
        ("./text", "E504"),
        ("data", "E504"),
        ("/usr", "E504"),
    ],
)
def test_why_a_command_did_not_start(root, tmp_path, name, code):
    work = tmp_path / "work"
    work.mkdir()
    (work / "text").write_text("")
    (work / "script").write_text("")
    (work / "script").chmod(0o755)
    mounts = (Mount(work, "/work"),)
    reason = why_not_started(root, mounts, name, {"PATH": "/opt:/bin"}, Path("/work"))
    assert (reason.code if reason else None) == code
