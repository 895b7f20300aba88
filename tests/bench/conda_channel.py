"""The channel that the conda cases use: the test channel, and an index as large as the public ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).parents[1] / "channel" / "build.py"
OLDER = 1500  # records that are added for each package of the channel
OTHERS = 1500  # packages that are added, each with VERSIONS
VERSIONS = 30


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1; the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def build_channel(folder: Path) -> Path:
    """Build the test channel."""
    subprocess.run([sys.executable, PROGRAM, folder], check=True)
    return folder


def _older(name: str, record: dict[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    version = f"0.{number // 10}.{number % 10}"
    depends = [text.split()[0] for text in record["depends"]]
    changed = {"version": version, "build_number": number, "depends": depends}
    return name.replace(f"-{record['version']}-", f"-{version}-"), record | changed


def swollen(channel: Path, folder: Path) -> Path:
    """The channel's index with many records more, which no solution takes; without the archives."""
    for subdir in ("linux-64", "noarch"):
        repodata = json.loads((channel / subdir / "repodata.json").read_text())
        records = repodata["packages.conda"]
        for name, record in list(records.items()):
            records.update(_older(name, record, number) for number in range(OLDER))
        sample = next(iter(records.values()))
        for other in range(OTHERS):
            for number in range(VERSIONS):
                version = f"1.{number}"
                name = f"other-{subdir}-{other}"
                extra = {"name": name, "version": version, "depends": ["numpy", "uproot"]}
                records[f"{name}-{version}-{sample['build']}.conda"] = sample | extra
        target = folder / subdir
        target.mkdir(parents=True)
        (target / "repodata.json").write_text(json.dumps(repodata))
        repodata.clear()
    shutil.copytree(channel, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("repodata*"))
    return folder
