"""A real Slurm cluster of this host alone, for tests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.conftest import tool

SLURM = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def running_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The cluster, with its files in a folder, until the block ends; the variables that its commands need."""
    for command in ("sbatch", "slurmctld", "slurmd", "munged", "apptainer"):
        tool(command)
    if os.getuid() != 0:
        pytest.skip("only root can start slurmd")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    host = socket.gethostname().split(".")[0]
    text = SLURM.format(folder=folder, host=host, ports=ports, cpus=os.cpu_count())
    (folder / "slurm.conf").write_text(text)
    variables = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    names = ("key-file=munge.key", "socket=munge.sock", "pid-file=munge.pid", "log-file=munge.log")
    commands = [
        ["munged", "--foreground", "--force", "--num-threads=1", f"--seed-file={folder}/munge.seed"]
        + [f"--{name.split('=')[0]}={folder}/{name.split('=')[1]}" for name in names],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    processes = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=variables))
            for _ in range(100):
                if command[0] != "munged" or (folder / "munge.sock").exists():
                    break
                time.sleep(0.05)
        for _ in range(200):
            said = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False, env=variables)
            if " idle " in said.stdout:
                break
            time.sleep(0.1)
        else:
            pytest.fail("".join(path.read_text() for path in folder.glob("slurm*.log")) + said.stderr)
        yield variables
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
