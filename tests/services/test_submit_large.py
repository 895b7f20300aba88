"""A large archive is submitted in parts: in bounded memory, through failures in the middle, each part once.

The server is the strict one of the other tests, and keeps digests in the place of contents.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..submit.bags import make_bag
from ..submit.server import TOKEN, InvenioServer, Refused

pytestmark = pytest.mark.services

SIZE = 1_300_000_000  # bytes, of which the server would take no more than 1 GiB in one request
PART = 64 << 20
MEMORY = 80 << 20  # bytes that the command may have; the file has sixteen times that
FAILS, WAITS = 7, 13  # parts
MEASURED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
sys.exit(f"peak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss} status {status}")
"""


class LargeServer(InvenioServer):
    """InvenioRDM that fails at one part as long as ``failing``, and holds another one while ``held``."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = True
        self.reached = threading.Event()
        self.held: threading.Event | None = threading.Event()
        self.sizes: dict[str, int] = {}

    def part(self, request: Any, body: bytes, identifier: str, key: str, number: str) -> tuple[int, Any]:
        if self.failing and int(number) == FAILS:
            raise Refused(503, "Service Unavailable")
        status, entry = super().part(request, body, identifier, key, number)
        self.parts[identifier, key][int(number)] = hashlib.sha256(body).digest()
        self.sizes[number] = len(body)
        if int(number) == WAITS and self.held is not None and not self.failing:
            self.reached.set()
            self.held.wait(120)
            self.held = None
            raise Refused(503, "Service Unavailable")
        return status, entry

    def commit(self, request: Any, body: bytes, identifier: str, key: str) -> tuple[int, Any]:
        status, entry = super().commit(request, body, identifier, key)
        entry["size"] = float(sum(self.sizes.values()))
        return status, entry


@pytest.fixture
def server() -> Iterator[LargeServer]:
    found = LargeServer()
    yield found
    if found.held is not None:
        found.held.set()
    found.close()


def submit(bag: Path, server: LargeServer, *, measured: bool = False) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "afenv",
        "-q",
        "submit",
        str(bag),
        "--to",
        "invenio",
        server.url,
        "--json",
    ]
    return subprocess.Popen(
        [sys.executable, "-c", MEASURED, *command] if measured else command,
        env={**os.environ, "AFENV_SUBMIT_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_large_archive_in_parts(tmp_path: Path, server: LargeServer) -> None:
    bag = make_bag(tmp_path / "bag.zip", zeros=SIZE)
    assert bag.stat().st_size > SIZE
    assert bag.stat().st_blocks * 512 < 64 << 20  # it is sparse
    count = -(-bag.stat().st_size // PART)

    # the server fails at a part, again and again
    process = submit(bag, server)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 4 and "E746" in err, err
    assert set(server.stored) == {f"bag.zip#{number}" for number in range(1, FAILS)}
    (path,) = tmp_path.glob("bag.zip.submission-*.json")
    state = json.loads(path.read_bytes())
    assert state["files"]["bag.zip"]["parts"] == list(range(1, FAILS))
    assert state["files"]["bag.zip"]["part_size"] == PART

    # the command is killed while a part is on its way
    server.failing = False
    process = submit(bag, server)
    assert server.reached.wait(300)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert server.held is not None
    server.held.set()
    assert json.loads(path.read_bytes())["files"]["bag.zip"]["parts"] == list(range(1, WAITS))

    # the third time it is done, and no confirmed part went twice
    process = submit(bag, server, measured=True)
    out, err = process.communicate(timeout=300)
    measured = re.search(r"peak (\d+) status 0$", err.strip())
    assert measured, err
    assert int(measured[1]) * 1024 < MEMORY, f"{measured[1]} KiB"
    done = json.loads(out)
    assert done["step"] == "draft"
    times = {number: server.stored[f"bag.zip#{number}"] for number in range(1, count + 1)}
    assert times == {number: 2 if number == WAITS else 1 for number in range(1, count + 1)}
    (record,) = server.records.values()
    assert record["entries"]["bag.zip"]["size"] == bag.stat().st_size
    with bag.open("rb") as file:
        expected = b"".join(hashlib.sha256(file.read(PART)).digest() for _ in range(count))
    assert server.contents[record["id"], "bag.zip"] == expected
