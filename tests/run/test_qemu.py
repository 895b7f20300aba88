"""What QEMU is asked, and what the guest is told; no machine is started."""

from __future__ import annotations

import os
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.run import qemu
from afenv.run.command_errors import SHELL_CHECK
from afenv.run.qemu_machine import Machine, command_line, control_files, shares
from afenv.run.request import Mount, RunRequest

TCG = Machine(accelerator="tcg", processors=2, memory=1024)
CONFIG = {"Env": ["PATH=/usr/bin:/bin", "A=image"], "Cmd": ["sh"]}


def values(words: tuple[str, ...], option: str) -> list[str]:
    return [value for name, value in pairwise(words) if name == option]


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    (tmp_path / "data, and é").mkdir()
    (tmp_path / "file").write_text("x")
    return RunRequest(
        command=("python3", "a b", "it's", "$HOME"),
        workdir=tmp_path,
        uid=1000,
        gid=100,
        groups=(4, 27),
        env={"B": 'say "x" $y'},
        mounts=(
            Mount(tmp_path / "data, and é", "/in put", read_only=True),
            Mount(tmp_path / "file", "/etc/one", read_only=True),
        ),
    )


def test_the_command_line(request_: RunRequest, tmp_path: Path) -> None:
    sockets = {"control": 5, "input": 6, "output": 7, "errors": 8}
    words = command_line(("qemu",), "/m,1", "amd64", "vsyscall=emulate", request_, TCG, "/scratch", sockets)
    assert values(words, "-kernel") == ["/m,1/kernel"]
    assert values(words, "-drive")[0].startswith("file=/m,,1/root.squashfs,format=raw")
    assert "vsyscall=emulate" in values(words, "-append")[0].split()
    assert "panic=-1" in values(words, "-append")[0].split()
    folders = values(words, "-fsdev")
    options = "security_model=none,multidevs=remap"
    assert folders == [
        f"local,id=control,path=/scratch/control,{options},readonly=on",
        f"local,id=share0,path={tmp_path}/data,, and é,{options},readonly=on",
        f"local,id=share1,path={tmp_path},{options},readonly=on",  # a file is shown through its folder
        f"local,id=share2,path={tmp_path},{options}",
    ]
    assert "socket,id=output,fd=7" in values(words, "-chardev")
    assert "-netdev" in words and "-accel" in words
    without = command_line(
        ("qemu",),
        "/m",
        "amd64",
        "",
        RunRequest(command=("x",), workdir=tmp_path, uid=0, gid=0, network=False),
        TCG,
        "/s",
    )
    assert "-netdev" not in without


def test_another_processor_is_another_board(request_: RunRequest) -> None:
    words = command_line(("qemu",), "/m", "arm64", "", request_, TCG, "/s")
    assert values(words, "-machine") == ["virt,gic-version=max"]
    assert "console=ttyAMA0" in values(words, "-append")[0]


def test_what_the_guest_is_told(request_: RunRequest, tmp_path: Path) -> None:
    files = control_files(CONFIG, request_, os.terminal_size((100, 40)))
    assert files["account"] == b"1000 100 4,27 analyst /run/home localhost 1 0\n"
    lines = files["mounts"].splitlines()
    assert len(lines) == len(shares(request_)) == 3
    told = {}
    for line in lines:
        tag, target, mode, name = line.split(b" ")
        undone = subprocess.run(
            ["/bin/bash", "-c", 'printf %b "$0"', target], capture_output=True, check=True
        )
        told[undone.stdout.decode()] = (tag.decode(), mode.decode(), name.decode())
    assert told == {
        str(tmp_path): ("share2", "rw", "-"),
        "/in put": ("share0", "ro", "-"),
        "/etc/one": ("share1", "ro", "file"),
    }
    text = files["enter"].decode()
    assert f"cd {tmp_path} || exit 125" in text
    assert "stty rows 40 cols 100" in text
    assert shlex.quote(SHELL_CHECK) in text
    # the same shell that the guest has reads the last line as the words that were asked for
    last = text.splitlines()[-1].replace("exec $B env -i", "printf '%s\\n'")
    said = subprocess.run(["/bin/sh", "-c", last], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-4:] == ["python3", "a b", "it's", "$HOME"]
    assert 'B=say "x" $y' in said.splitlines() and "A=image" in said.splitlines()


def test_what_the_host_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(qemu, "ELSEWHERE", ())
    monkeypatch.delenv("AFENV_QEMU", raising=False)
    with pytest.raises(AfenvError, match="there is no qemu-system-x86_64") as caught:
        qemu.find().command_for("amd64")
    assert caught.value.code == "E501" and "apt install qemu-system-x86" in str(
        caught.value.problems[0].remedy
    )
    with pytest.raises(AfenvError) as caught:
        qemu.find().command_for("riscv64")
    assert caught.value.code == "E013"
    monkeypatch.setenv("AFENV_QEMU", "my-qemu -x")
    assert qemu.find().command_for("amd64") == ("my-qemu", "-x")
    monkeypatch.setenv(qemu.ACCELERATOR, "kvm")
    monkeypatch.setenv(qemu.PROCESSORS, "3")
    monkeypatch.setenv(qemu.MEMORY, "900")
    assert qemu.chosen_machine("amd64") == Machine(accelerator="kvm", processors=3, memory=900)
    monkeypatch.setenv(qemu.MEMORY, "2G")
    with pytest.raises(AfenvError) as caught:
        qemu.chosen_machine("amd64")
    assert (caught.value.code, caught.value.problems[0].place) == ("E030", qemu.MEMORY)
    monkeypatch.setenv(qemu.ACCELERATOR, "fast")
    with pytest.raises(AfenvError, match="neither kvm nor tcg"):
        qemu.chosen_machine("amd64")


def test_kvm_that_did_not_work_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path))
    for name in (qemu.ACCELERATOR, qemu.MEMORY, qemu.PROCESSORS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(qemu, "_is_native", lambda _: True)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert qemu.chosen_machine("amd64").accelerator == "kvm"
    qemu._remember_bad()
    assert qemu.chosen_machine("amd64").accelerator == "tcg"
