"""Data: pinning and fetching, against a copy and sha256sum with the storage's own tools."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cases import Bench
from measure import Contender, Sample, compare, run
from projects import AFENV

from afenv.documents.lock import Lock, LockedEnvironment
from afenv.documents.lockfile import write_lock

SIZE = 1_000_000_000
SLOWEST = 1 / 1.3  # of the peers' speed
MEMORY = 300e6  # bytes
MANIFEST = """\
afenv: 1
name: data
environments:
  default:
    base: {{debian: bookworm, packages: [python3]}}
data:
  - {{name: events, uri: "{uri}"}}
"""


@contextlib.contextmanager
def _storage(folder: Path) -> Iterator[int]:
    """A real XRootD server on this machine that speaks HTTP too, with one file; its port."""
    for name in ("data", "admin", "run"):
        (folder / name).mkdir(parents=True)
    with (folder / "data" / "events.root").open("wb") as file:
        for _ in range(SIZE // 10_000_000):
            file.write(os.urandom(10_000_000))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    (folder / "xrootd.cfg").write_text(
        f"xrd.port {port}\nxrd.protocol http:{port} libXrdHttp.so\nxrd.allow host *\nall.export /\n"
        f"oss.localroot {folder}/data\nall.adminpath {folder}/admin\nall.pidpath {folder}/run\n"
        "xrootd.chksum max 2 adler32\n"
    )
    folder.parent.chmod(0o755)
    subprocess.run(["chown", "-R", "nobody", str(folder)], check=True)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            ["xrootd", "-R", "nobody", "-c", str(folder / "xrootd.cfg")],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        time.sleep(2)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def data(bench: Bench) -> None:
    """one file of 1 GB, pinned and fetched, over XRootD and HTTP"""
    with _storage(bench.work / "storage") as port:
        copies = {
            "xrootd": (f"root://127.0.0.1:{port}//events.root", "xrdcp --silent --force {uri} {to}"),
            "http": (f"http://127.0.0.1:{port}/events.root", "curl -sSf -o {to} {uri}"),
        }
        for name, (uri, copy) in copies.items():
            _compare(bench, name, uri, copy)


def _compare(bench: Bench, name: str, uri: str, copy: str) -> None:
    folder, store, target = bench.work / f"data-{name}", bench.work / "data-store", bench.work / "copied"
    folder.mkdir()
    (folder / "afenv.yaml").write_text(MANIFEST.format(uri=uri))
    environment = LockedEnvironment(
        request="sha256:" + "1" * 64, platform="linux/amd64", as_of="2026-01-01T00:00:00Z"
    )
    lock = Lock(name="data", version="0", environments={"default": environment})

    def afenv(*words: str, sample: bool = False) -> Sample:
        command = [AFENV, "-q", "-C", folder, "data", *words]
        return run(command, environment={"AFENV_CACHE_DIR": str(store)}, sample_memory=sample)

    def forget() -> None:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(folder / ".afenv", ignore_errors=True)
        target.unlink(missing_ok=True)

    def unpinned() -> None:
        forget()
        write_lock(folder / "afenv.lock", lock)

    def pinned() -> None:
        unpinned()
        afenv("pin", "--no-keep")

    def peer() -> Sample:
        line = copy.format(uri=uri, to=target) + f" && sha256sum {target}"
        return run(["/bin/sh", "-c", line])

    tools = copy.split()[0] + " + sha256sum"
    for action, prepare in (("pin", unpinned), ("fetch", pinned)):
        outcome = compare(
            f"data {action}, {name}",
            bench.rounds,
            [
                Contender(name=f"afenv data {action}", prepare=prepare, command=lambda a=action: afenv(a)),
                Contender(name=tools, prepare=forget, command=peer),
            ],
        )
        bench.report.outcome(outcome, {tools: SLOWEST})
        prepare()
        peak = afenv(action, sample=True).peak or 0
        bench.report.figure(f"data {action}, {name}: peak memory", peak / 1e6, "MB", most=MEMORY / 1e6)
    forget()


DATA_CASES = {"data": data}
