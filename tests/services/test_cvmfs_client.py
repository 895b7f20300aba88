"""CVMFS's own client and shrinkwrap, where installed, on the repositories that the server's tools made."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from afenv.cvmfs.closure import closure
from afenv.cvmfs.configuration import Configuration
from afenv.cvmfs.hashes import parse_hash
from afenv.cvmfs.mounted import attributes, mounted
from afenv.cvmfs.repository import Repository
from afenv.run import shrinkwrap
from afenv.settings import Settings
from afenv.store.content import ContentStore

pytestmark = pytest.mark.cvmfs_server

NAME = "sft.afenv.test"


@pytest.fixture
def stratum(real_cvmfs: Path) -> Iterator[str]:
    """The real repositories over HTTP."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(real_cvmfs))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{NAME}"
    server.shutdown()
    server.server_close()


def test_shrinkwrap_copies_what_the_client_showed(
    stratum: str, cvmfs: Any, tmp_path: Path, store: ContentStore, settings: Settings
) -> None:
    expected = cvmfs.expected(NAME)
    root = expected["xattrs"]["root_hash"]
    key = cvmfs.DATA / f"{NAME}.pub"
    repository = Repository(NAME, Configuration(strata=(stratum,), keys=(key,)), store, settings)
    entries = closure(repository.at(parse_hash(root)), "/many").entries
    source = shrinkwrap.Source(
        repository=NAME, root_hash=root, strata=(stratum,), proxies=("DIRECT",), keys=(key,)
    )
    base = shrinkwrap.shrinkwrap(shrinkwrap.find(), source, entries, tmp_path / "copy", jobs=2)
    files = [path for path, entry in entries.items() if entry.kind == "f"]
    assert len(files) > 250
    for path in files:
        content = (base / path[1:]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == expected["entries"][path[1:]]["sha256"]


def test_attributes_of_a_real_mount(stratum: str, cvmfs: Any, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting by hand needs root")
    config, point = tmp_path / "client.conf", tmp_path / "mounts" / NAME
    point.mkdir(parents=True)
    (tmp_path / "cache").mkdir(mode=0o777)
    config.write_text(
        f"CVMFS_SERVER_URL={stratum}\nCVMFS_HTTP_PROXY=DIRECT\nCVMFS_CACHE_BASE={tmp_path}/cache\n"
        f"CVMFS_PUBLIC_KEY={cvmfs.DATA / (NAME + '.pub')}\nCVMFS_SHARED_CACHE=no\n"
        f"CVMFS_RELOAD_SOCKETS={tmp_path}\n"
    )
    subprocess.run(["cvmfs2", "-o", f"config={config}", NAME, str(point)], check=True, timeout=60)
    try:
        found = mounted(attributes(NAME, tmp_path / "mounts"))
        assert found is not None
        expected = cvmfs.expected(NAME)["xattrs"]
        assert (found.root_hash, str(found.revision)) == (expected["root_hash"], expected["revision"])
    finally:
        subprocess.run(["umount", str(point)], check=True, timeout=60)
