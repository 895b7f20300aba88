"""The script that boots a machine with QEMU alone, with a stand-in for QEMU that shows what it was given."""

from __future__ import annotations

import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from afenv_builders.vm.start import start_script

CONFIG = {
    "Env": ["PATH=/usr/bin:/bin", 'TEXT=it\'s $HOME "x"'],
    "Entrypoint": ["/bin/enter", "a b"],
    "Cmd": ["python3"],
}
# tells the port "control" what the guest would tell, and passes its input on to the port "output"
FAKE = """#!/bin/sh
printf '%s\\n' "$@" >"$SEEN/words"
for word; do
    case $word in
    file,id=control,*) said=${word#*path=} ;;
    file,id=output,*) output=${word#*path=} ;;
    esac
done
cp "${said%/*}"/control/* "$SEEN"
[ -z "$output" ] || cat >"$output"
echo started >"$said"
[ -z "$TOLD" ] || echo "status $TOLD" >>"$said"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    folder = tmp_path / "a machine, it's"
    folder.mkdir()
    (folder / "run.sh").write_bytes(start_script("amd64", "vsyscall=emulate", CONFIG))
    for name in ("seen", "here, and é"):
        (tmp_path / name).mkdir()
    (tmp_path / "qemu").write_text(FAKE)
    (tmp_path / "qemu").chmod(0o755)
    return folder


def start(machine: Path, *command: str, told: str = "0", **more: str) -> subprocess.CompletedProcess[str]:
    top = machine.parent
    variables = {"PATH": os.environ["PATH"], "TMPDIR": str(top), "SEEN": str(top / "seen"), "TOLD": told}
    return subprocess.run(
        ["sh", machine / "run.sh", *command],
        cwd=top / "here, and é",
        env={**variables, "AFENV_QEMU": str(top / "qemu"), **more},
        input="the input",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def seen(machine: Path, name: str) -> str:
    return (machine.parent / "seen" / name).read_text()


def test_the_command_the_folder_and_the_status(machine: Path) -> None:
    done = start(machine, "fit", "it's $x", "", told="43")
    assert (done.returncode, done.stdout, done.stderr) == (43, "the input", "")
    here = machine.parent / "here, and é"
    words = seen(machine, "words").splitlines()
    given = list(pairwise(words))
    assert ("-kernel", f"{machine}/kernel") in given
    root = f"file={str(machine).replace(',', ',,')}/root.squashfs,format=raw"
    assert ("-drive", f"{root},if=none,id=root,readonly=on,file.locking=off") in given
    shared = f"local,id=share0,path={str(here).replace(',', ',,')},security_model=none,multidevs=remap"
    assert ("-fsdev", shared) in given
    assert "vsyscall=emulate" in dict(given)["-append"].split()
    assert dict(given)["-accel"] == "tcg,thread=multi"
    tag, target, mode, whole = seen(machine, "mounts").split()
    undone = subprocess.run(["printf", "%b", target], capture_output=True, text=True, check=True).stdout
    assert (tag, undone, mode, whole) == ("share0", str(here), "rw", "-")
    uid, gid, _, user, home, _, network, terminal = seen(machine, "account").split()
    assert (uid, gid) == (str(os.getuid()), str(os.getgid()))
    assert (user, home, network, terminal) == ("analyst", "/run/home", "0", "0")
    assert sorted(path.name for path in machine.parent.iterdir() if path.name.startswith("tmp.")) == []


def entered(machine: Path) -> list[str]:
    """The words of the command, as the guest's shell would read them."""
    script = seen(machine, "enter").replace("exec $B env -i", "printf '%s\\0'").replace("cd ", ": ")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def test_what_runs(machine: Path) -> None:
    variables = ["HOME=/run/home", "LOGNAME=analyst", "PATH=/usr/bin:/bin", 'TEXT=it\'s $HOME "x"']
    start(machine, "fit", "it's $x", "", "two\nlines")
    assert entered(machine) == [
        *variables,
        "USER=analyst",
        "/bin/enter",
        "a b",
        "fit",
        "it's $x",
        "",
        "two\nlines",
    ]
    start(machine)
    assert entered(machine)[5:] == ["/bin/enter", "a b", "python3"]


def test_another_processor_and_kvm(machine: Path) -> None:
    (machine / "run.sh").write_bytes(start_script("arm64", "", {}))
    start(machine, "x", AFENV_VM_ACCELERATOR="kvm", AFENV_VM_MEMORY="512", AFENV_VM_CPUS="3")
    given = dict(pairwise(seen(machine, "words").splitlines()))
    assert (given["-machine"], given["-accel"], given["-cpu"]) == ("virt,gic-version=host", "kvm", "host")
    assert (given["-m"], given["-smp"]) == ("512M", "3")
    assert "console=ttyAMA0" in given["-append"].split()
    assert "qemu=qemu-system-aarch64\n" in (machine / "run.sh").read_text()


@pytest.mark.parametrize(
    ("qemu", "said"), [("no-such-qemu", "there is no no-such-qemu"), ("false", "without having run")]
)
def test_no_machine(machine: Path, qemu: str, said: str) -> None:
    done = start(machine, "x", AFENV_QEMU=qemu)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr


def test_a_signal_ends_the_machine(machine: Path) -> None:
    top = machine.parent
    (top / "qemu").write_text("#!/bin/sh\necho $$ >&2\nexec sleep 600\n")
    with subprocess.Popen(
        ["sh", machine / "run.sh", "x"],
        cwd=top,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(top), "AFENV_QEMU": str(top / "qemu")},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        pid = int(process.stderr.readline())
        process.terminate()
        assert process.wait(60) == 143
        assert process.stderr.read() == ""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [path.name for path in top.iterdir() if path.name.startswith("tmp.")] == []


def test_a_machine_that_ends_early(machine: Path) -> None:
    done = start(machine, "x", told="")
    assert (done.returncode, "started" in done.stderr) == (125, True), done.stderr
